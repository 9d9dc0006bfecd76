"""Columns of rows that are kept for a while: new rows come at one end, and old ones go at the other.

A row is an index into arrays with some room to spare. Who owns the rows gives out the indices, and says when all
columns are to move to other arrays. What is given out is never changed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts, values_in
from streamproc.define.fields import Field
from streamproc.errors import StateError
from streamproc.process.keys import DictCodes, KeyCodes
from streamproc.process.measures import Values
from streamproc.process.state import binary, items

LEAST: Final = 64  # rows that there is always room for
Mask = NDArray[np.bool_]

_DTYPES: Final[Mapping[Any, Any]] = {int: np.int64, float: np.float64, bool: np.bool_}
_POLARS: Final[Mapping[Any, Any]] = {str: pl.String, bytes: pl.Binary}
_SIZE: Final = np.dtype("<i4")
_BITS: Final = np.dtype(np.uint8)
_encode = msgspec.msgpack.Encoder().encode


class Packed(NamedTuple):
    """Rows of a column as bytes.

    Args:
        fixed: of numbers the numbers; of all else each value's size, as 32 bits, -1 for null.
        rest: of numbers a bit for each, whether it is there (None: all are); of all else the values, without gaps.
    """

    fixed: bytes
    rest: bytes | None


class KeptColumn(Protocol):
    """One field of rows that are kept."""

    def fit(self, start: int, stop: int, room: int) -> None:
        """Moves rows ``[start, stop)`` to ``[0, stop - start)`` of arrays with room for so many rows."""

    def put(self, at: int, column: Column) -> None:
        """Puts rows at index ``at`` and on, behind all others, where there is room."""

    def take(self, rows: Longs, there: Mask | None) -> Column:
        """The values of rows; null where ``there`` says that there is no row (its index is 0)."""

    def held(self, start: int, stop: int) -> Values | Texts:
        """Rows ``[start, stop)``, in order and without gaps."""

    def unpack(self, packed: Packed, rows: int) -> Column:
        """The column of those. Raises StateError where they are not the bytes of so many rows of it."""


def kept_column(field: Field, compiled: bool) -> KeptColumn:
    """What keeps a field's values."""
    if field.type in _DTYPES:
        return KeptNumbers(_DTYPES[field.type])
    if compiled and field.type in _POLARS:
        return KeptTexts(is_binary=field.type is bytes)
    return KeptObjects(field.type)


