"""Results that come a second time, against sets of what has come."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.batch import Batch
from streamproc.log.origins import Origin, origins_of
from streamproc.runtime import repeats as module
from streamproc.runtime.repeats import Repeats
from tests.runtime.kit import Ping

Results = list[Origin | None]


def batch(results: Results, first: int = 0) -> Batch:
    """Results as they lie in a topic. Each one's ``n`` is its place among all."""
    offsets = np.arange(first, first + len(results), dtype=np.int64)
    records = [Ping("k", int(offset)) for offset in offsets]
    return Batch("t", 0, Ping, offsets, offsets, records=records, origins=origins_of(results))


def results(stage: str, partition: int, start: int, stop: int) -> list[Origin]:
    """Two results of each event."""
    return [Origin(stage, partition, offset, number, 0) for offset in range(start, stop) for number in (0, 1)]


@st.composite
def logs(draw: st.DrawFn) -> Results:
    """What lies in a topic whose stages crashed now and then, mixed as it comes from several partitions."""
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    lanes: list[Results] = []
    for stage in ("a", "b"):
        for partition in range(draw(st.integers(0, 3))):
            lane: Results = []
            begin, end = 0, 0
            while end < 12:
                end = min(end + chance.randrange(6), 12)
                lane += results(stage, partition, begin, end)
                begin = max(end - chance.randrange(5), 0)  # a crash: from the last flush on
            lanes.append(lane)
    lanes.append([None] * draw(st.integers(0, 4)))
    found: Results = []
    while any(lanes):
        lane = chance.choice([lane for lane in lanes if lane])
        count = chance.choice((1, 3, 10))
        found += lane[:count]
        del lane[:count]
    return found


def once(log: Results) -> list[int]:
    """The rows that stand for something new."""
    seen: set[Origin] = set()
    return [row for row, each in enumerate(log) if each is None or not (each in seen or seen.add(each))]  # type: ignore[func-returns-value]


@settings(deadline=None)
@given(logs(), st.lists(st.integers(1, 20)), st.integers(0, 8))
def test_each_result_comes_once(log, sizes, restart):
    """Cut into batches anywhere, and with a restart from the marks."""
    repeats, found, at = Repeats(), [], 0
    for number, size in enumerate([*sizes, len(log) or 1]):
        if number == restart:
            repeats = Repeats.restored(msgspec.msgpack.decode(msgspec.msgpack.encode(repeats.marks())))
        found += [record.n for record in repeats.fresh(batch(log[at : at + size], at)).records()]
        at += size
    assert found == once(log)


def test_a_batch_without_repeats_stays_as_it_is():
    repeats = Repeats()
    for start in (0, 5):
        one = batch([*results("a", 0, start, start + 5)])
        assert repeats.fresh(one) is one
    mixed = batch([*results("b", 1, 0, 3), None, *results("b", 2, 0, 3), *results("b", 1, 3, 5)])
    assert repeats.fresh(mixed) is mixed
    unknown = batch([None, None])
    assert repeats.fresh(unknown) is unknown
    assert repeats.marks() == [["a", 0, 9, 1], ["b", 1, 4, 1], ["b", 2, 2, 1]]


def test_rows_of_unknown_origin_are_never_dropped():
    repeats = Repeats()
    repeats.fresh(batch(results("a", 0, 0, 5)))
    again = repeats.fresh(batch([None, *results("a", 0, 3, 5), None]))
    assert again.offsets.tolist() == [0, 5]
    assert again.origins is not None
    assert again.origins.stage.tolist() == [-1, -1]


def test_numbers_of_all_sizes():
    """Neither an offset past 32 bits nor a number that is lower than the one before is taken for something else."""
    high = (1 << 63) - 1
    log: Results = [Origin("a", 0, high - 1, 5, 0), Origin("a", 0, high, 0, 0), Origin("a", 0, high, 0, 0)]
    assert Repeats().fresh(batch(log)).offsets.tolist() == [0, 1]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 3)
    repeats = Repeats()
    for partition in (0, 1, 2, 0, 3):
        repeats.fresh(batch([Origin("a", partition, len(repeats.marks()) * 10, 0, 0)]))
    assert [partition for _, partition, *_ in repeats.marks()] == [2, 0, 3]
