"""Rows of several inputs in one order: the same however they came, were cut, or were read again after a crash."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.columns import Columns
from streamproc.process.events import Events
from streamproc.process.sequencer import Arrived, Released, Sequencer


class Row(NamedTuple):
    time: int
    origin: int
    reached: int | None


Log = list[Row]  # by offset


def longs(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def arrived(log: Log, begin: int, end: int) -> Arrived:
    rows = log[begin:end]
    offsets = longs(list(range(begin, end)))
    events = Events(Columns({"n": offsets}, len(rows)), longs([row.time for row in rows]), offsets)
    carried = [row.reached for row in rows]
    reached = None if None in carried else longs([value or 0 for value in carried])
    return Arrived(events, offsets, longs([row.origin for row in rows]), reached)


class Run:
    """A sequencer, and what came of it: (source, offset) of what was given out, and of what was late."""

    def __init__(self, logs: list[Log], origins: list[int], grace: int, idle: int | None = None) -> None:
        self.logs, self.at = logs, [0] * len(logs)
        self.now = 0
        self.make = lambda: Sequencer(origins, grace=grace, idle=idle)
        self.sequencer = self.make()
        self.out: list[tuple[int, int]] = []
        self.late: set[tuple[int, int]] = set()

    def feed(self, source: int, count: int) -> None:
        begin, end = self.at[source], min(self.at[source] + count, len(self.logs[source]))
        if end > begin:
            late = self.sequencer.add(source, arrived(self.logs[source], begin, end), begin, end, self.now)
            for row in late.tolist():
                assert (source, begin + row) not in self.late
                self.late.add((source, begin + row))
            self.at[source] = end
        self.take(self.sequencer.release(lambda _: self.now))

    def take(self, released: Released | None) -> None:
        if released is None:
            return
        assert (np.diff(released.times) >= 0).all()
        for source, columns in enumerate(released.columns):
            assert (released.of == source).sum() == len(columns)
            if len(columns):
                assert columns["n"].tolist() == released.offsets[released.of == source].tolist()  # type: ignore[union-attr]
        self.out += zip(released.of.tolist(), released.offsets.tolist(), strict=True)

    def crash(self) -> None:
        """Goes on from what would have been kept."""
        header = self.sequencer.header()
        self.at = [self.sequencer.position(source) for source in range(len(self.logs))]
        self.sequencer = self.make()
        self.sequencer.restore(header)

    def finish(self) -> None:
        for source in range(len(self.logs)):
            self.feed(source, len(self.logs[source]))


def expected(logs: list[Log], origins: list[int], grace: int) -> tuple[list[tuple[int, int]], set[tuple[int, int]]]:
    """By the definition, row by row."""
    late, good = set(), []
    ends: list[int | None] = []
    for source, log in enumerate(logs):
        times: list[int | None] = [None] * origins[source]
        for offset, row in enumerate(log):
            reached = max(value for value in (times[row.origin], row.time, row.reached) if value is not None)
            times[row.origin] = reached
            if reached - row.time > grace:
                late.add((source, offset))
            else:
                good.append((row.time, source, row.origin, offset))
        ends += times
    if any(end is None for end in ends):
        return [], late
    frontier = min(end for end in ends if end is not None) - grace
    return [(source, offset) for time, source, _, offset in sorted(good) if time < frontier], late


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Log], list[int], int]:
    origins = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    logs: list[Log] = []
    for count in origins:
        base, log, reached = draw(st.integers(-5, 20)), Log(), [-100] * count
        for _ in range(draw(st.integers(0, 25))):
            origin = draw(st.integers(0, count - 1))
            base += draw(st.integers(0, 6))
            time = base - draw(st.sampled_from((0, 0, 0, 1, 5, 12)))
            reached[origin] = max(reached[origin], time, base if count > 1 else time)
            log.append(Row(time, origin, reached[origin] if count > 1 else None))
        logs.append(log)
    return logs, origins, draw(st.sampled_from((0, 3, 10)))


@given(cases(), st.data())
def test_order_and_lateness_do_not_depend_on_arrival_cuts_or_crashes(
    case: tuple[list[Log], list[int], int], data: st.DataObject
) -> None:
    logs, origins, grace = case
    run = Run(logs, origins, grace)
    for _ in range(data.draw(st.integers(0, 30))):
        if data.draw(st.integers(0, 5)) == 0:
            run.crash()
        run.feed(data.draw(st.integers(0, len(logs) - 1)), data.draw(st.integers(1, 6)))
    run.finish()
    out, late = expected(logs, origins, grace)
    assert run.out == out
    assert run.late == late


def log(*times: int) -> Log:
    return [Row(time, 0, None) for time in times]


def test_an_input_that_is_idle_holds_nobody_back() -> None:
    run = Run([log(10, 20, 30), log(5)], [1, 1], 0, idle=1000)
    run.finish()
    assert run.out == []  # the second input may still bring something of 5
    run.now = 1000  # both are idle now: the first two thousand milliseconds show nothing new
    run.take(run.sequencer.release(lambda source: 0 if source == 0 else 1000))
    assert run.out == [(1, 0), (0, 0), (0, 1)]  # up to before the first input's 30
    run.take(run.sequencer.release(lambda _: 1001))
    assert run.out[3:] == [(0, 2)]


def test_what_comes_behind_the_frontier_after_idleness_is_late() -> None:
    run = Run([log(10, 20, 30), log(5, 12, 40)], [1, 1], 0, idle=1000)
    run.feed(0, 3)
    run.feed(1, 1)
    run.take(run.sequencer.release(lambda source: 0 if source == 0 else 1000))
    run.feed(1, 1)
    assert run.late == {(1, 1)}
    run.feed(1, 1)
    assert run.out == [(1, 0), (0, 0), (0, 1)]


def test_without_idle_an_input_is_waited_for_for_ever() -> None:
    run = Run([log(10, 20), []], [1, 1], 0)
    run.finish()
    run.now = 1 << 50
    run.take(run.sequencer.release(lambda _: run.now))
    assert run.out == []
    assert run.sequencer.waiting == 2


def test_a_partition_is_told_how_far_another_is() -> None:
    run = Run([[Row(10, 0, 10), Row(11, 0, 11)]], [2], 0)
    run.finish()
    assert run.out == []
    run.sequencer.hear(0, longs([1]), longs([11]), 2, 0)
    run.take(run.sequencer.release(lambda _: 0))
    assert run.out == [(0, 0)]
    assert run.sequencer.position(0) == 0  # the batch of which a row waits
    run.crash()
    run.finish()
    assert run.out == [(0, 0)]
    run.sequencer.hear(0, longs([0, 1]), longs([12, 12]), 3, 0)
    run.take(run.sequencer.release(lambda _: 0))
    assert run.out == [(0, 0), (0, 1)]


def test_a_source_made_anew_counts_from_the_start() -> None:
    run = Run([log(10, 20, 30)], [1], 0)
    run.finish()
    run.crash()
    run.sequencer.restart(0)
    run.logs, run.at = [log(40, 50)], [0]
    run.finish()
    assert run.out == [(0, 0), (0, 1), (0, 0)] or run.out[:2] == [(0, 0), (0, 1)]


@pytest.mark.parametrize("times", [(1 << 62, 5), (-(1 << 62), 5)])
def test_times_at_the_end_of_64_bits(times: tuple[int, int]) -> None:
    run = Run([log(*times)], [1], 10)
    run.finish()
    assert len(run.out) + run.sequencer.waiting + len(run.late) == 2