class KeptNumbers:
    """Ints, floats or bools; from the first null on, with what is there beside them."""

    def __init__(self, dtype: Any) -> None:
        self._data = np.zeros(LEAST, dtype)
        self._valid: Mask | None = None

    def fit(self, start: int, stop: int, room: int) -> None:
        self._data = moved(self._data, start, stop, room)
        if self._valid is not None:
            self._valid = None if self._valid[start:stop].all() else moved(self._valid, start, stop, room)

    def put(self, at: int, column: Column) -> None:
        stop = at + len(column)
        self._data[at:stop], valid = _numbers(column)
        if valid is not None and self._valid is None:
            self._valid = np.ones(len(self._data), np.bool_)
        if self._valid is not None:
            self._valid[at:stop] = True if valid is None else valid

    def take(self, rows: Longs, there: Mask | None) -> Column:
        data = self._data[rows]
        if self._valid is not None:
            valid = self._valid[rows]
            there = valid if there is None else there & valid
        return data if there is None else nullable(data, there)

    def held(self, start: int, stop: int) -> Values:
        return Values(self._data[start:stop], None if self._valid is None else self._valid[start:stop])

    def unpack(self, packed: Packed, rows: int) -> Column:
        data = read_array(packed.fixed, _little(self._data.dtype), rows)
        if packed.rest is None:
            return data
        bits = read_array(packed.rest, _BITS, -(-rows // 8))
        return nullable(data, np.unpackbits(bits, count=rows).view(np.bool_))


class KeptTexts:
    """Strings or byte strings, one behind the other in a buffer of its own. Needs kernels."""

    def __init__(self, *, is_binary: bool) -> None:
        self._binary = is_binary
        self._starts, self._sizes = np.zeros(LEAST, np.int64), np.zeros(LEAST, np.int64)
        self._data, self._used = np.empty(16 * LEAST, np.uint8), 0

    def fit(self, start: int, stop: int, room: int) -> None:
        low = int(self._starts[start]) if stop > start else self._used
        self._starts, self._sizes = (moved(array, start, stop, room) for array in (self._starts, self._sizes))
        self._starts[: stop - start] -= low
        self._make_room(low, 0)

    def _make_room(self, low: int, more: int) -> None:
        used = self._used - low
        self._data = moved(self._data, low, self._used, max(2 * (used + more), 16 * LEAST))
        self._used = used

    def put(self, at: int, column: Column) -> None:
        texts = compact(_texts(column, is_binary=self._binary))
        if self._used + len(texts.data) > len(self._data):
            self._make_room(0, len(texts.data))
        stop, end = at + len(texts), self._used + len(texts.data)
        self._data[self._used : end] = texts.data
        self._starts[at:stop], self._sizes[at:stop] = texts.starts + self._used, texts.sizes
        self._used = end

    def take(self, rows: Longs, there: Mask | None) -> Column:
        from streamproc.compiled.interval import pick

        rows = rows if there is None else np.where(there, rows, -1)
        return Texts(*pick(self._data, self._starts, self._sizes, rows), binary=self._binary)

    def held(self, start: int, stop: int) -> Texts:
        return Texts(self._data, self._starts[start:stop], self._sizes[start:stop], binary=True)

    def unpack(self, packed: Packed, rows: int) -> Column:
        texts = read_texts(packed, rows)
        return Texts(texts.data, texts.starts, texts.sizes, binary=self._binary)


class KeptObjects:
    """Values of any type that msgpack brings back, as Python objects; and all that are no numbers, without kernels."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._polars = _POLARS.get(kind, pl.Object)
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._data = np.empty(LEAST, np.object_)

    def fit(self, start: int, stop: int, room: int) -> None:
        self._data = moved(self._data, start, stop, room)

    def put(self, at: int, column: Column) -> None:
        for i, value in enumerate(values_in(column), at):  # not all at once: numpy would take lists apart
            self._data[i] = value

    def take(self, rows: Longs, there: Mask | None) -> Column:
        found = self._data[rows]
        if there is not None:
            found[~there] = None
        return pl.Series(found.tolist(), dtype=self._polars)

    def held(self, start: int, stop: int) -> Texts:
        values = self._data[start:stop].tolist()
        if self._kind is str:
            return _nullable_binary([None if value is None else value.encode() for value in values])
        if self._kind is bytes:
            return _nullable_binary(values)
        return _nullable_binary([None if value is None else _encode(value) for value in values])

    def unpack(self, packed: Packed, rows: int) -> Column:
        texts = read_texts(packed, rows)
        parts = items(Texts(texts.data, texts.starts, np.maximum(texts.sizes, 0)))
        decode: Callable[[bytes], Any] = self._decoder.decode
        if self._kind in _POLARS:
            decode = bytes if self._kind is bytes else bytes.decode
        try:
            values = [
                None if size < 0 else decode(part) for part, size in zip(parts, texts.sizes.tolist(), strict=True)
            ]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateError(f"a row of state: expected a value of {self._kind}: {error}") from None
        return pl.Series(values, dtype=self._polars)


def moved(array: NDArray[Any], start: int, stop: int, room: int) -> NDArray[Any]:
    """A new array of ``room``, zero or None but for its begin: rows ``[start, stop)`` of this one."""
    out = np.zeros(room, array.dtype) if array.dtype != np.object_ else np.empty(room, np.object_)
    out[: stop - start] = array[start:stop]
    return out


def nullable(data: NDArray[Any], there: Mask) -> pl.Series:
    """Numbers, with null where there is none."""
    series = pl.Series(data)
    return series if there.all() else series.zip_with(pl.Series(there), pl.Series([None], dtype=series.dtype))


def some_keys(known: KeyCodes, codes: Longs, kind: type) -> Column:
    """The keys of these codes; strings one behind the other. Costs what they are, and not how many keys there are."""
    if isinstance(known, DictCodes):
        keys = known.keys
        return pl.Series([keys[code] for code in codes.tolist()], dtype=pl.Int64 if kind is int else pl.String)
    column = known.column(codes)
    return compact(column) if isinstance(column, Texts) else column


def compact(texts: Texts) -> Texts:
    """The same strings one behind the other, in a buffer that has no others. Needs kernels."""
    from streamproc.compiled.interval import pick

    starts, sizes = np.ascontiguousarray(texts.starts), np.ascontiguousarray(texts.sizes)
    return Texts(*pick(texts.data, starts, sizes, np.arange(len(texts))), binary=texts.binary)


# Rows as bytes.


def row_sizes(held: Values | Texts) -> Longs | int:
    """How many bytes each row takes."""
    return held.data.itemsize if isinstance(held, Values) else np.maximum(held.sizes, 0) + _SIZE.itemsize


def pack(held: Values | Texts, rows: slice) -> Packed:
    """Rows of what is without gaps."""
    if isinstance(held, Values):
        data, valid = held.part(rows)
        bits = None if valid is None or valid.all() else np.packbits(valid).tobytes()
        return Packed(data.astype(_little(data.dtype), copy=False).tobytes(), bits)
    texts = held[rows]
    start = int(texts.starts[0]) if len(texts) else 0
    end = start + int(np.maximum(texts.sizes, 0).sum())
    return Packed(texts.sizes.astype(_SIZE).tobytes(), texts.data[start:end].tobytes())


def read_array(data: bytes, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    """Raises StateError where these are not the bytes of so many."""
    if len(data) != rows * dtype.itemsize:
        raise StateError(f"rows of state: expected {rows} of {dtype.itemsize} bytes; got {len(data)} bytes")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)


def read_texts(packed: Packed, rows: int) -> Texts:
    """Byte strings of a column that are not numbers. Raises StateError where they are not so many."""
    sizes = read_array(packed.fixed, _SIZE, rows).astype(np.int64)
    there = np.maximum(sizes, 0)
    data = np.frombuffer(packed.rest or b"", np.uint8)
    if int(there.sum()) != len(data):
        raise StateError(f"rows of state: expected {int(there.sum())} bytes of values; got {len(data)}")
    return Texts(data, np.cumsum(there) - there, sizes, binary=True)


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def _nullable_binary(values: Sequence[bytes | None]) -> Texts:
    texts = binary([value or b"" for value in values])
    texts.sizes[[value is None for value in values]] = -1
    return texts


def _numbers(column: Column) -> tuple[NDArray[Any], Mask | None]:
    """A column's numbers or bools, and which are not null (None: all)."""
    if isinstance(column, Texts):
        raise TypeError("expected a column of numbers; got one of strings")
    if isinstance(column, np.ndarray):
        return column, None
    if not column.null_count():
        return column.to_numpy(), None
    blank = False if column.dtype == pl.Boolean else 0
    return column.fill_null(blank).to_numpy(), column.is_not_null().to_numpy()


def _texts(column: Column, *, is_binary: bool) -> Texts:
    """A column's strings or byte strings as places in one buffer."""
    if isinstance(column, Texts):
        return column
    if not isinstance(column, pl.Series):
        raise TypeError(f"expected a column of {'byte ' * is_binary}strings; got an array of {column.dtype}")
    if is_binary:
        return _nullable_binary(column.to_list())
    data = (column.str.join("").item() or "").encode()
    found = column.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy()
    there = np.maximum(found, 0)
    return Texts(np.frombuffer(data, np.uint8), np.cumsum(there) - there, found)
