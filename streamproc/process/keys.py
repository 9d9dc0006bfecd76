"""Keys as small integers, so that state can live in arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from streamproc.columns import Longs

_FEW = 32  # below this many rows a dictionary beats any columnar way


class KeyCodes:
    """Gives each key of a partition a code: 0, 1, 2 … in order of first appearance. Keys are strings or ints."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._column: pl.Series | None = None  # made when asked for; None when keys have changed since
        self._ascending: Longs | None = None
        self.keys: list[Any] = []

    def __len__(self) -> int:
        return len(self.keys)

    def codes(self, column: pl.Series) -> Longs:
        """int64[n]: the code of each row's key; new keys get new codes."""
        if len(column) < _FEW:
            return np.array([self._code(key) for key in column], np.int64)
        local, firsts = _local_codes(column)
        table = np.array([self._code(key) for key in column.gather(firsts)], np.int64)
        return table[local]

    def column(self) -> pl.Series:
        """All keys, by code."""
        if self._column is None:
            self._column = pl.Series("key", self.keys)
        return self._column

    def ascending(self) -> Longs:
        """All codes, in the order of their keys."""
        if self._ascending is None:
            self._ascending = self.column().arg_sort().to_numpy().astype(np.int64)
        return self._ascending

    def keep(self, live: Longs) -> None:
        """Forgets all keys but those of these codes, which become 0, 1, 2 … in the order given."""
        self.keys = [self.keys[code] for code in live.tolist()]
        self._codes = {key: code for code, key in enumerate(self.keys)}
        self._column = self._ascending = None

    def _code(self, key: Any) -> int:
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(self.keys)
            self.keys.append(key)
            self._column = self._ascending = None
        return code


def _local_codes(column: pl.Series) -> tuple[Longs, Longs]:
    """Codes within one column, and the row where each code stands first, in order of first appearance."""
    if column.dtype == pl.String:
        # A private set of categories: polars forgets a shared one when no Series uses it, and would start its codes
        # anew.
        physical = column.cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy().astype(np.int64)
        first = np.empty(int(physical.max()) + 1, np.int64)
        first[physical[::-1]] = np.arange(len(physical) - 1, -1, -1, dtype=np.int64)
        if len(first) == 1 or (np.diff(first) > 0).all():
            return physical, first
        local = physical
    else:
        _, first, local = np.unique(column.to_numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[local].astype(np.int64), first[order].astype(np.int64)
