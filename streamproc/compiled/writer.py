"""Kafka record bodies (message format v2) written from columns, and bodies joined to one.

A record is ``length, attributes, timestamp delta, offset delta, key, value, header count``, its value framed Avro.
Source: Kafka's documentation, "Record"; Avro 1.12, "Binary encoding".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.memory import bits, copy, move, store
from streamproc.compiled.types import Bytes, Longs
from streamproc.compiled.varint import varint_size

#: Kinds of fields. The row of a field in the op table: kind, index in ``words``, index in ``sizes`` or ``valid`` (-1:
#: never null), branch of null (-1: no union).
LONG, DOUBLE, FLOAT, BOOLEAN, TEXT, FIXED = range(6)
#: By Avro type.
KINDS = {
    "int": LONG, "long": LONG, "double": DOUBLE, "float": FLOAT, "boolean": BOOLEAN,
    "string": TEXT, "bytes": TEXT, "fixed": FIXED,
}  # fmt: skip
#: What a record takes at most beside its key and fields: varints (four of 32 bits, one of 64), attributes, headers,
#: frame.
ENVELOPE = 4 * 5 + 10 + 1 + 1 + 5
#: What a field takes at most, with its union's branch and beside its text, whatever its kind.
FIELD = 11
#: A batch in the table of what was written: place in ``ends``, start, end, records, first and highest timestamp.
BATCH = 6

_LONGS2 = types.Array(types.int64, 2, "C", readonly=True)
_BYTES2 = types.Array(types.uint8, 2, "C", readonly=True)
_OUT = types.uint8[::1]
_U1, _U7, _LOW, _MORE = np.uint64(1), np.uint64(7), np.uint64(0x7F), np.uint64(0x80)
_STOPS = np.uint64(0x8080808080808080)
_A0, _A1 = np.uint64(0x000000000FFFFFFF), np.uint64(0x00FFFFFFF0000000)
_B0, _B1 = np.uint64(0x00003FFF00003FFF), np.uint64(0x0FFFC0000FFFC000)
_C0, _C1 = np.uint64(0x007F007F007F007F), np.uint64(0x3F803F803F803F80)
_NO_TAIL, _NO_IDS = np.empty(0, np.uint8), np.empty((3, 0), np.int64)
_M, _SEED, _SIGN = np.uint32(0x5BD1E995), np.uint32(0x9747B28C), np.uint32(0x7FFFFFFF)


@inlined
def _put_exactly(out: Bytes, at: Any, value: Any) -> Any:
    """A zig-zag varint, before what is there already."""
    left = np.uint64((value << 1) ^ (value >> 63))
    while left > _LOW:
        out[at] = np.uint8((left & _LOW) | _MORE)
        left >>= _U7
        at += 1
    out[at] = np.uint8(left)
    return at + 1


@inlined
def _put(out: Bytes, at: Any, value: Any) -> Any:
    """A zig-zag varint. Writes up to seven bytes more behind it, which come next anyway."""
    left = np.uint64((value << 1) ^ (value >> 63))
    if left <= _LOW:
        out[at] = np.uint8(left)
        return at + 1
    width = (bits(left) + 6) // 7
    if width > 8:
        return _put_exactly(out, at, value)
    # Eight groups of 7 bits in 56 bits: apart to two of 28, four of 14, eight of 7, each in bytes of its own.
    left = (left & _A0) | ((left & _A1) << np.uint64(4))
    left = (left & _B0) | ((left & _B1) << np.uint64(2))
    left = (left & _C0) | ((left & _C1) << _U1)
    store(out, at, left | (_STOPS & ((_U1 << np.uint64(8 * (width - 1))) - _U1)))
    return at + width


@inlined
def _fields(ops: Any, words: Any, sizes: Any, valid: Any, data: Bytes, row: Any, out: Bytes, at: Any) -> Any:
    """The fields of a row."""
    for op in range(len(ops)):
        kind, column, other, null = ops[op, 0], ops[op, 1], ops[op, 2], ops[op, 3]
        size = 0
        if kind >= TEXT:
            size = sizes[other, row]
            there = size >= 0
        else:
            there = other < 0 or valid[other, row] != 0
        if null >= 0:
            out[at] = 2 * (null if not there else 1 - null)
            at += 1
        if not there:
            continue
        word = words[column, row]
        if kind == LONG:
            at = _put(out, at, word)
        elif kind == DOUBLE:
            store(out, at, np.uint64(word))
            at += 8
        elif kind == FLOAT:
            store(out, at, np.uint64(word))
            at += 4
        elif kind == BOOLEAN:
            out[at] = np.uint8(word)
            at += 1
        else:
            if kind == TEXT:
                at = _put(out, at, size)
            at = copy(data, word, size, out, at)
    return at


@inlined
def _end(batches: Any, at: Any, part: Any, start: Any, end: Any, count: Any, first: Any, highest: Any) -> Any:
    batches[at, 0] = part
    batches[at, 1] = start
    batches[at, 2] = end
    batches[at, 3] = count
    batches[at, 4] = first
    batches[at, 5] = highest


@kernel(
    types.int64(
        _LONGS2, _LONGS2, _LONGS2, _BYTES2, BYTES, LONGS, LONGS, LONGS, BYTES, BYTES, types.int64, _LONGS2, LONGS,
        LONGS, types.int64, _OUT, types.int64[:, ::1],
    )
)  # fmt: skip
def _write(
    ops: Longs,
    words: Longs,
    sizes: Longs,
    valid: Bytes,
    data: Bytes,
    key_starts: Longs,
    key_sizes: Longs,
    times: Longs,
    frame: Bytes,
    tail: Bytes,
    place: int,
    ids: Longs,
    order: Longs,
    ends: Longs,
    limit: int,
    out: Bytes,
    batches: Longs,
) -> int:
    found, at, begin = 0, 0, 0
    wide, value_wide = 1, 1  # what the last record's lengths took: the next one's mostly take as much
    for part in range(len(ends)):
        start, count, first, highest = at, 0, np.int64(0), np.int64(0)
        i = begin
        while i < ends[part]:
            row = order[i]
            time = times[row]
            if count == 0:
                first, highest = time, time
            record = at
            inner = record + wide
            out[inner] = 0
            to = _put(out, inner + 1, time - first)
            to = _put(out, to, count)
            to = _put(out, to, key_sizes[row])
            if key_sizes[row] > 0:
                to = copy(data, key_starts[row], key_sizes[row], out, to)
            sized = to
            value = sized + value_wide
            to = copy(frame, 0, len(frame), out, value)
            to = _fields(ops, words, sizes, valid, data, row, out, to)
            width = varint_size(to - value)
            if width != value_wide:
                move(out, value, to, width - value_wide)
                to += width - value_wide
                value_wide = width
            _put_exactly(out, sized, to - sized - width)
            if len(tail) == 0:
                out[to] = 0
                to += 1
            else:
                at_id = to + place
                to = copy(tail, 0, len(tail), out, to)
                store(out, at_id, np.uint64(ids[0, row]))
                store(out, at_id + 8, np.uint64(ids[1, row]))  # the time lies over its upper half
                store(out, at_id + 12, np.uint64(ids[2, row]))
            width = varint_size(to - inner)
            if width != wide:
                move(out, inner, to, width - wide)
                to += width - wide
                wide = width
            _put_exactly(out, record, to - record - width)
            if count > 0 and to - start > limit:  # it begins the next batch, with other deltas
                _end(batches, found, part, start, at, count, first, highest)
                found += 1
                start, count = at, 0
                continue
            at = to
            count += 1
            highest = max(highest, time)
            i += 1
        if count > 0:
            _end(batches, found, part, start, at, count, first, highest)
            found += 1
        begin = ends[part]
    return found


def write(
    ops: Longs,
    words: Longs,
    sizes: Longs,
    valid: Bytes,
    data: Bytes,
    key_starts: Longs,
    key_sizes: Longs,
    times: Longs,
    frame: Bytes,
    order: Longs,
    ends: Longs,
    limit: int,
    tail: Bytes = _NO_TAIL,
    place: int = 0,
    ids: Longs = _NO_IDS,
) -> tuple[Bytes, Longs]:
    """Records of rows, one behind the other, and a row per batch: see :data:`BATCH`.

    Args:
        ops: int64[fields, 4]: see :data:`LONG`.
        words: int64[columns, n]: numbers, doubles' and floats' bits, booleans as 0 and 1, the places of texts.
        sizes: int64[texts, n], -1 for null.
        valid: uint8[nullable columns that are no texts, n]: 0 for null.
        data: where texts and keys lie.
        key_starts: int64[n].
        key_sizes: int64[n], -1 for null.
        times: int64[n].
        frame: what precedes each value.
        order: the rows to write, part by part (a part is a partition of the topic).
        ends: where each part ends in ``order``.
        limit: bytes of a batch; one record may be more.
        tail: what follows each value: how many headers there are, and these; nothing for none.
        place: where in it each row's id has its place, an int64, an int32 and an int64.
        ids: int64[3, n], where there is a tail.
    """
    room = len(order) * (ENVELOPE + len(tail) + FIELD * len(ops)) + _sum(key_sizes[order])
    room += sum(_sum(sizes[op[2]][order]) for op in ops if op[0] >= TEXT)
    out = np.empty(room + 8, np.uint8)
    most = len(ends) + 2 * room // max(limit, 1)  # two batches that follow each other are more than the limit
    batches = np.empty((min(len(order), most), BATCH), np.int64)
    found = _write(
        ops, words, sizes, valid, data, key_starts, key_sizes, times, frame, tail, place, ids, order, ends, limit, out,
        batches,
    )  # fmt: skip
    return out, batches[:found]


def _sum(sizes: Longs) -> int:
    return int(np.maximum(sizes, 0).sum())


@kernel(types.void(BYTES, LONGS, LONGS, types.int64, types.int64[::1]))
def _partitions(data: Bytes, starts: Longs, sizes: Longs, partitions: int, found: Longs) -> None:
    for row in range(len(starts)):
        size, at = sizes[row], starts[row]
        if size < 0:
            found[row] = -1
            continue
        h = _SEED ^ np.uint32(size)
        end = at + (size & ~3)
        while at < end:
            k = (
                np.uint32(data[at])
                | np.uint32(data[at + 1]) << np.uint32(8)
                | np.uint32(data[at + 2]) << np.uint32(16)
                | np.uint32(data[at + 3]) << np.uint32(24)
            )
            k = np.uint32(np.uint32(k) * _M)
            k ^= k >> np.uint32(24)
            h = np.uint32(h * _M) ^ np.uint32(k * _M)
            at += 4
        rest = size & 3
        if rest:
            for i in range(rest):
                h ^= np.uint32(np.uint32(data[end + i]) << np.uint32(8 * i))
            h = np.uint32(h * _M)
        h ^= h >> np.uint32(13)
        h = np.uint32(h * _M)
        h ^= h >> np.uint32(15)
        found[row] = np.int64(h & _SIGN) % partitions


def partitions_of(data: Bytes, starts: Longs, sizes: Longs, partitions: int) -> Longs:
    """The partition of each key, as :func:`streamproc.log.partition.partition_of` has it; -1 for null keys."""
    found = np.empty(len(starts), np.int64)
    _partitions(data, starts, sizes, partitions, found)
    return found


@kernel(types.int64(LONGS, types.uint8[::1], types.int64[::1]))
def _digits(values: Longs, out: Bytes, starts: Longs) -> int:
    at = 0
    for row in range(len(values)):
        starts[row] = at
        value = values[row]
        left = np.uint64(value)
        if value < 0:
            out[at] = 45
            at += 1
            left = ~left + _U1
        width, rest = 1, left
        while rest > np.uint64(9):
            rest //= np.uint64(10)
            width += 1
        for i in range(width - 1, -1, -1):
            out[at + i] = np.uint8(np.uint64(48) + left % np.uint64(10))
            left //= np.uint64(10)
        at += width
    return at


def digits(values: Longs) -> tuple[Bytes, Longs, Longs]:
    """Numbers as decimal text: the bytes, and where each begins and how many it has."""
    out, starts = np.empty(20 * len(values), np.uint8), np.empty(len(values), np.int64)
    end = _digits(np.ascontiguousarray(values), out, starts)
    return out[:end], starts, np.diff(starts, append=end)


@inlined
def _get(data: Bytes, at: Any, end: Any) -> Any:
    """A zig-zag varint and the place behind it; -1 for a place where it does not end in time."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & _LOW) << shift
        shift += _U7
        if byte < _MORE:
            return np.int64(value >> _U1) ^ -np.int64(value & _U1), at
    return np.int64(0), np.int64(-1)


