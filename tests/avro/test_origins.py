"""Ids of results from columns to records and back: written and read the same in every way."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc.avro import writer as module
from streamproc.avro.blocks import BlockDecoder, Decoded
from streamproc.avro.decoded import Beat
from streamproc.avro.writer import Misfits, RecordWriter
from streamproc.columns import NO_TIME, Causes, Columns
from streamproc.log.batch_builder import BATCH_OVERHEAD, build, record_size
from streamproc.log.origins import NAME, OriginHeaders, beat_headers, origin_of
from tests.avro.block_kit import BY_ROWS, both, codec_of
from tests.avro.test_writer import Sink
from tests.log.wire import Row, batch, batch_bytes, parsed

CODEC = codec_of({"k": "string", "n": "long"})
WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(not kernels.available(), reason="no kernels"))]
PLACES = st.lists(
    st.tuples(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 31) - 1), st.integers(-(1 << 63), (1 << 63) - 1)),
    min_size=1,
    max_size=40,
)


@pytest.fixture(autouse=True)
def _from_the_first_row_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 0)


def columns(n: int) -> Columns:
    return Columns.of(pl.DataFrame({"k": [f"key {i % 5}" for i in range(n)], "n": list(range(n))}))


def headers(places: list[tuple[int, int, int]], *, timed: bool = True, stage: str = "app/stage") -> OriginHeaders:
    offsets, numbers, times = (np.array(column, np.int64) for column in zip(*places, strict=True))
    return OriginHeaders(stage, 3, Causes(offsets, numbers, times if timed else None))


def written(n: int, ids: OriginHeaders | None, *, compiled: bool, limit: int = 1 << 19, **more: Any) -> list[Any]:
    writer = RecordWriter(CODEC, Sink(CODEC.record, "k", 3), limit=limit, use_kernels=compiled, **more)
    return list(writer.write(columns(n), np.full(n, 1000), None, ids))


def origins(decoded: Decoded) -> list[Any]:
    """Offset, stage, partition, offset there, number, time of each row that has an id."""
    found = []
    for each in decoded.batches:
        if each.origins is None:
            continue
        stages, stage, *rest = each.origins
        for row, number in enumerate(stage.tolist()):
            if number >= 0:
                found.append((int(each.offsets[row]), stages[number], *(int(column[row]) for column in rest)))
    return found


def every_way(*batches: Any, first: int = 0) -> Decoded:
    """What all ways of reading say of ids and beats, which is the same."""
    ways = [BlockDecoder("t", CODEC, few=BY_ROWS), BlockDecoder("t", CODEC, few=0, compiled=False)]
    if kernels.available():
        ways.append(BlockDecoder("t", CODEC, few=0, compiled=True))
    found = [way.decode(0, batches, first) for way in ways]
    assert all(origins(each) == origins(found[0]) for each in found)
    assert all(each.beats == found[0].beats for each in found)
    both(CODEC, batches, first=first)
    return found[0]


@settings(deadline=None, max_examples=150)
@given(PLACES, st.booleans(), st.sampled_from((1 << 19, 200, 0)), st.text(min_size=1, max_size=30))
def test_both_ways_of_writing_are_equal(places, timed, limit, stage):
    if not kernels.available():
        pytest.skip("no kernels")
    ids = headers(places, timed=timed, stage=stage)
    n = len(places)
    assert written(n, ids, compiled=True, limit=limit) == written(n, ids, compiled=False, limit=limit)


@settings(deadline=None, max_examples=50)
@given(PLACES, st.booleans())
def test_what_is_written_is_read(places, timed):
    n = len(places)
    records = [CODEC.record(f"key {i % 5}", i) for i in range(n)]
    for _, body in written(n, headers(places, timed=timed), compiled=kernels.available()):
        found = every_way(parsed(build(body)))
        rows = [int(row) for each in found.batches for row in each["n"]]
        assert [record for each in found.batches for record in each.records()] == [records[row] for row in rows]
        wanted = [(at, "app/stage", 3, *places[row]) for at, row in enumerate(rows)]
        assert origins(found) == [(*of[:-1], of[-1] if timed else NO_TIME) for of in wanted]


@pytest.mark.parametrize("compiled", WAYS)
def test_chunks_keep_their_rows_ids(compiled, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 16)
    places = [(i, 0, i) for i in range(100)]
    seen = []
    for _, body in written(100, headers(places), compiled=compiled):
        for raw in parsed(build(body)).records():
            record: Any = CODEC.decode(raw.value or b"")
            origin = origin_of(raw.headers, empty=False)
            assert origin is not None
            assert (origin.offset, origin.time) == (record.n, record.n)
            seen.append(record.n)
    assert sorted(seen) == list(range(100))


@pytest.mark.parametrize("compiled", WAYS)
def test_ids_count_for_the_size_of_batches(compiled):
    places = [(i, 0, i) for i in range(200)]
    with_ids = written(200, headers(places), compiled=compiled, limit=1000)
    assert all(len(body.data) <= 1000 for _, body in with_ids)
    assert len(with_ids) > 2 * len(written(200, None, compiled=compiled, limit=1000))


@pytest.mark.parametrize("compiled", WAYS)
def test_ids_count_for_the_size_of_records(compiled):
    places = [(i, 0, i) for i in range(3)]
    ids = headers(places)
    record = CODEC.record("key 0", 0)
    size = record_size(b"key 0", CODEC.encode(record), next(ids.headers()))
    assert size > record_size(b"key 0", CODEC.encode(record)) + 40
    written(3, ids, compiled=compiled, most=size)
    with pytest.raises(Misfits, match=r"max\.message\.bytes"):
        written(3, ids, compiled=compiled, most=size - 1)
    (body,) = [body for _, body in written(1, ids.take(slice(0, 1)), compiled=compiled)]
    assert len(build(body)) <= size + BATCH_OVERHEAD


def value(version: int = 1, partition: int = 0, offset: int = 5, number: int = 0, stage: bytes = b"s") -> bytes:
    return struct.pack("<Biqiq", version, partition, offset, number, 9) + stage


ODD = [b"", None, value(stage=b""), value(version=2), value(partition=-1), value(offset=-1), value(number=-1),
       value(offset=-1, number=-1), value(stage=b"\xff"), value(stage=b"x" * 601), b"\x01" * 10]  # fmt: skip


def rows(*of: list[tuple[str, bytes | None]], key: bytes | None = b"k") -> list[Row]:
    return [(i, 1000 + i, key, CODEC.encode(CODEC.record("a", i)), each) for i, each in enumerate(of)]


def test_foreign_headers_are_no_ids():
    assert origins(every_way(batch(rows(*([(NAME, odd)] for odd in ODD))))) == []
    mixed = batch(rows(*([(NAME, odd), (NAME, value())] for odd in ODD), [("x", b"y"), (NAME, value())], []))
    assert origins(every_way(mixed)) == [(len(ODD), "s", 0, 5, 0, 9)]


def test_names_that_are_nearly_ours():
    near = [NAME[:-1], NAME + "x", NAME.upper(), "x" + NAME[1:], NAME[:8] + "x" + NAME[9:], NAME[:-1] + "x", ""]
    assert origins(every_way(batch(rows(*([(name, value())] for name in near))))) == []


def test_many_stages_in_one_topic():
    stages = [b"s%d" % (i % 23) for i in range(100)]
    found = every_way(batch(rows(*([(NAME, value(offset=i, stage=stage))] for i, stage in enumerate(stages)))))
    assert [row[1] for row in origins(found)] == [stage.decode() for stage in stages]


def test_beats_are_no_rows():
    (origin,) = beat_headers("s", 2, 77)
    beats: list[Row] = [
        (0, 1, None, None, [origin]),
        (1, 1, b"k", None, [origin]),  # a tombstone
        (2, 1, None, CODEC.encode(CODEC.record("a", 1)), [origin]),  # a record
        (3, 1, None, None, [(NAME, value())]),  # a tombstone
        (4, 1, None, None, [("x", b""), origin]),
    ]
    found = every_way(parsed(batch_bytes(beats)))
    assert found.beats == [Beat(0, 2, 77), Beat(4, 2, 77)]
    assert found.tombstones == 4
    assert origins(found) == []
    assert every_way(parsed(batch_bytes(beats)), first=1).beats == [Beat(4, 2, 77)]


def test_ids_of_rows_between_bad_ones():
    good = rows(*([(NAME, value(offset=i))] for i in range(6)))
    broken = [(*row[:3], b"\x00bad", row[4]) if row[0] in (0, 3) else row for row in good]
    found = every_way(batch(broken))
    assert [row[0] for row in origins(found)] == [1, 2, 4, 5]
    assert [row[3] for row in origins(found)] == [1, 2, 4, 5]
    assert len(found.bad) == 2


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([NAME, NAME, "x", NAME[:-1]]),
                st.none()
                | st.binary(max_size=40)
                | st.builds(value, st.integers(0, 2), st.integers(-2, 3), st.integers(-2, 3), st.integers(-2, 3)),
            ),
            max_size=3,
        ),
        min_size=1,
        max_size=10,
    ),
    st.none() | st.just(b"k"),
    st.lists(st.booleans(), min_size=10, max_size=10),
)
def test_all_ways_read_the_same(drawn, key, empty):
    some = [
        (*row[:3], None if none else row[3], row[4]) for row, none in zip(rows(*drawn, key=key), empty, strict=False)
    ]
    every_way(batch(some))
