"""Rows on their way into cells: the columns in each form that a part wants them in, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts
from streamproc.compiled import loops
from streamproc.process.accumulators import hashes
from streamproc.process.keys import key_codes
from streamproc.process.measures import Array, Values, values_of

T = TypeVar("T")


class Coded(NamedTuple):
    """A field's values that are not null: their rows, a small integer each, and what those stand for."""

    rows: Longs
    codes: Longs
    values: list[Any]


class Pairs(NamedTuple):
    """Each value that came to each cell, in order of first coming: cell, code and how often."""

    cells: list[int]
    codes: list[int]
    counts: list[int]


class Inputs:
    """Row ``i`` goes into cell ``cells[i]`` at event time ``times[i]``."""

    def __init__(self, cells: Longs, times: Longs, columns: Mapping[str, Column], compiled: bool) -> None:
        self.cells, self.times, self.columns = cells, times, columns
        self._compiled = compiled
        self._made: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.cells)

    def numbers(self, field: str, dtype: type[np.int64] | type[np.float64]) -> tuple[Longs, Array]:
        """A number field's values that are not null, and the cells that they go into."""
        data, valid = self.values(field, dtype)
        return (self.cells, data) if valid is None else (self.cells[valid], data[valid])

    def values(self, field: str, dtype: type[np.int64] | type[np.float64]) -> Values:
        return self._once((field, dtype), lambda: values_of(self.columns[field], dtype))

    def hashed(self, field: str) -> tuple[Longs, NDArray[np.uint64]]:
        """Hashes of a field's values that are not null, and the cells that they go into."""
        hashed, valid = self._once((field, "hash"), lambda: hashes.of(self.columns[field], self._compiled))
        return (self.cells, hashed) if valid is None else (self.cells[valid], hashed[valid])

    def objects(self, field: str) -> list[Any]:
        """A field's values as Python's own."""
        return self._once((field, "objects"), lambda: as_list(self.columns[field]))

    def coded(self, field: str) -> Coded:
        return self._once((field, "codes"), lambda: _coded(self.columns[field], self._compiled))

    def pairs(self, field: str) -> Pairs:
        return self._once((field, "pairs"), lambda: self._pairs(self.coded(field)))

    def groups(self) -> Iterator[tuple[int, Longs]]:
        """Each cell that rows go into, and those rows."""
        yield from self._once("groups", lambda: list(grouped(self.cells)))

    def _pairs(self, coded: Coded) -> Pairs:
        if not len(coded.rows):
            return Pairs([], [], [])
        distinct = max(1, len(coded.values))
        both = self.cells[coded.rows] * distinct + coded.codes
        table = key_codes(int, self._compiled)
        codes = table.codes(both)
        found = np.asarray(table.column(np.arange(len(table))), np.int64)
        cells, of = np.divmod(found, distinct)
        return Pairs(cells.tolist(), of.tolist(), np.bincount(codes, minlength=len(table)).tolist())

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found


def grouped(numbers: Longs) -> Iterator[tuple[int, Longs]]:
    """Each number, ascending, and the indices at which it stands."""
    if not len(numbers):
        return
    small = int(numbers.min()) >= 0 and int(numbers.max()) < 1 << 16  # then numpy sorts by digits
    order = np.argsort(numbers.astype(np.uint16) if small else numbers, kind="stable")
    there = numbers[order]
    starts = np.flatnonzero(np.concatenate([[True], there[1:] != there[:-1]]))
    for number, start, stop in zip(
        there[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True
    ):
        yield number, order[start:stop]


def as_list(column: Column) -> list[Any]:
    """A column's values as Python's own."""
    if isinstance(column, Texts):
        return column.values()
    found: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column.to_list()
    return found


def null_rows(column: Column) -> NDArray[np.bool_] | None:
    """Which rows are null; None where none is."""
    if isinstance(column, Texts):
        null = column.sizes < 0
        return null if null.any() else None
    if isinstance(column, pl.Series) and column.null_count():
        return column.is_null().to_numpy()
    return None


def _coded(column: Column, compiled: bool) -> Coded:
    null = null_rows(column)
    rows = np.arange(len(column)) if null is None else np.flatnonzero(~null)
    if null is not None:
        column = column[rows]
    if not len(rows):
        return Coded(rows, np.empty(0, np.int64), [])
    texts = isinstance(column, Texts) or (isinstance(column, pl.Series) and column.dtype == pl.String)
    table = key_codes(str if texts else int, compiled)
    codes = table.codes(column)
    return Coded(rows, codes, as_list(table.column(np.arange(len(table)))))


class _PlainLoops:
    """The loops as they are, on memoryviews: those give Python's numbers, and need no arrays of one value."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        loop = getattr(loops, name)

        def run(*args: Any) -> Any:
            return loop(*(arg.data if isinstance(arg, np.ndarray) else arg for arg in args))

        setattr(self, name, run)
        return run


_PLAIN = _PlainLoops()


def loops_of(compiled: bool) -> Any:
    """The loops of :mod:`streamproc.compiled.loops`, compiled or not."""
    if not compiled:
        return _PLAIN
    from streamproc.compiled import accumulate

    return accumulate
