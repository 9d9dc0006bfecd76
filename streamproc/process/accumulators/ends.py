"""The first and the last value of a field, by event time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from streamproc.columns import Column, Longs, Texts
from streamproc.process.accumulators.inputs import Inputs, as_list, loops_of, null_rows
from streamproc.process.accumulators.parts import Part, Word

_DTYPES = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String, bytes: pl.Binary}


_ENDS = {
    "held": Word(np.int64, 0),
    "time": Word(np.int64, 0),
    "null": Word(np.int64, 1),
    "value": Word(np.int64, 0),
}


class Ends(Part):
    """A field's value at the least event time, the first that came of several; or at the greatest, the last that came.

    What is merged in came later than what is there already, as far as their times are the same. Numbers are words, and
    anything else is an object.
    """

    def __init__(self, field: str, kind: type, latest: bool, compiled: bool) -> None:
        super().__init__(_ENDS)
        self._field, self._kind, self._latest, self._loops = field, kind, latest, loops_of(compiled)
        self.has_blobs = kind in (str, bytes)
        self._objects: list[Any] = []
        self._rows = np.empty(0, np.int64)  # by cell: -1, but while rows are added

    def room(self, cells: int) -> None:
        super().room(cells)
        if self.has_blobs and (more := self.have - len(self._objects)) > 0:
            self._objects += [None] * more
        if len(self._rows) < self.have:
            self._rows = np.full(self.have, -1, np.int64)

    def shrink(self, cells: int) -> None:
        super().shrink(cells)
        del self._objects[cells:]
        self._rows = self._rows[: self.have].copy()

    def clear(self, cells: Longs) -> None:
        super().clear(cells)
        if self.has_blobs:
            for cell in cells.tolist():
                self._objects[cell] = None

    def add(self, inputs: Inputs) -> None:
        touched, rows = self._find(inputs.cells, inputs.times)
        column = inputs.columns[self._field][rows]
        null = null_rows(column)
        self.arrays["null"][touched] = 0 if null is None else null
        if self.has_blobs:
            self._put(touched, as_list(column))
        else:
            self.arrays["value"][touched] = self._words(column)

    def merge(self, into: Longs, other: Ends, cells: Longs) -> None:
        some = np.flatnonzero(other.arrays["held"][cells])
        into, cells = into[some], cells[some]
        touched, rows = self._find(into, other.arrays["time"][cells])
        for name in ("null", "value"):
            self.arrays[name][touched] = other.arrays[name][cells[rows]]
        if self.has_blobs:
            self._put(touched, [other._objects[cell] for cell in cells[rows].tolist()])

    def move(self, cells: Longs, to: Longs) -> None:
        moved = [self._objects[cell] for cell in cells.tolist()] if self.has_blobs else []
        super().move(cells, to)
        if self.has_blobs:
            self._put(cells, [None] * len(cells))
            self._put(to, moved)

    def blobs(self, cells: Longs) -> list[bytes]:
        return [msgspec.msgpack.encode(self._objects[cell]) for cell in cells.tolist()]

    def take_blobs(self, cells: Longs, blobs: Sequence[bytes]) -> None:
        self._put(cells, [msgspec.msgpack.decode(blob) for blob in blobs])

    def values(self, cells: Longs) -> Column:
        if self.has_blobs:
            return pl.Series([self._objects[cell] for cell in cells.tolist()], dtype=_DTYPES[self._kind])
        words, null = self.arrays["value"][cells], self.arrays["null"][cells] != 0
        data = words.view(np.float64) if self._kind is float else words != 0 if self._kind is bool else words
        if not null.any():
            return data if self._kind is not bool else pl.Series(data)
        return pl.Series(data).set(pl.Series(null), None)

    def _find(self, cells: Longs, times: Longs) -> tuple[Longs, Longs]:
        """Cells that get another value, and the row that has it."""
        touched = np.empty(len(cells), np.int64)
        best, held = self.arrays["time"], self.arrays["held"]
        found = touched[: self._loops.outermost(cells, times, int(self._latest), best, held, self._rows, touched)]
        rows = self._rows[found]
        self._rows[found] = -1
        return found, rows

    def _put(self, cells: Longs, values: list[Any]) -> None:
        for cell, value in zip(cells.tolist(), values, strict=True):
            self._objects[cell] = value

    def _words(self, column: Column) -> Longs:
        assert not isinstance(column, Texts)
        if isinstance(column, pl.Series):
            if column.null_count():
                column = column.fill_null(False if self._kind is bool else 0)
            column = column.to_numpy()
        data = np.ascontiguousarray(column, np.float64 if self._kind is float else np.int64)
        return data.view(np.int64)
