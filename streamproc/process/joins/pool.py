"""Rows of two origins as one column each, of which results are picked by index; -1 picks null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts, values_in

Mask = NDArray[np.bool_]
NUMBERS: Final[Mapping[Any, np.dtype[Any]]] = {
    int: np.dtype(np.int64),
    float: np.dtype(np.float64),
    bool: np.dtype(np.bool_),
}
TEXTS: Final[Mapping[Any, Any]] = {str: pl.String, bytes: pl.Binary}
_POLARS: Mapping[Any, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, **TEXTS}
_FEW = 32  # values, up to which a list of them makes a Series sooner than operations on Series do


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers, and which of them are not null (None: all)."""

    data: NDArray[Any]
    valid: Mask | None = None


#: A column to pick from; a list has values of any other type.
Source = Numbers | Texts | pl.Series | list[Any]


def numbers_of(column: Column, dtype: np.dtype[Any]) -> Numbers:
    """A column of numbers or booleans as an array."""
    if isinstance(column, Texts):
        raise TypeError("expected a column of numbers; got one of strings")
    valid = None
    if isinstance(column, pl.Series):
        if column.null_count():
            valid = column.is_not_null().to_numpy()
            column = column.fill_null(False if column.dtype == pl.Boolean else 0)
        column = column.to_numpy()
    return Numbers(column.astype(dtype, copy=False), valid)


def joined_numbers(first: Numbers, second: Numbers) -> Numbers:
    """One behind the other."""
    if not len(first.data) or not len(second.data):
        return second if len(second.data) else first
    data = np.concatenate((first.data, second.data))
    if first.valid is None and second.valid is None:
        return Numbers(data)
    return Numbers(
        data, np.concatenate([np.ones(len(n.data), np.bool_) if n.valid is None else n.valid for n in (first, second)])
    )


def joined_texts(known: Sequence[Any], column: Column | None, kind: type, compiled: bool) -> Texts | pl.Series:
    """Strings, or byte strings, that are at hand as Python values, and a column of such behind them: as Texts where
    there are kernels, which need no other form; else as a Series.
    """
    if not compiled:
        series = pl.Series(known, dtype=TEXTS[kind])
        return series if column is None else pl.concat([series, _series(column)])
    if column is None:
        return _texts(known, kind)
    second = column if isinstance(column, Texts) else _texts(values_in(column), kind)
    if not known:
        return second
    from streamproc.compiled.texts import gather  # as the kernels are there

    first = _texts(known, kind)
    data, ends = gather(second.data, np.ascontiguousarray(second.starts), np.ascontiguousarray(second.sizes))
    starts = np.concatenate((first.starts, ends[:-1] + len(first.data)))
    sizes = np.concatenate((first.sizes, second.sizes))
    return Texts(np.concatenate((first.data, data)), starts, sizes, binary=kind is bytes)


def pick(source: Source, kind: Any, index: Longs, there: Mask | None) -> Column:
    """The values of these indices. ``there`` says which indices are not -1; None: all. ``kind`` is the values' type."""
    if isinstance(source, list):
        return pl.Series([source[i] if i >= 0 else None for i in index.tolist()], dtype=pl.Object)
    if not len(source.data if isinstance(source, Numbers) else source):
        return nulls(kind, len(index))
    if isinstance(source, Numbers):
        return _pick_numbers(source, kind, index, there)
    if there is None:
        return source[index]
    if isinstance(source, Texts):
        sizes = np.where(there, source.sizes[index], -1)
        return Texts(source.data, source.starts[index], sizes, binary=source.binary)
    if len(index) <= _FEW:
        values = source.to_list()
        return pl.Series([values[i] if i >= 0 else None for i in index.tolist()], dtype=source.dtype)
    return source.gather(pl.Series(index).set(pl.Series(~there), None))


def _pick_numbers(source: Numbers, kind: Any, index: Longs, there: Mask | None) -> Column:
    data, valid = source.data[index], there
    if source.valid is not None:
        valid = source.valid[index] if there is None else source.valid[index] & there
    if valid is None or valid.all():
        return data
    if len(index) <= _FEW:
        values = [value if known else None for value, known in zip(data.tolist(), valid.tolist(), strict=True)]
        return pl.Series(values, dtype=_POLARS[kind])
    return pl.Series(data).set(pl.Series(~valid), None)


def nulls(kind: Any, count: int) -> pl.Series:
    """So many nulls, in a column of values of this type."""
    dtype = _POLARS.get(kind, pl.Object)
    if count <= _FEW or dtype == pl.Object:
        return pl.Series([None] * count, dtype=dtype)
    return pl.Series([None], dtype=dtype).new_from_index(0, count)


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Values of any type as an array."""
    found = np.empty(len(values), np.object_)
    for i, value in enumerate(values):  # not all at once: numpy would take lists apart
        found[i] = value
    return found


def _series(column: Column) -> pl.Series:
    return column.series() if isinstance(column, Texts) else pl.Series(column)


def _texts(values: Sequence[Any], kind: type) -> Texts:
    encoded = values if kind is bytes else [None if value is None else value.encode() for value in values]
    sizes = np.array([-1 if value is None else len(value) for value in encoded], np.int64)
    data = np.frombuffer(b"".join([value for value in encoded if value is not None]), np.uint8)
    lengths = np.maximum(sizes, 0)
    return Texts(data, lengths.cumsum() - lengths, sizes, binary=kind is bytes)
