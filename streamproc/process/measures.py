"""Measures: what is kept per pane and key, so that every aggregate of a window can be computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import Field

Array = NDArray[Any]
Op = Literal["n", "sum", "high", "min", "max"]


class Measure(NamedTuple):
    """The count, sum, least or greatest of a field's values. ``n`` without a field counts rows.

    A sum of ints wraps at 64 bits; ``high`` is the sum of the values' high halves (rounded, so that it is 0 for values
    of 32 bits), from which it is known by how much: see ``results``.
    """

    op: Op
    field: str | None
    dtype: type[np.int64] | type[np.float64]

    @property
    def identity(self) -> Any:
        """The value that changes no other."""
        if self.op not in ("min", "max"):
            return self.dtype(0)
        if self.dtype is np.int64:
            limits = np.iinfo(np.int64)
            return self.dtype(limits.max if self.op == "min" else limits.min)
        return np.float64(np.inf if self.op == "min" else -np.inf)

    @property
    def ufunc(self) -> np.ufunc:
        """Makes one value of two."""
        found: np.ufunc = {"min": np.minimum, "max": np.maximum}.get(self.op, np.add)
        return found


ROWS = Measure("n", None, np.int64)


class Values(NamedTuple):
    """One field's values: ``data[n]``, and where they are not null (None when everywhere)."""

    data: Array
    valid: NDArray[np.bool_] | None

    def part(self, rows: slice) -> Values:
        """Those of some rows."""
        return Values(self.data[rows], None if self.valid is None else self.valid[rows])


def quiet() -> np.errstate:
    """NaN, infinity and what comes of them are values like any other."""
    return np.errstate(invalid="ignore", over="ignore")


#: Kinds of aggregates that measures are enough for.
SIMPLE = frozenset({"count", "sum", "mean", "min", "max", "range", "rate"})


def measures_of(definition: Aggregation) -> list[Measure]:
    """What must be kept to give the simple aggregates, beside the count of rows; each thing once."""
    return measures_for(definition.aggregates.values(), definition.fields)


def measures_for(aggregates: Iterable[Aggregate], known: Mapping[str, Field]) -> list[Measure]:
    """The same, of some aggregates of these fields."""
    wanted: dict[Measure, None] = {}
    for aggregate in aggregates:
        if aggregate.kind not in SIMPLE or aggregate.field is None:
            continue
        name, field = aggregate.field, known[aggregate.field]
        dtype = np.int64 if field.type is int else np.float64
        if aggregate.kind in ("min", "max"):
            wanted[Measure(aggregate.kind, name, dtype)] = None
        elif aggregate.kind == "range":
            wanted[Measure("min", name, dtype)] = wanted[Measure("max", name, dtype)] = None
        else:
            wanted[Measure("sum", name, dtype)] = None
            if dtype is np.int64:
                wanted[Measure("high", name, dtype)] = None
        if field.nullable:
            wanted[Measure("n", name, np.int64)] = None
    return list(wanted)


def values_of(column: Column, dtype: Any) -> Values:
    """A number column's values."""
    if isinstance(column, Texts):
        raise TypeError("expected a column of numbers; got one of strings")
    valid = None
    if isinstance(column, pl.Series):
        if column.null_count():
            valid, column = column.is_not_null().to_numpy(), column.fill_null(0)
        column = column.to_numpy()
    return Values(np.ascontiguousarray(column, dtype), valid)


def high_halves(data: Longs) -> Longs:
    """By how many times 2^32 each value is off zero, rounded."""
    return (data >> 32) + ((data >> 31) & 1)
