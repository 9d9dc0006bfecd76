"""Columns of plain types as the kernel that writes records takes them, and which rows do not fit their schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.avro.codec import Codec, physical
from streamproc.columns import Column, Longs, Texts

_EXACT = 1 << 53  # up to here every integer is a double
_FLOATS = 2.0**128 - 2.0**103  # what is less rounds to a finite float
_TEXTS = ("string", "bytes", "fixed")

Mask = NDArray[np.bool_]


class Field(NamedTuple):
    """A field of a schema that a kernel can write."""

    name: str
    kind: str  # the Avro type
    size: int  # of a fixed
    null: int  # null's branch; -1 where there is no union


class Plain:
    """Columns in the form that the kernel takes."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.misfit: Mask = np.zeros(rows, np.bool_)
        self.key: tuple[Longs, Longs] = (np.zeros(rows, np.int64), np.full(rows, -1, np.int64))
        self._ops: list[tuple[int, int, int, int]] = []
        self._words: list[Longs] = []
        self._sizes: list[Longs] = []
        self._valid: list[NDArray[np.uint8]] = []
        self._buffers: list[NDArray[np.uint8]] = []
        self._texts: dict[str, tuple[Longs, Longs]] = {}

    def add(self, field: Field, column: Column) -> bool:
        """False where the column's type is not the field's. Rows that do not fit are marked in ``misfit``."""
        return self._add_texts(field, column) if field.kind in _TEXTS else self._add_numbers(field, column)

    def _add_texts(self, field: Field, column: Column) -> bool:
        from streamproc.compiled.writer import KINDS

        texts = _texts(column, binary=field.kind != "string")
        if texts is None:
            return False
        if field.null < 0:
            self.misfit |= texts.sizes < 0
        if field.kind == "fixed":
            self.misfit |= (texts.sizes >= 0) & (texts.sizes != field.size)
        self._texts[field.name] = places = self._place(texts)
        self._ops.append((KINDS[field.kind], len(self._words), len(self._sizes), field.null))
        self._words.append(places[0])
        self._sizes.append(places[1])
        return True

    def _add_numbers(self, field: Field, column: Column) -> bool:
        from streamproc.compiled.writer import KINDS

        found = _numbers(column)
        words = None if found is None else _WORDS[field.kind](found[0], self.misfit)
        if found is None or words is None:
            return False
        there = found[1]
        if there is not None and field.null < 0:
            self.misfit |= ~there
        self._ops.append((KINDS[field.kind], len(self._words), -1 if there is None else len(self._valid), field.null))
        self._words.append(words)
        if there is not None:
            self._valid.append(there.astype(np.uint8))
        return True

    def add_key(self, column: Column, name: str) -> bool:
        """The key is the text of a column that was added."""
        from streamproc.compiled import writer as kernels

        places = self._texts.get(name)
        if places is None:
            found = _numbers(column)
            if found is None or found[1] is not None or found[0].dtype.kind not in "iu":
                return False
            data, starts, sizes = kernels.digits(found[0].astype(np.int64))
            places = self._place(Texts(data, starts, sizes))
        self.key = places
        return not (places[1] < 0).any()  # the key of null is the text "None"

    def text_bytes(self) -> int:
        """How many bytes the texts of one row have at most, its key's among them."""
        sizes = [*self._sizes, self.key[1]] if self.rows else []
        return sum(int(column.max()) for column in sizes if len(column))

    def data(self) -> NDArray[np.uint8]:
        """The buffer of all texts."""
        none = [np.empty(0, np.uint8)]
        data = self._buffers[0] if len(self._buffers) == 1 else np.concatenate(self._buffers or none)
        return np.ascontiguousarray(data)

    def ops(self) -> Longs:
        """How each field is written."""
        return np.array(self._ops, np.int64).reshape(len(self._ops), 4)

    def tables(self, rows: slice) -> tuple[Longs, Longs, NDArray[np.uint8]]:
        """Words, sizes, and what is not null, of some rows."""
        return (
            _matrix([column[rows] for column in self._words], rows, np.int64),
            _matrix([column[rows] for column in self._sizes], rows, np.int64),
            _matrix([column[rows] for column in self._valid], rows, np.uint8),
        )

    def _place(self, texts: Texts) -> tuple[Longs, Longs]:
        """Where texts lie once all buffers are one."""
        before = 0
        for buffer in self._buffers:
            if buffer is texts.data:
                break
            before += len(buffer)
        else:
            self._buffers.append(texts.data)
        starts = texts.starts + before if before else texts.starts
        return np.ascontiguousarray(starts), np.ascontiguousarray(texts.sizes)


