"""Keys of rows as codes, where some rows have none; and rows put side by side by their keys."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from streamproc.columns import Column, Longs, Texts
from streamproc.process.joins.pool import Mask
from streamproc.process.keys import KeyCodes


def codes_of(column: Column, keys: KeyCodes) -> Longs:
    """int64[n]: the code of each row's key, -1 of those that have none."""
    if isinstance(column, Texts):
        missing = column.sizes < 0
    elif isinstance(column, pl.Series) and column.null_count():
        missing = column.is_null().to_numpy()
    else:
        return keys.codes(column)
    if not missing.any():
        return keys.codes(column)
    codes = np.full(len(column), -1)
    if len(rows := np.flatnonzero(~missing)):
        codes[rows] = keys.codes(column[rows])
    return codes


class ByKey(NamedTuple):
    """Rows in one order, put side by side by their keys; of those of one key the order stays."""

    order: Longs  # int64[n], the rows
    begin: Longs  # int64[n], of each row in this order: where those of its key begin
    ends: Longs  # of each key: where its last row is

    @classmethod
    def of(cls, codes: Longs, count: int) -> ByKey:
        """By the rows' key codes, which are less than ``count``."""
        if not len(codes):
            return cls(codes, codes, codes)
        order = _stable_order(codes, count)
        ordered = codes[order]
        firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        ends = np.append(firsts[1:], len(order)) - 1
        return cls(order, np.repeat(firsts, ends - firsts + 1), ends)

    def latest(self, kind: Mask) -> tuple[Longs, Longs]:
        """``kind`` says which rows are of one. Gives, for each row, the last one of that kind up to and with it that
        has its key, or -1; and the last of each key that has one.
        """
        at = np.where(kind[self.order], np.arange(len(kind)), -1)
        np.maximum.accumulate(at, out=at)
        at[at < self.begin] = -1
        found = np.where(at >= 0, self.order[at], -1)
        latest = np.empty_like(found)
        latest[self.order] = found
        last = found[self.ends]
        return latest, last[last >= 0]


def distinct(codes: Longs, scratch: Longs) -> tuple[Longs, Longs]:
    """Each of the codes once, and the place of each row's among those. ``scratch`` has room for every code."""
    rows = np.arange(len(codes))
    scratch[codes] = rows
    chosen = scratch[codes]  # of each code one row, whichever
    is_chosen = chosen == rows
    return codes[is_chosen], (np.cumsum(is_chosen) - 1)[chosen]


def _stable_order(codes: Longs, count: int) -> Longs:
    """int64[n]: the rows by code; those of one code stay as they come. numpy sorts 16 bits by digits, in linear time:
    small codes once, larger ones by their low digits first.
    """
    if count > 1 << 32:
        return np.argsort(codes, kind="stable")
    low = np.argsort(codes.astype(np.uint16), kind="stable")
    if count <= 1 << 16:
        return low
    return low[np.argsort((codes >> 16).astype(np.uint16)[low], kind="stable")]
