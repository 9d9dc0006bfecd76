"""The records of Kafka's record batches (message format v2), found in their bodies.

The rules are those of :meth:`streamproc.log.batches.RecordBatch.records`, to the last fault.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, inlined, kernel
from streamproc.compiled.siphash import load
from streamproc.compiled.types import Bytes, Longs
from streamproc.compiled.varint import varint

#: The least bytes of a record: its length, attributes, time, offset, the lengths of key and value, the headers' count.
LEAST = 7
#: The header with a result's id, and the rules for its value: those of :mod:`streamproc.log.origins`.
ORIGIN, VERSION, FIXED, LONGEST = b"streamproc-origin", 1, 25, 600
_OUT = types.int64[::1]
_OUT2 = types.int64[:, ::1]
_NAME, _LAST = np.frombuffer(ORIGIN[:16], np.uint64), ORIGIN[16]
_NAME_0, _NAME_1 = _NAME[0], _NAME[1]
_LOOKED_AT = 8  # stages that a record's is compared with, the latest ones


class Body(NamedTuple):
    """A record batch's body in a buffer, and what its header says of its records."""

    start: int
    end: int
    records: int
    base_offset: int
    last_offset_delta: int
    time: int  # the first record's, or every record's
    one_time: bool


class Found(NamedTuple):
    """Records, in the order of their offsets."""

    offsets: Longs
    timestamps: Longs
    starts: Longs  # of each record, with its length
    values: Longs  # where its value begins
    sizes: Longs  # of its value in bytes; -1 for null
    ends: Longs  # per body: how many records there are up to its end
    faulty: Longs  # the bodies that are malformed behind their last record
    #: int64[5, n]: stage (index into ``stages``, -1: none), partition, offset, number, time of each record's id; None
    #: where none has one. Of a beat the offset is -1.
    ids: Longs | None
    stages: Longs  # int64[., 2]: where the names of stages lie, and their sizes; of the same name there may be several


@inlined
def _same(data: Bytes, a: Any, b: Any, size: Any) -> Any:
    """Whether the same bytes lie at both places."""
    i = 0
    while i + 8 <= size and load(data, a + i) == load(data, b + i):
        i += 8
    if i + 8 > size >= 8:  # the last eight, some of them once more
        return load(data, a + size - 8) == load(data, b + size - 8)
    while i < size and data[a + i] == data[b + i]:
        i += 1
    return i == size


@inlined
def _stage_of(data: Bytes, at: Any, size: Any, stages: Longs, known: Any) -> Any:
    """The number of the stage whose name lies there; ``known``, and kept there, where it is none of the latest."""
    for i in range(known - 1, max(known - 1 - _LOOKED_AT, -1), -1):
        if stages[i, 1] == size and _same(data, stages[i, 0], at, size):
            return i
    stages[known, 0], stages[known, 1] = at, size
    return known


@inlined
def _read_id(data: Bytes, at: Any, size: Any, empty: Any, ids: Longs, row: Any) -> Any:
    """Whether a header's value is an id, which is read then."""
    if size <= FIXED or size > FIXED + LONGEST or data[at] != VERSION:
        return False
    partition = np.int64(load(data, at + 1) << np.uint64(32)) >> 32
    offset, time = np.int64(load(data, at + 5)), np.int64(load(data, at + 17))
    number = np.int64(load(data, at + 13) << np.uint64(32)) >> 32
    beat = empty and offset == -1 and number == -1
    if partition < 0 or ((offset < 0 or number < 0) and not beat):
        return False
    ids[1, row], ids[2, row], ids[3, row], ids[4, row] = partition, offset, number, time
    return True


