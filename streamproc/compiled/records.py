"""The records of Kafka's record batches (message format v2), found in their bodies.

The rules are those of :meth:`streamproc.log.batches.RecordBatch.records`, to the last fault.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, kernel
from streamproc.compiled.types import Bytes, Longs
from streamproc.compiled.varint import varint

#: The least bytes of a record: its length, attributes, time, offset, the lengths of key and value, the headers' count.
LEAST = 7
_OUT = types.int64[::1]


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


@kernel(types.int64(BYTES, types.int64[:, ::1], types.int64, types.int64[:, ::1], _OUT, _OUT))
def _walk(
    data: Bytes,
    bodies: Longs,
    first: int,
    found: Longs,
    ends: Longs,
    faults: Longs,
) -> int:
    offsets, stamps, starts, values, sizes = found[0], found[1], found[2], found[3], found[4]
    n = 0
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
            at += max(size, 0)
            size, at = varint(data, at, stop)
            if at < 0 or size < -1 or size > stop - at:
                break
            value = at
            at += max(size, 0)
            parts, at = varint(data, at, stop)
            if at < 0 or parts < 0:
                break
            for _ in range(parts):
                part, at = varint(data, at, stop)  # a header's name
                if at < 0 or part < -1 or part > stop - at:
                    at = -1
                    break
                at += max(part, 0)
                part, at = varint(data, at, stop)
                if at < 0 or part < -1 or part > stop - at:
                    at = -1
                    break
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
                n += 1
        ends[body] = n
        faults[body] = fault or at != end
    return n


def walk(data: Bytes, bodies: list[Body], first_offset: int = 0) -> Found:
    """The records at or behind ``first_offset``. Of a faulty body those before the fault are found. Takes memory by the
    bytes that there are, whatever a header counts.
    """
    room = sum(min(body.records, (body.end - body.start) // LEAST) for body in bodies)
    columns = np.empty((5, room), np.int64)
    ends, faults = np.empty(len(bodies), np.int64), np.empty(len(bodies), np.int64)
    heads = np.array(bodies, np.int64).reshape(-1, len(Body._fields))
    n = _walk(data, heads, first_offset, columns, ends, faults)
    offsets, stamps, starts, values, sizes = columns[:, :n]
    return Found(offsets, stamps, starts, values, sizes, ends, np.flatnonzero(faults))
