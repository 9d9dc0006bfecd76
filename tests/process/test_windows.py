"""Windows, drawn. Time goes to the right, one column a second; ``*`` is an event, ``X`` one that came late."""

from __future__ import annotations

import math
import struct

import pytest

from streamproc import hopping, tumbling
from streamproc.define.windows import AlignedWindow
from streamproc.log.partition import partition_of
from streamproc.process.windowing import window_task
from tests.process.kit import Sample, aggregation, batch, run

pytestmark = pytest.mark.usefixtures("engine")


def times(*seconds: float, unit: str = "a") -> list[Sample]:
    """One sample per second given, in the order in which they come."""
    return [Sample(unit, int(second * 1000)) for second in seconds]


def counts(window: AlignedWindow, rows: list[Sample], *, grace: float = 0) -> list[tuple[str, float, int]]:
    """(key, start in seconds, count) of each result."""
    return [(r.unit, r.start / 1000, r.n) for r in run(aggregation(window, grace=grace), rows).results]


def test_tumbling_windows_take_every_event_once():
    #   0         5         10        15
    #   * * *     *       * *
    #   |---------|---------|
    assert counts(tumbling("5s"), times(0, 1, 2, 5, 9, 10)) == [("a", 0, 3), ("a", 5, 2)]


def test_a_window_has_its_start_and_lacks_its_end():
    #   0         5         10
    #   *        **        **
    #   |---------|---------|
    assert counts(tumbling("5s"), times(0, 4.999, 5, 9.999, 10)) == [("a", 0, 2), ("a", 5, 2)]


def test_hopping_windows_overlap():
    #  -2  0   2   4   6
    #      * * *     *         (at 6)
    #   |-------|              [-2, 2)  2
    #      |-------|           [0, 4)   3
    #          |-------|       [2, 6)   1
    assert counts(hopping("4s", "2s"), times(0, 1, 2, 6)) == [("a", -2, 2), ("a", 0, 3), ("a", 2, 1)]


def test_a_step_may_leave_a_rest_of_the_size():
    #  -3      0     3     6
    #          *       * *       (at 0, 4, 5; closed by 8)
    #     |---------|            [-3, 2)  1
    #          |---------|       [0, 5)   2
    #                |---------| [3, 8)   2
    assert counts(hopping("5s", "3s"), times(0, 4, 5, 8)) == [("a", -3, 1), ("a", 0, 2), ("a", 3, 2)]


def test_windows_below_a_second():
    #   0   10   20   30 ms
    #   * *     *     *
    #   |----|----|----|
    assert counts(tumbling("10ms"), times(0, 0.005, 0.019, 0.03)) == [("a", 0, 2), ("a", 0.01, 1)]


def test_before_the_epoch_windows_lie_on_the_same_grid():
    #  -10       -5        0
    #   *        **        *
    #   |---------|---------|
    assert counts(tumbling("5s"), times(-10, -5.001, -5, 0)) == [("a", -10, 2), ("a", -5, 1)]


def test_grace_keeps_a_window_open():
    #   0         5   7     10
    #   *         * *              5 and 6 are before end + grace …
    #   *                          … so this one, at 1, still counts
    #             |   *            7 closes [0, 5): 2
    #   |---------|~~~|
    rows = times(0, 5, 6, 1, 7)
    assert counts(tumbling("5s"), rows, grace=2) == [("a", 0, 2)]
    assert counts(tumbling("5s"), rows[:-1], grace=2) == []


def test_a_late_event_is_missing_in_just_the_windows_that_were_closed():
    #  -4    0   2   4   6   8
    #        *       *             at 0, and 4: closes [-2, 2) and [0, 4)
    #              X               at 3: of [0, 4) and [2, 6), the first is closed
    #    |-------|       [-2, 2)  1
    #        |-------|   [0, 4)   1
    #            |-------| [2, 6) 2, with the late one
    given = run(aggregation(hopping("4s", "2s")), times(0, 4, 3, 6))
    assert [(r.start, r.n) for r in given.results] == [(-2000, 1), (0, 1), (2000, 2)]
    assert given.late == [(2, 1, 2)]  # row 2 missed 1 of 2


def test_an_event_that_is_late_for_all_its_windows_counts_nowhere():
    #   0         5         10
    #   *                   *      closes both
    #     X                        late for [0, 5), its only one
    given = run(aggregation(tumbling("5s")), times(0, 10, 1, 15))
    assert [(r.start, r.n) for r in given.results] == [(0, 1), (10000, 1)]
    assert given.late == [(2, 1, 1)]


def test_no_time_passes_at_the_first_event():
    """Events older than the first are late only where the first one's time has closed their window."""
    #   0         5         10
    #             *   (first, at 6)
    #         *       (at 4: [0, 5) is closed at 6)
    #            *    (at 5.5: the same window as the first)
    given = run(aggregation(tumbling("5s")), times(6, 4, 5.5, 10))
    assert [(r.start, r.n) for r in given.results] == [(5000, 2)]
    assert given.late == [(1, 1, 1)]


