"""Rows of state: to record bodies of a changelog, and back, the last value of each key.

Source of the records' layout: Kafka's documentation, "Record".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.keys import TextTable, resized
from streamproc.compiled.memory import copy
from streamproc.compiled.records import Found
from streamproc.compiled.texts import gather
from streamproc.compiled.types import Bytes, Longs
from streamproc.compiled.varint import varint, varint_size

_ENVELOPE = 32  # bytes, at most, that a record takes beside its key and value
_SPARE = 1 << 16  # keys of rows that are gone, and bytes that no row has, that are not worth to be thrown out
_OUT = types.int64[::1]
_LOW, _MORE, _U7 = np.uint64(0x7F), np.uint64(0x80), np.uint64(7)


@inlined
def _put(out: Bytes, at: Any, value: Any) -> Any:
    """A number that is not below zero, as a zig-zag varint. Gives the place behind it."""
    left = np.uint64(value << 1)
    while left > _LOW:
        out[at] = np.uint8((left & _LOW) | _MORE)
        left >>= _U7
        at += 1
    out[at] = np.uint8(left)
    return at + 1


@kernel(
    types.int64(
        types.int64, BYTES, LONGS, LONGS, BYTES, LONGS, LONGS, types.int64, types.int64, types.uint8[::1], _OUT
    )
)  # fmt: skip
def _write(
    first: int,
    keys: Bytes,
    key_starts: Longs,
    key_sizes: Longs,
    values: Bytes,
    value_starts: Longs,
    value_sizes: Longs,
    row: int,
    limit: int,
    out: Bytes,
    body: Longs,
) -> int:
    """Adds records to a body from ``row`` on until it is full, and gives the next row. ``body`` has its bytes and
    records.
    """
    at, count = body[0], body[1]
    while row < len(key_starts):
        key, value = key_sizes[row] + 1, value_sizes[row]
        size = 4 + varint_size(count) + varint_size(key) + key + (varint_size(value) + value if value >= 0 else 1) - 1
        if count > 0 and at + varint_size(size) + size > limit:
            break
        at = _put(out, at, size)
        out[at], out[at + 1] = 0, 0  # attributes, and the time since the first record
        at = _put(out, at + 2, count)
        at = _put(out, at, key)
        out[at] = first
        at = copy(keys, key_starts[row], key - 1, out, at + 1)
        if value < 0:
            out[at] = 1  # -1, null
            at += 1
        else:
            at = _put(out, at, value)
            at = copy(values, value_starts[row], value, out, at)
        out[at] = 0  # headers
        at += 1
        count += 1
        row += 1
    body[0], body[1] = at, count
    return row


class Writer:
    """Record bodies of at most ``limit`` bytes, all records of one time; one record may be more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._out = np.empty(0, np.uint8)
        self._body = np.zeros(2, np.int64)

    def write(
        self,
        first: int,
        keys: Bytes,
        key_starts: Longs,
        key_sizes: Longs,
        values: Bytes,
        value_starts: Longs,
        value_sizes: Longs,
    ) -> Iterator[tuple[bytes, int]]:
        """Bodies that got full, with how many records each has.

        Args:
            first: the byte that precedes each key.
            value_sizes: int64[n]; -1 for null.
        """
        if not len(key_starts):
            return
        key_starts, key_sizes, value_starts, value_sizes = _whole(key_starts, key_sizes, value_starts, value_sizes)
        places = (keys, key_starts, key_sizes, values, value_starts, value_sizes)
        sizes = key_sizes + np.maximum(value_sizes, 0) + _ENVELOPE
        room = int(self._body[0]) + min(int(sizes.sum()), self._limit + int(sizes.max()))
        if room > len(self._out):
            self._out = resized(self._out, int(self._body[0]), room)
        row = 0
        while (row := _write(first, *places, row, self._limit, self._out, self._body)) < len(key_starts):
            yield self.end()

    def end(self) -> tuple[bytes, int]:
        """The body that is not full yet."""
        size, count = self._body.tolist()
        self._body[:] = 0
        return self._out[:size].tobytes(), count


def _whole(*columns: Longs) -> list[Longs]:
    return [np.ascontiguousarray(column, np.int64) for column in columns]


class Keys(NamedTuple):
    """Records of a changelog by what their keys are."""

    rows: Longs  # those that are a row's
    starts: Longs  # where their keys begin, behind the first byte
    sizes: Longs
    heads: Longs  # those that are a head
    foreign: int  # the first that is neither, or -1