@kernel(types.int64(BYTES, _OUT2, types.int64, _OUT2, _OUT, _OUT, _OUT2, _OUT2, _OUT))
def _walk(
    data: Bytes,
    bodies: Longs,
    first: int,
    found: Longs,
    ends: Longs,
    faults: Longs,
    ids: Longs,
    stages: Longs,
    counts: Longs,
) -> int:
    offsets, stamps, starts, values, sizes = found[0], found[1], found[2], found[3], found[4]
    n, known = 0, 0
    any_id = False
    for body in range(len(bodies)):
        at, end, count = bodies[body, 0], min(bodies[body, 1], len(data)), bodies[body, 2]
        base, last, time, one_time = bodies[body, 3], bodies[body, 4], bodies[body, 5], bodies[body, 6] != 0
        before = np.int64(-1)
        fault = False
        for _ in range(count):
            fault = True  # until the record's end is reached
            start = at
            length, at = varint(data, at, end)
            if at < 0 or length < 0 or length > end - at:
                break
            stop = at + length
            delta, at = varint(data, at + 1, stop)  # behind the attributes, which are unused
            if at < 0:
                break
            stamp = time if one_time else time + delta
            if not one_time and ((time ^ stamp) & (delta ^ stamp)) < 0:  # past 64 bits
                break
            delta, at = varint(data, at, stop)
            if at < 0 or delta <= before or delta > last:
                break
            before = delta
            size, at = varint(data, at, stop)  # the key
            if at < 0 or size < -1 or size > stop - at:
                break
            keyless = size < 0
            at += max(size, 0)
            size, at = varint(data, at, stop)
            if at < 0 or size < -1 or size > stop - at:
                break
            value = at
            at += max(size, 0)
            parts, at = varint(data, at, stop)
            if at < 0 or parts < 0:
                break
            id_at, id_size = np.int64(-1), np.int64(-1)
            for _ in range(parts):
                part, at = varint(data, at, stop)  # a header's name
                if at < 0 or part < -1 or part > stop - at:
                    at = -1
                    break
                ours = id_at < 0 and part == len(ORIGIN)
                ours = ours and load(data, at) == _NAME_0 and load(data, at + 8) == _NAME_1 and data[at + 16] == _LAST
                at += max(part, 0)
                part, at = varint(data, at, stop)
                if at < 0 or part < -1 or part > stop - at:
                    at = -1
                    break
                if ours:
                    id_at, id_size = at, part
                at += max(part, 0)
            if at != stop:
                break
            fault = False
            if base + delta >= first:
                offsets[n] = base + delta
                stamps[n] = stamp
                starts[n] = start
                values[n] = value
                sizes[n] = size
                there = id_at >= 0 and _read_id(data, id_at, id_size, keyless and size < 0, ids, n)
                if there:
                    if not any_id:
                        any_id = True
                        ids[0, :n] = -1
                    stage = _stage_of(data, id_at + FIXED, id_size - FIXED, stages, known)
                    known += stage == known
                    ids[0, n] = stage
                elif any_id:
                    ids[0, n] = -1
                n += 1
        ends[body] = n
        faults[body] = fault or at != end
    counts[0] = known
    return n


def walk(data: Bytes, bodies: list[Body], first_offset: int = 0) -> Found:
    """The records at or behind ``first_offset``. Of a faulty body those before the fault are found. Takes memory by the
    bytes that there are, whatever a header counts.
    """
    room = sum(min(body.records, (body.end - body.start) // LEAST) for body in bodies)
    columns, ids, stages = np.empty((5, room), np.int64), np.empty((5, room), np.int64), np.empty((room, 2), np.int64)
    ends, faults, counts = np.empty(len(bodies), np.int64), np.empty(len(bodies), np.int64), np.zeros(1, np.int64)
    heads = np.array(bodies, np.int64).reshape(-1, len(Body._fields))
    n = _walk(data, heads, first_offset, columns, ends, faults, ids, stages, counts)
    offsets, stamps, starts, values, sizes = columns[:, :n]
    known = stages[: counts[0]]
    whole = None if not len(known) else ids[:, :n]
    return Found(offsets, stamps, starts, values, sizes, ends, np.flatnonzero(faults), whole, known)
