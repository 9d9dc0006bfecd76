"""The kernel finds what :meth:`RecordBatch.records` finds, to the last fault."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import HEADER, RecordBatch
from tests.log.wire import LOG_APPEND_TIME, Row, batch, batch_bytes, changed, parsed, varint_bytes

records = pytest.importorskip("streamproc.compiled.records")
OPTIONAL = st.none() | st.binary(max_size=20)
HEADERS = st.lists(st.tuples(st.text(max_size=3), OPTIONAL), max_size=3)
ROWS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 2**45), OPTIONAL, OPTIONAL, HEADERS), max_size=8)


def rows_of(drawn: list[Any]) -> list[Row]:
    at, rows = -1, []
    for gap, time, key, value, headers in drawn:
        at += gap
        rows.append((at, time, key, value, headers))
    return rows


def one_by_one(batch: RecordBatch) -> tuple[list[tuple[int, int, bytes | None]], bool]:
    found = []
    try:
        for record in batch.records():
            found.append((record.offset, record.timestamp, record.value))  # noqa: PERF401
    except UndecodableRecord:
        return found, True
    return found, False


def by_kernel(*batches: RecordBatch, first: int = 0) -> list[tuple[list[tuple[int, int, bytes | None]], bool]]:
    """What the kernel finds of each batch, all being in one buffer with something in front."""
    data, bodies = b"???", []
    for one in batches:
        body = bytes(one.body())
        stamped = one.append_time
        time = one.first_timestamp if stamped is None else stamped
        bodies.append(
            records.Body(
                len(data),
                len(data) + len(body),
                one.count,
                one.base_offset,
                one.last_offset_delta,
                time,
                stamped is not None,
            )
        )
        data += body
    found = records.walk(np.frombuffer(data, np.uint8), bodies, first)
    rows = [
        (offset, stamp, None if size < 0 else data[at : at + size])
        for offset, stamp, at, size in zip(found.offsets, found.timestamps, found.values, found.sizes, strict=True)
    ]
    ends = [0, *found.ends.tolist()]
    return [(rows[a:b], i in found.faulty) for i, (a, b) in enumerate(pairwise(ends))]


@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans())
@settings(deadline=None)
def test_whole_batches(drawn: list[Any], stamped: bool) -> None:
    flags = LOG_APPEND_TIME if stamped else 0
    batches = [batch(rows_of(rows), base=5_000 * i, flags=flags, max_time=77) for i, rows in enumerate(drawn) if rows]
    assert by_kernel(*batches) == [one_by_one(one) for one in batches]


@given(ROWS.filter(bool), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_batches(drawn: list[Any], data: st.DataObject) -> None:
    whole = batch_bytes(rows_of(drawn))
    body = bytearray(whole[HEADER.size :])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"\x00", b"\x01", b"\x03", b"\x80", b"\xff" * 9 + b"\x01", b"\xff" * 11])
        )
    damaged = parsed(changed(whole, body=bytes(body), count=data.draw(st.integers(0, 9))))
    good = parsed(whole)
    assert by_kernel(good, damaged, good) == [one_by_one(one) for one in (good, damaged, good)]


ROW: Row = (0, 1_000, b"key", b"value", [("name", b"x"), ("", None)])


def test_every_cut() -> None:
    whole = batch_bytes([ROW, (3, 900, None, None, []), (9, 2_000, b"", b"", [])])
    body = whole[HEADER.size :]
    for end in range(len(body)):
        cut = parsed(changed(whole, body=body[:end]))
        assert by_kernel(cut) == [one_by_one(cut)]
        assert by_kernel(cut)[0][1]


@pytest.mark.parametrize("first", [0, 99, 100, 103, 104, 110, 10_000])
def test_records_before_the_first_wanted_one_are_left_out(first: int) -> None:
    whole = batch([ROW, (3, 900, None, None, []), (9, 2_000, b"", b"", [])], base=100)
    rows, fault = one_by_one(whole)
    assert by_kernel(whole, first=first) == [([row for row in rows if row[0] >= first], fault)]


def record(time: bytes = b"\x00", offset: bytes = b"\x00", key: bytes = b"\x01", tail: bytes = b"\x02v\x00") -> bytes:
    inner = b"\x00" + time + offset + key + tail
    return varint_bytes(len(inner)) + inner


@pytest.mark.parametrize(
    "body",
    [
        record(offset=varint_bytes(-1)),
        record(offset=varint_bytes(1)),  # behind the last offset of the header
        record(key=varint_bytes(-2)),
        record(key=varint_bytes(2**40)),
        record(tail=varint_bytes(-2) + b"\x00"),
        record(tail=varint_bytes(2**62) + b"v\x00"),
        record(tail=b"\x02v\x01"),  # -1 headers
        record(tail=b"\x02v" + varint_bytes(2**62)),
        record(tail=b"\x02v\x02\x03"),  # a header's name of -2 bytes
        record(tail=b"\x02v\x02\x00" + varint_bytes(2**31)),
        record(tail=b"\x02v\x00\x00"),
        record(time=b"\xff" * 9 + b"\x02"),
        record() + b"\x00",
        b"\x01" + record()[1:],
        b"\x00",
        varint_bytes(2**62) + record()[1:],
    ],
)
def test_faults(body: bytes) -> None:
    bad = parsed(changed(batch_bytes([ROW]), body=body))
    assert one_by_one(bad)[1]
    assert by_kernel(bad) == [one_by_one(bad)]


@pytest.mark.parametrize("first_time", [2**63 - 1, 2**63 - 2, -(2**63), 0])
@pytest.mark.parametrize("delta", [0, 1, 2, -1, 2**63 - 1, -(2**63)])
def test_times_at_the_ends_of_time(first_time: int, delta: int) -> None:
    one = parsed(changed(batch_bytes([ROW]), body=record(time=varint_bytes(delta)), first_time=first_time))
    assert by_kernel(one) == [one_by_one(one)]


def test_a_count_takes_no_memory_that_no_body_fills() -> None:
    lying = parsed(changed(batch_bytes([ROW]), count=2**31 - 1, last_delta=2**31 - 1))
    found = records.walk(
        np.frombuffer(bytes(lying.body()), np.uint8), [records.Body(0, len(lying.data), lying.count, 0, 9, 0, False)]
    )
    assert found.offsets.base.nbytes < 10 * len(lying.data)


def test_a_body_past_the_buffer_is_not_read() -> None:
    whole = bytes(batch([ROW]).body())
    found = records.walk(np.frombuffer(whole, np.uint8), [records.Body(0, len(whole) + 100, 2, 0, 9, 0, False)])
    assert found.faulty.tolist() == [0]
    assert len(found.offsets) == 1