def test_results_come_window_by_window_and_in_each_as_their_keys_came():
    rows = [*times(1, unit="b"), *times(1, unit="a"), *times(6, unit="c"), *times(6, unit="a"), *times(20, unit="z")]
    assert counts(tumbling("5s"), rows) == [("b", 0, 1), ("a", 0, 1), ("c", 5, 1), ("a", 5, 1)]


def test_a_result_knows_the_row_that_closed_its_window():
    given = run(aggregation(tumbling("5s")), times(0, 1, 7, 3, 8, 30, 31))
    assert given.causes == [2, 5]


def test_there_is_one_zero_and_one_nan():
    """Which sign a comparison or a sum leaves is the processor's choice; results are equal to the bit everywhere."""
    rows = [Sample("zero", 0, f=-0.0), Sample("nan", 0, f=math.inf), Sample("nan", 0, f=-math.inf), Sample("z", 5000)]
    zero, nan = run(aggregation(tumbling("5s")), rows).results
    assert struct.pack(">d", zero.f_min) == struct.pack(">d", zero.f_max) == bytes(8)
    assert struct.pack(">d", nan.f_sum) == struct.pack(">d", nan.f_mean) == struct.pack(">d", math.nan)


def test_a_sum_of_ints_past_64_bits_is_null_and_not_wrong():
    """Nor is the mean: half of them would do to leave 64 bits and come back."""
    big = 2**63 - 1
    rows = [Sample("past", 0, i=big), Sample("past", 0, i=2), Sample("just", 0, i=big), Sample("just", 1, i=0)]
    rows += [Sample("back", i, i=value) for i, value in enumerate([big, big, -big, -big, 5])]
    rows += [Sample("below", 0, i=-big), Sample("below", 0, i=-2), Sample("z", 5000)]
    past, just, back, below = run(aggregation(tumbling("5s")), rows).results
    assert [r.i_sum for r in (past, just, back, below)] == [None, big, 5, None]
    assert [r.i_mean for r in (past, just, back, below)] == [2.0**62, 2.0**62, 1.0, -(2.0**62)]


def test_results_know_their_partition_in_kafka():
    rows = [*times(0, unit="a"), *times(1, unit="ä"), *times(2, unit=""), *times(6), *times(12)]
    closed = window_task(aggregation(tumbling("5s"))).add(batch(rows), 0)
    keys = ["a", "ä", "", "a"]
    assert closed.results.values("unit") == keys
    for count in (1, 4, 7):
        assert closed.partitions(count).tolist() == [partition_of(key.encode(), count) for key in keys]


def test_nothing_has_no_partitions():
    assert not len(window_task(aggregation(tumbling("5s"))).add(batch(times(0)), 0).partitions(4))


class TestClock:
    """An idle partition's time goes on by the clock."""

    def test_idle_windows_close_when_their_time_has_passed(self):
        #   event time   0         5    6
        #                   *
        #                |---------|~~~~|     grace 1
        #   clock        1000 …  after 2 s without an event, event time goes on from 2
        task = window_task(aggregation(tumbling("5s"), grace=1, idle=2))
        assert not len(task.add(batch(times(2)), 1_000_000).results)
        assert not len(task.advance(1_001_999).results)  # not idle yet
        assert not len(task.advance(1_003_999).results)  # event time 5.999
        assert task.advance(1_004_000).results.values("n") == [1]
        assert task.open_panes == 0
        assert not len(task.advance(1_100_000).results)

    def test_an_event_that_comes_after_is_judged_by_that_time(self):
        task = window_task(aggregation(tumbling("5s"), idle=2))
        task.add(batch(times(2)), 0)
        task.advance(10_000)  # event time 12
        closed = task.add(batch(times(11, 4, 15)), 10_000)
        assert closed.late is not None
        assert closed.late.rows.tolist() == [1]
        assert closed.results.values("start") == [10_000]

    def test_a_clock_that_goes_back_moves_nothing(self):
        task = window_task(aggregation(tumbling("5s"), idle=2))
        task.add(batch(times(2)), 10_000)
        assert not len(task.advance(0).results)
        assert task.stream_time == 2000

    def test_without_idle_the_clock_does_nothing(self):
        task = window_task(aggregation(tumbling("5s")))
        task.add(batch(times(2)), 0)
        assert not len(task.advance(10**12).results)

    def test_a_partition_that_never_had_an_event_has_no_time(self):
        assert not len(window_task(aggregation(tumbling("5s"), idle=1)).advance(10**12).results)


def test_the_columns_that_a_task_reads():
    assert window_task(aggregation(tumbling("5s"))).columns == {"unit", "ts", "i", "f", "ni", "nf"}
