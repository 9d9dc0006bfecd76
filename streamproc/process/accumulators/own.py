"""Classes of one's own: an instance by cell, and what becomes of their errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from streamproc.columns import Column, Longs
from streamproc.define.aggregates import Aggregate
from streamproc.define.own import dumped, loaded
from streamproc.errors import StateError
from streamproc.process.accumulators.inputs import Inputs, null_rows
from streamproc.process.accumulators.parts import Objects
from streamproc.process.measures import Array

_DTYPES: dict[Any, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String, bytes: pl.Binary}
_BROKEN, _WHOLE = b"\0", b"\1"


class Failure(NamedTuple):
    """A row that a class did not take, or a result that it did not give: by row, and what it raised.

    Args:
        name: the aggregate's.
        offset: where an event lies in the log, of which no batch is at hand any more; its row is -1.
    """

    row: int
    name: str
    error: Exception
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.error if isinstance(self.error, AggregateFailed) else _words(self.error)}"


class Broken:
    """Stands for an instance that failed to merge: its result fails with the same words."""

    def __init__(self, words: str) -> None:
        self.words = words


class AggregateFailed(Exception):
    """A class of one's own failed before, and was kept as failed."""


class Own(Objects):
    """Instances of a class. What it raises is noted in ``failures``, and stops nothing else."""

    def __init__(self, name: str, aggregate: Aggregate, type_: Any, nullable: bool) -> None:
        super().__init__()
        assert aggregate.maker is not None
        self._name, self._maker, self._fields = name, aggregate.maker, aggregate.fields
        self._type, self._dtype = (type_ | None if nullable else type_), _DTYPES.get(type_, pl.Object)
        self._by_columns = callable(getattr(aggregate.maker, "add_columns", None))
        self.failures: list[Failure] = []

    def add(self, inputs: Inputs) -> None:
        if self._by_columns:
            columns = [_array(inputs, field) for field in self._fields]
            for cell, rows in inputs.groups():
                self._take(cell, rows.tolist(), "add_columns", [column[rows] for column in columns])
        else:
            values = zip(*(inputs.objects(field) for field in self._fields), strict=True)
            for row, (cell, some) in enumerate(zip(inputs.cells.tolist(), values, strict=True)):
                self._take(cell, (row,), "add", some)

    def _take(self, cell: int, rows: Any, method: str, values: Any) -> None:
        try:
            if (item := self.held[cell]) is None:
                item = self._maker()
            if not isinstance(item, Broken):
                getattr(item, method)(*values)
            self.held[cell] = item
        except Exception as error:
            self.failures += [Failure(row, self._name, error) for row in rows]

    def size_of(self, item: Any) -> int:
        return 500  # nobody knows

    def copy_of(self, item: Any) -> Any:
        if isinstance(item, Broken):
            return item
        try:
            return loaded(self._maker, dumped(item))
        except Exception as error:
            return Broken(_words(error))

    def merge_item(self, item: Any, other: Any) -> Any:
        if isinstance(item, Broken) or isinstance(other, Broken):
            return item if isinstance(item, Broken) else other
        try:
            item.merge(other)
        except Exception as error:
            return Broken(_words(error))
        return item

    def dump(self, item: Any) -> bytes:
        if not isinstance(item, Broken):
            try:
                kept: bytes = dumped(item)
                return _WHOLE + kept
            except Exception as error:
                item = Broken(_words(error))
        return _BROKEN + str(item.words).encode(errors="replace")

    def load(self, data: bytes) -> Any:
        if data[:1] == _WHOLE:
            try:
                return loaded(self._maker, data[1:])
            except Exception as error:
                maker = self._maker.__name__
                raise StateError(f"{self._name}: {maker} does not take back what it dumped: {_words(error)}") from error
        return Broken(data[1:].decode())

    def results(self, cells: Longs) -> tuple[Column, list[Failure]]:
        """A column, null in the rows of the failures."""
        found: list[Any] = []
        failures = []
        for row, cell in enumerate(cells.tolist()):
            try:
                found.append(self._close(self.held[cell]))
            except Exception as error:
                failures.append(Failure(row, self._name, error))
                found.append(None)
        return pl.Series(found, dtype=self._dtype), failures

    def _close(self, item: Any) -> Any:
        if isinstance(item, Broken):
            raise AggregateFailed(item.words)
        value = (self._maker() if item is None else item).close()
        value = msgspec.convert(value.item() if isinstance(value, np.generic) else value, self._type)
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise OverflowError(f"{value} takes more than 64 bits")
        return value


def _array(inputs: Inputs, field: str) -> Array:
    column = inputs.columns[field]
    if null_rows(column) is None:
        found = column if isinstance(column, np.ndarray) else None
        if isinstance(column, pl.Series) and (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            found = column.to_numpy()
        if found is not None:
            return found
    array = np.empty(len(inputs), object)
    array[:] = inputs.objects(field)
    return array


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
