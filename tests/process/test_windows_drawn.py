"""Sliding, session, count and global windows and updates, drawn. Time goes to the right; ``X`` came late."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc import compiled as kernels
from streamproc import counting, everything, hopping, session, sliding, tumbling
from streamproc.batch import records_of
from streamproc.process.windowing import window_task
from tests.process.kit import Sample, batch
from tests.process.window_kit import aggregation, restore, run, take_changes

WAYS = [False, True] if kernels.available() else [False]
pytestmark = pytest.mark.parametrize("compiled", WAYS)


def times(*seconds: float, unit: str = "a") -> list[Sample]:
    return [Sample(unit, int(second * 1000)) for second in seconds]


def told(definition: Any, rows: list[Sample], compiled: bool) -> list[Any]:
    """(start and end in seconds, count, and with updates whether it is the last) of each result."""
    results = run(definition, rows, compiled=compiled).results
    return [(r.start / 1000, r.end / 1000, r.n, *([r.final] if hasattr(r, "final") else [])) for r in results]


def test_a_session_ends_with_a_gap(compiled: bool) -> None:
    #   0    5    10   15
    #   *  *          *
    #   |-------|     |----|
    assert told(aggregation(session("5s")), times(0, 3, 14, 19), compiled) == [(0, 8, 2), (14, 19, 1)]


def test_a_gap_of_just_that_length_ends_it(compiled: bool) -> None:
    for grace in (0, 2000):
        definition = aggregation(session("5s"), grace=grace)
        assert told(definition, times(0, 5, 9.999, 30), compiled) == [(0, 5, 1), (5, 14.999, 2)]


def test_an_event_in_between_makes_one_session_of_two(compiled: bool) -> None:
    #   0    5    10
    #   *        *
    #       *              comes last
    #   |-------------|
    assert told(aggregation(session("5s"), grace=20_000), times(0, 8, 4, 40), compiled) == [(0, 13, 3)]


def test_an_event_that_joins_an_open_session_is_not_late(compiled: bool) -> None:
    #   0    5    10
    #       * *
    #   *        X        at 0, when 9 s were seen: joins [4, 11). At -1 it would be over: late
    given = run(aggregation(session("5s")), times(4, 6, 9, 0, -6, 30), compiled=compiled)
    assert [(r.start, r.end, r.n) for r in given.results] == [(0, 14_000, 4)]
    assert given.late == [(4, 1, 1)]


def test_sliding_windows_end_with_their_event(compiled: bool) -> None:
    #   4     10  14
    #   *     *   *
    rows = times(4, 10, 14, 14, 30)
    assert told(aggregation(sliding("10s")), rows, compiled) == [
        (-5.999, 4.001, 1),
        (0.001, 10.001, 2),
        (4.001, 14.001, 3),
    ]
    assert told(aggregation(sliding("10s"), grace=1000), times(4, 14, 30), compiled)[1:] == [(4.001, 14.001, 1)]


def test_count_windows_take_events_as_they_come(compiled: bool) -> None:
    assert told(aggregation(counting(3)), times(5, 1, 2, 9, 8, 7, 0), compiled) == [(1, 5.001, 3), (7, 9.001, 3)]
    assert told(aggregation(counting(6, 4)), times(*range(12)), compiled) == [(0, 5.001, 6), (4, 9.001, 6)]
    assert told(aggregation(counting(3, 1)), times(0, 1, 2, 3), compiled) == [(0, 2.001, 3), (1, 3.001, 3)]


def test_everything_is_told_after_so_many(compiled: bool) -> None:
    assert told(aggregation(everything(each=2)), times(5, 1, 9, 8, 7), compiled) == [(1, 5.001, 2), (1, 9.001, 4)]


def test_everything_is_told_every_so_often(compiled: bool) -> None:
    rows = [*times(1, 2), *times(3, unit="b"), *times(11, 12, 31)]
    assert told(aggregation(everything(every="10s")), rows, compiled) == [(1, 2.001, 2), (3, 3.001, 1), (1, 12.001, 4)]


def test_updates_tell_what_changed_before_the_last_result(compiled: bool) -> None:
    #   0   4   8 10
    #   * *  *  * *
    assert told(aggregation(tumbling("10s"), every=4000), times(0, 2, 5, 8, 10), compiled) == [
        (0, 10, 2, False),
        (0, 10, 3, False),
        (0, 10, 4, True),
    ]
    assert told(aggregation(session("5s"), every=4000), times(0, 2, 5, 20), compiled) == [
        (0, 7, 2, False),
        (0, 10, 3, True),
    ]


def test_nothing_new_is_not_told_again(compiled: bool) -> None:
    rows = [*times(0), *times(5, unit="b"), *times(9, unit="b")]
    assert told(aggregation(tumbling("100s"), every=4000), rows, compiled) == [(0, 100, 1, False), (0, 100, 1, False)]
    assert told(aggregation(session("100s"), every=4000), rows, compiled) == [(0, 100, 1, False), (5, 105, 1, False)]


@pytest.mark.parametrize("window", [tumbling("100s"), session("100s"), everything(each=100), counting(100)])
def test_only_what_changed_is_a_change(window: Any, compiled: bool) -> None:
    task = window_task(aggregation(window), compiled)
    kept: dict[bytes, bytes] = {}
    task.add(batch([*times(0), *times(1, unit="b"), *times(2, unit="c")]), 0)
    assert take_changes(task, kept) == 3
    task.add(batch(times(3, unit="b"), 3), 0)
    assert take_changes(task, kept) == 1
    assert len(kept) == 3


@pytest.mark.parametrize("window", [hopping("10s", "5s"), session("5s"), everything(every="4s")])
def test_the_clock_goes_on_where_events_stop(window: Any, compiled: bool) -> None:
    """Also in a task that took another one's place: from its first look at the clock on."""
    aligned = not str(window).startswith("everything")
    definition = aggregation(window, idle=1, every=4000 if aligned else None)
    task = window_task(definition, compiled)
    task.add(batch(times(0, 1)), 100_000)
    kept: dict[bytes, bytes] = {}
    assert take_changes(task, kept)
    after = restore(definition, task.header(), kept, compiled)
    assert not len(after.advance(100_000).results)
    found = []
    for each in (task, after):
        assert not len(each.advance(100_999).results)
        closed = [each.advance(100_000 + ms) for ms in (3000, 30_000)]
        assert not any(len(part.causes) for part in closed)
        found.append([records_of(part.results, definition.sink.record) for part in closed if len(part.results)])
    assert found[0] == found[1]
    assert found[0]
    assert take_changes(after, kept) == 0
    assert bool(kept) is not aligned


def test_nothing_is_kept_of_keys_that_went(compiled: bool) -> None:
    for window in (sliding("1s"), session("1s"), tumbling("1s")):
        task = window_task(aggregation(window), compiled)
        kept: dict[bytes, bytes] = {}
        for at in range(20):
            task.add(batch([Sample(f"unit-{at}-{i}", at * 10_000) for i in range(500)]), 0)
            take_changes(task, kept)
        assert len(kept) == 500
        assert task.open_panes <= 500
        assert task.keys < 8000
