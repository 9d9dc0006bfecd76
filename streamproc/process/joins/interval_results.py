"""Results of an interval join, made of rows that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from streamproc.columns import Column, Columns, Longs, Texts, values_in
from streamproc.define.operators import Interval
from streamproc.define.pipeline import Pipeline
from streamproc.process.engine import joined_columns
from streamproc.process.events import Events
from streamproc.process.joins.interval_columns import Mask, nullable, some_keys
from streamproc.process.joins.interval_matches import Pairs
from streamproc.process.joins.interval_side import Side
from streamproc.process.keys import KeyCodes

_LEAST: Final = np.iinfo(np.int64).min


class Results:
    """What rows of two sides make together: the left's fields, then the right's without its key.

    Args:
        codes: of both sides' keys.
        kind: the keys' type.
    """

    def __init__(self, definition: Pipeline, sides: tuple[Side, Side], codes: KeyCodes, kind: type) -> None:
        operator = definition.operator
        assert isinstance(operator, Interval)
        left, right = definition.inputs
        self._sides, self._codes, self._kind = sides, codes, kind
        self._key, self._left = left.key, list(left.fields)
        #: What the right's are called in results.
        self._right = {
            name: name + operator.suffix if name in left.fields else name for name in right.fields if name != right.key
        }

    def of(self, rows: Pairs) -> Events:
        """Of pairs, and of rows that are alone: -1 stands for the other one."""
        left, right = (_Picked.of(side, numbers) for side, numbers in zip(self._sides, rows, strict=True))
        codes, times, stamps = (np.maximum(*words) for words in zip(left.words, right.words, strict=True))
        columns: dict[str, Column] = {}
        for name in self._left:
            columns[name] = self._keys(codes) if name == self._key else left.column(name)
        for name, renamed in self._right.items():
            columns[renamed] = right.column(name)
        return Events(Columns(columns, len(codes)), times, stamps)

    def _keys(self, codes: Longs) -> Column:
        there = codes >= 0
        if there.all():
            return some_keys(self._codes, codes, self._kind)
        if not there.any():
            return pl.Series([None] * len(codes), dtype=pl.String if self._kind is str else pl.Int64)
        column = some_keys(self._codes, np.where(there, codes, codes.max()), self._kind)
        if isinstance(column, Texts):
            return Texts(column.data, column.starts, np.where(there, column.sizes, -1))
        return nullable(column, there) if isinstance(column, np.ndarray) else column.set(pl.Series(~there), None)


class _Picked:
    """Rows of a side that results are made of.

    Attributes:
        words: codes, times and stamps; the least number of all where there is no row.
    """

    def __init__(self, side: Side, rows: Longs, there: Mask | None) -> None:
        self._columns, self._rows, self._there = side.columns, rows, there
        words = side.codes[rows], side.times[rows], side.stamps[rows]
        self.words = words if there is None else tuple(np.where(there, column, _LEAST) for column in words)

    @classmethod
    def of(cls, side: Side, numbers: Longs) -> _Picked:
        there = numbers >= 0
        if there.all():
            return cls(side, numbers - side.origin, None)
        return cls(side, np.where(there, numbers - side.origin, 0), there)

    def column(self, name: str) -> Column:
        return self._columns[name].take(self._rows, self._there)


def joined_events(parts: Sequence[Events]) -> Events:
    """One behind the other, of the same columns."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
    times = np.concatenate([part.times for part in parts])
    return Events(Columns(columns, len(times)), times, np.concatenate([part.stamps for part in parts]))


def _joined(columns: Sequence[Column]) -> Column:
    if isinstance(columns[0], pl.Series) and columns[0].dtype == pl.Object:
        return pl.Series([value for column in columns for value in values_in(column)], dtype=pl.Object)
    return joined_columns(columns)