@kernel(types.int64(BYTES, LONGS, LONGS, types.int64[:, ::1], _OUT))
def _find_keys(data: Bytes, begins: Longs, values: Longs, found: Longs, counts: Longs) -> int:
    end, rows, heads = len(data), 0, 0
    foreign = -1
    for i in range(len(begins)):
        at = begins[i]
        _, at = varint(data, at, end)  # the record's length
        if at >= 0:
            _, at = varint(data, at + 1, end)  # its time
        if at >= 0:
            _, at = varint(data, at, end)  # its offset
        size = np.int64(-1)
        if at >= 0:
            size, at = varint(data, at, end)
        if at < 0 or size < 1 or size > end - at:
            foreign = i
            break
        if data[at] == 1:
            found[0, rows], found[1, rows], found[2, rows] = i, at + 1, size - 1
            rows += 1
        elif data[at] == 0 and size == 1 and values[i] >= 0:
            found[3, heads] = i
            heads += 1
        else:
            foreign = i
            break
    counts[0], counts[1] = rows, heads
    return foreign


def find_keys(data: Bytes, found: Found) -> Keys:
    """The keys of records that were found in ``data``."""
    columns, counts = np.empty((4, len(found.starts)), np.int64), np.zeros(2, np.int64)
    foreign = int(_find_keys(data, found.starts, found.sizes, columns, counts))
    rows, heads = counts.tolist()
    return Keys(columns[0, :rows], columns[1, :rows], columns[2, :rows], columns[3, :heads], foreign)


@kernel(
    types.int64(
        BYTES, LONGS, LONGS, LONGS, types.int64, types.uint8[::1], _OUT, _OUT, _OUT, _OUT
    )
)  # fmt: skip
def _store(
    data: Bytes,
    codes: Longs,
    starts: Longs,
    sizes: Longs,
    row: int,
    arena: Bytes,
    places: Longs,
    rooms: Longs,
    lengths: Longs,
    state: Longs,
) -> int:
    """Stores values from ``row`` on until there is no room, and gives the next row. ``state`` has how much of the arena
    is taken, and how many keys have a value.
    """
    end, live = state[0], state[1]
    while row < len(codes):
        code, size = codes[row], sizes[row]
        if size < 0:
            live -= lengths[code] >= 0
            lengths[code] = -1
        else:
            if size > rooms[code]:
                if size > len(arena) - end:
                    break
                places[code], rooms[code] = end, size
                end += size
            copy(data, starts[row], size, arena, places[code])
            live += lengths[code] < 0
            lengths[code] = size
        row += 1
    state[0], state[1] = end, live
    return row


class RowTable:
    """The last value of each key. Takes memory by the rows that there are, whatever was there before them."""

    def __init__(self) -> None:
        self._keys = TextTable()
        self._arena = np.empty(_SPARE, np.uint8)
        self._places, self._rooms, self._lengths = (np.empty(0, np.int64) for _ in range(3))
        self._state = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self._state[1])

    def put(
        self, keys: Bytes, key_starts: Longs, key_sizes: Longs, values: Bytes, value_starts: Longs, value_sizes: Longs
    ) -> None:
        """Rows, in order: a later value replaces an earlier one, and null (-1) takes the row away."""
        codes = self._keys.codes(keys, *_whole(key_starts, key_sizes))
        starts, sizes = _whole(value_starts, value_sizes)
        self._know(len(self._keys))
        row = 0
        while True:
            columns = (self._arena, self._places, self._rooms, self._lengths, self._state)
            row = _store(values, codes, starts, sizes, row, *columns)
            if row == len(codes):
                break
            self._make_room(int(sizes[row]))
        if len(self._keys) > 2 * len(self) + _SPARE:
            self._forget()

    def rows(self) -> tuple[Bytes, Longs, Longs, Bytes, Longs, Longs]:
        """Buffer, starts and sizes of the keys, and of their values."""
        live = np.flatnonzero(self._lengths[: len(self._keys)] >= 0)
        return self._keys.arena, *self._keys.places(live), self._arena, self._places[live], self._lengths[live]

    def _know(self, count: int) -> None:
        before = len(self._lengths)
        if count > before:
            room = max(count, 2 * before)
            self._places, self._rooms, self._lengths = (
                resized(column, before, room) for column in (self._places, self._rooms, self._lengths)
            )
            self._places[before:], self._rooms[before:], self._lengths[before:] = 0, 0, -1

    def _make_room(self, size: int) -> None:
        """Makes room in the arena: by putting values together that lie apart, if that gives half of it; or more of
        it.
        """
        live = int(np.maximum(self._lengths, 0).sum())
        if 2 * (live + size) <= len(self._arena):
            self._gather(len(self._arena))
        else:
            used = int(self._state[0])
            self._arena = resized(self._arena, used, max(2 * len(self._arena), used + size))

    def _gather(self, room: int) -> None:
        sizes = np.maximum(self._lengths, 0)
        data, ends = gather(self._arena, self._places, sizes)
        self._places, self._rooms, self._state[0] = ends[:-1].copy(), sizes, len(data)
        self._arena = resized(data, len(data), max(room, len(data)))

    def _forget(self) -> None:
        """Throws out the keys that have no value."""
        live = np.flatnonzero(self._lengths[: len(self._keys)] >= 0)
        self._keys.keep(live)
        self._places, self._lengths = self._places[live], self._lengths[live]
        self._gather(_SPARE)