@kernel(types.int64(BYTES, LONGS, LONGS, LONGS, _OUT))
def _join(data: Bytes, ends: Longs, counts: Longs, shifts: Longs, out: Bytes) -> int:
    at, to, before = 0, 0, 0
    for body in range(len(ends)):
        for i in range(counts[body]):
            length, at = _get(data, at, ends[body])
            end = at + length
            if at < 0 or length < 3 or end > ends[body]:
                return -1
            delta, at = _get(data, at + 1, end)
            if at < 0:
                return -1
            _, at = _get(data, at, end)
            if at < 0:
                return -1
            delta += shifts[body]
            size = 1 + end - at
            size += varint_size(before + i)
            size += varint_size(delta if delta >= 0 else -(delta + 1))
            to = _put(out, to, size)
            out[to] = 0
            to = _put(out, to + 1, delta)
            to = _put(out, to, before + i)
            to = copy(data, at, end - at, out, to)
            at = end
        if at != ends[body]:
            return -1
        before += counts[body]
    return to


def join(data: Bytes, ends: Longs, counts: Longs, shifts: Longs) -> NDArray[np.uint8]:
    """Bodies, one behind the other in ``data``, as one: offsets go on from body to body, and timestamps, which count
    from each body's first one, are shifted by ``shifts``.

    Raises:
        ValueError: it is no body of so many records.
    """
    out = np.empty(len(data) + 16 * int(counts.sum()) + 8, np.uint8)
    size = _join(data, ends, counts, shifts, out)
    if size < 0:
        raise ValueError("not the bodies of record batches")
    return out[:size]
