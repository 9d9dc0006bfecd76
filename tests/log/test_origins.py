"""Ids of results, as headers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.columns import NO_TIME, Causes
from streamproc.log import origins
from streamproc.log.origins import NAME, Origin, OriginHeaders, beat_headers, origin_of, origins_of

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
NUMBERS = st.integers(0, (1 << 31) - 1)
PLACES = st.lists(st.tuples(st.integers(0, (1 << 63) - 1), NUMBERS, LONGS), min_size=1, max_size=20)
STAGES = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


def headers_of(stage: str, partition: int, places: list[tuple[int, int, int]], *, timed: bool = True) -> OriginHeaders:
    offsets, numbers, times = (np.array(column, np.int64) for column in zip(*places, strict=True))
    return OriginHeaders(stage, partition, Causes(offsets, numbers, times if timed else None))


@given(STAGES, NUMBERS, PLACES, st.booleans())
def test_what_is_written_is_read(stage, partition, places, timed):
    made = headers_of(stage, partition, places, timed=timed)
    found = [origin_of((("other", b"x"), *headers), empty=False) for headers in made.headers()]
    assert found == [Origin(stage, partition, o, n, t if timed else NO_TIME) for o, n, t in places]
    assert list(made.take(slice(1, None)).values()) == list(made.values())[1:]


def test_few_and_many_rows_look_the_same(monkeypatch):
    made = headers_of("app/stage@id", 7, [(1 << 40, 3, -5), (1 << 50, 0, NO_TIME)])
    few = list(made.values())
    monkeypatch.setattr(origins, "_FEW", 0)
    assert list(made.values()) == few


def test_a_value_is_laid_out_as_it_is_documented():
    (value,) = headers_of("stage", 3, [(1000, 2, 77)]).values()
    assert value == b"\x01" + struct.pack("<iqiq", 3, 1000, 2, 77) + b"stage"


def value(version=1, partition=0, offset=5, number=0, time=9, stage=b"s") -> bytes:
    return struct.pack("<Biqiq", version, partition, offset, number, time) + stage


@pytest.mark.parametrize(
    "odd",
    [b"", value()[:-1], value()[:3], value(version=2), value(version=0), value(partition=-1), value(offset=-1),
     value(number=-1), value(offset=-1, number=-1), value(stage=b"\xff"), value(stage=b"x" * 601)],
)  # fmt: skip
def test_what_is_no_id_is_ignored(odd):
    assert origin_of(((NAME, odd),), empty=False) is None
    assert origin_of(((NAME, odd), (NAME, value())), empty=False) is None  # the first one counts
    assert origin_of(((NAME, value()), (NAME, odd)), empty=False) == Origin("s", 0, 5, 0, 9)
    assert origin_of(((NAME + "x", value()), ("", b"")), empty=False) is None


@given(st.binary(max_size=700), st.booleans())
def test_no_bytes_are_too_odd(data, empty):
    origin_of(((NAME, data),), empty=empty)
    origin_of(((NAME, b"\x01" + data),), empty=empty)


def test_a_beat_has_neither_key_nor_value():
    headers = beat_headers("stage", 4, 123)
    assert origin_of(headers, empty=False) is None
    found = origin_of(headers, empty=True)
    assert found == Origin("stage", 4, -1, -1, 123)
    assert found is not None
    assert found.is_beat
    assert not Origin("stage", 4, 0, 0, 123).is_beat


def test_as_columns():
    a, b = Origin("a", 1, 2, 3, 4), Origin("b", 5, 6, 7, 8)
    assert origins_of([None, None]) is None
    found = origins_of([b, None, a, b])
    assert found is not None
    assert found.stages == ("b", "a")
    assert found.stage.tolist() == [0, -1, 1, 0]
    assert found.offset.tolist() == [6, -1, 2, 6]
    assert found.take(slice(2, 4)).time.tolist() == [4, 8]


def test_the_kernel_knows_the_same_rules():
    records = pytest.importorskip("streamproc.compiled.records")
    assert NAME.encode() == records.ORIGIN
    assert (origins.VERSION, len(value()) - 1, origins.LONGEST) == (records.VERSION, records.FIXED, records.LONGEST)