def plain_fields(codec: Codec) -> list[Field] | None:
    """A schema's fields, where all are of plain types or unions of one with null."""
    fields = []
    for field in physical(codec.schema)["fields"]:
        kind, null = field["type"], -1
        if isinstance(kind, list):
            if len(kind) != 2 or "null" not in kind:
                return None
            null = kind.index("null")
            kind = kind[1 - null]
        size = 0
        if isinstance(kind, dict):
            kind, size = kind["type"], kind.get("size", 0)
        if kind not in _WORDS and kind not in _TEXTS:
            return None
        fields.append(Field(field["name"], kind, size, null))
    return fields


def _matrix(columns: list[Any], rows: slice, dtype: Any) -> NDArray[Any]:
    return np.stack(columns) if columns else np.empty((0, rows.stop - rows.start), dtype)


def _texts(column: Column, *, binary: bool) -> Texts | None:
    """A column of strings, or of byte strings; None where it is of another type."""
    if isinstance(column, Texts):
        return column if column.binary == binary else None
    if not isinstance(column, pl.Series):
        return None
    if binary:
        if column.dtype != pl.Binary:
            return None
        parts = column.to_list()
        data = b"".join([part for part in parts if part is not None])
        sizes = np.array([-1 if part is None else len(part) for part in parts], np.int64)
    else:
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype != pl.String:
            return None
        data = (column.str.join("").item() or "").encode()
        sizes = column.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy()
    there = np.maximum(sizes, 0)
    return Texts(np.frombuffer(data, np.uint8), np.cumsum(there) - there, sizes, binary=binary)


def _numbers(column: Column) -> tuple[NDArray[Any], Mask | None] | None:
    """A column of numbers or booleans, and which rows are not null (None: all)."""
    if isinstance(column, Texts):
        return None
    if isinstance(column, np.ndarray):
        return (column, None) if column.dtype in _DTYPES and column.ndim == 1 else None
    if not (column.dtype in _SERIES or column.dtype == pl.Boolean):
        return None
    if not column.null_count():
        return column.to_numpy(), None
    blank = False if column.dtype == pl.Boolean else 0
    return column.fill_null(blank).to_numpy(), column.is_not_null().to_numpy()


def _integers(values: NDArray[Any], misfit: Mask, bits: int) -> Longs | None:
    if values.dtype.kind not in "iu":
        return None
    high = (1 << bits - 1) - 1
    if values.dtype.itemsize * 8 + (values.dtype.kind == "u") > bits:
        if int(values.max()) > high:
            misfit |= values > high
        if int(values.min()) < -high - 1:
            misfit |= values < -high - 1
    return values.astype(np.int64, copy=False)


def _doubles(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Integers only where each is exactly a double (of larger ones the codec knows)."""
    if values.dtype.kind in "iu" and (int(values.max()) > _EXACT or int(values.min()) < -_EXACT):
        return None
    with np.errstate(all="ignore"):  # a signalling NaN becomes a quiet one
        return values.astype(np.float64, copy=False) if values.dtype.kind in "iuf" else None


def _double_words(values: NDArray[Any], _: Mask) -> Longs | None:
    found = _doubles(values)
    return None if found is None else np.ascontiguousarray(found).view(np.int64)


def _float_words(values: NDArray[Any], misfit: Mask) -> Longs | None:
    found = _doubles(values)
    if found is None:
        return None
    misfit |= np.isfinite(found) & (np.abs(found) >= _FLOATS)
    with np.errstate(all="ignore"):
        return found.astype(np.float32).view(np.int32).astype(np.int64)


def _boolean_words(values: NDArray[Any], _: Mask) -> Longs | None:
    return values.astype(np.int64) if values.dtype == np.bool_ else None


_WORDS: dict[str, Callable[[NDArray[Any], Mask], Longs | None]] = {
    "int": lambda values, misfit: _integers(values, misfit, 32),
    "long": lambda values, misfit: _integers(values, misfit, 64),
    "double": _double_words,
    "float": _float_words,
    "boolean": _boolean_words,
}
_DTYPES = frozenset(np.dtype(name) for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?"))
_SERIES = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64)
