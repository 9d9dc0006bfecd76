"""Windows that events fill forget keys of which nothing came for their ttl."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc import counting, everything
from streamproc.batch import records_of
from streamproc.define.windows import CountWindow, GlobalWindow
from streamproc.errors import DefinitionError
from streamproc.process import engine
from streamproc.process.windowing import window_task
from tests.process.kit import Sample, batch
from tests.process.window_kit import aggregation, restore, run, take_changes

WAYS = [False, True] if kernels.available() else [False]


def times(*seconds: float, unit: str = "a") -> list[Sample]:
    return [Sample(unit, int(second * 1000)) for second in seconds]


def told(window: Any, rows: list[Sample], compiled: bool) -> list[Any]:
    """(start and end in seconds, count) of each result."""
    results = run(aggregation(window), rows, compiled=compiled).results
    return [(r.start / 1000, r.end / 1000, r.n) for r in results]


@pytest.mark.parametrize("compiled", WAYS)
class TestDrawn:
    def test_a_window_that_is_not_full_is_dropped(self, compiled: bool) -> None:
        #   0         10        20
        #   * *        * *  *        at 11 s it is 9 s since the last one; at 10.9 it would be 8.9
        assert told(counting(3, ttl="9s"), times(0, 2, 11, 12, 15), compiled) == [(11, 15.001, 3)]
        assert told(counting(3, ttl="9s"), times(0, 2, 10.9, 12, 15), compiled) == [(0, 10.901, 3)]

    def test_all_panes_of_overlapping_windows_are_dropped(self, compiled: bool) -> None:
        rows = times(0, 1, 2, 3, 20, 21, 22)
        assert told(counting(3, 1, ttl="9s"), rows, compiled) == [(0, 2.001, 3), (1, 3.001, 3), (20, 22.001, 3)]

    def test_everything_begins_anew(self, compiled: bool) -> None:
        rows = times(0, 1, 2, 20, 21, 29.9, 30)
        assert told(everything(each=2, ttl="9s"), rows, compiled) == [(0, 1.001, 2), (20, 21.001, 2), (20, 30.001, 4)]
        for seen, n in ((10.999, 4), (11, 2)):  # 8.999 and 9 s since the last one
            assert told(everything(each=2, ttl="9s"), times(0, 2, seen, 12), compiled)[-1][2] == n

    def test_what_came_since_is_told_before_it_is_forgotten(self, compiled: bool) -> None:
        rows = [*times(0, 3), *times(100, unit="b"), *times(111, 116)]
        assert told(everything(every="5s", ttl="5s"), rows, compiled) == [
            (0, 3.001, 2),
            (100, 100.001, 1),
            (111, 111.001, 1),
        ]

    def test_it_is_the_stream_that_counts_and_not_the_keys_own_times(self, compiled: bool) -> None:
        """An event that comes late keeps its key as well as another one."""
        rows = [*times(0), *times(8, unit="b"), *times(1), *times(16, unit="b"), *times(2)]
        assert told(counting(3, ttl="9s"), rows, compiled) == [(0, 2.001, 3)]

    def test_the_clock_forgets_where_events_stop(self, compiled: bool) -> None:
        for window in (counting(3, ttl="8s"), everything(each=3, ttl="8s"), everything(every="5s", ttl="8s")):
            task = window_task(aggregation(window, idle=1), compiled)
            task.add(batch(times(0, 1)), 0)
            assert task.open_panes
            told_by_clock = task.advance(10_000).results
            assert len(told_by_clock) == (isinstance(window, GlobalWindow) and window.every is not None)
            assert task.open_panes == 0

    def test_keys_that_stay_away_cost_nothing(self, compiled: bool) -> None:
        """Each second has 2,000 keys of its own, and one that comes always."""
        for window in (counting(3, ttl="5s"), everything(each=3, ttl="5s"), everything(every="1s", ttl="5s")):
            task = window_task(aggregation(window), compiled)
            kept: dict[bytes, bytes] = {}
            for second in range(60):
                fresh = [Sample(f"{second}-{i}", second * 1000 + i % 900) for i in range(2000)]
                task.add(batch([*fresh, Sample("ever", second * 1000 + 999)], columns=True), 0)
                take_changes(task, kept)
                assert len(kept) == task.open_panes <= 8 * 2000
                assert task.keys <= 20 * 2000
        assert max(len(kept), task.open_panes) > 4 * 2000  # those of the last seconds are there


def _lived(rows: list[Sample], ttl: int) -> dict[str, int]:
    """By hand: of each key that is there after the last row, the event time seen at its last one."""
    last: dict[str, int] = {}
    now = rows[0].ts
    for row in rows:
        now = max(now, row.ts)
        last[row.unit] = now
    return {unit: seen for unit, seen in last.items() if now - seen < ttl}


@given(st.data(), st.integers(1, 60), st.sampled_from(WAYS))
@settings(max_examples=60, deadline=None)
def test_the_keys_that_are_kept_are_those_that_came(data: st.DataObject, ttl: int, compiled: bool) -> None:
    """No key is gone early, none stays an eighth of the ttl too long; and cuts make no difference. Results against a
    model: test_windows_kinds.
    """
    steps = data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 4)), min_size=1))
    now, rows = 0, []
    for step, back, key in steps:
        now += step
        rows.append(Sample(f"unit-{key}", now - back))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=5)))
    with patch.object(engine, "_MANY_KEYS", 2):
        for window in (CountWindow(999, 999, ttl), GlobalWindow(999, None, ttl), GlobalWindow(None, 1, ttl)):
            kept = []
            for some in ([], cuts):
                task, rows_of = window_task(aggregation(window), compiled), {}
                for start, stop in zip([0, *some], [*some, len(rows)], strict=True):
                    if start < stop:
                        task.add(batch(rows[start:stop], start), 0)
                    take_changes(task, rows_of)
                kept.append({key[8:].decode() for key in rows_of})
            assert kept[0] == kept[1]
            assert set(_lived(rows, ttl)) <= kept[0] <= set(_lived(rows, ttl + ttl // 8 + 1))


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("window", [counting(3, 2), everything(each=3), everything(every="2s")], ids=str)
def test_a_ttl_may_be_added_changed_and_taken_away(window: Any, compiled: bool) -> None:
    """State of before is read; all rows take their new form with the next flush."""
    chance = random.Random(7)
    rows = [Sample(f"{chance.randrange(5)}", 100 * i) for i in range(120)]
    want = run(aggregation(window), rows).results
    kept: dict[bytes, bytes] = {}
    task = window_task(aggregation(window), compiled)
    version = task.version()
    got = []
    for at, ttl in enumerate((None, 100_000, 50_000, None, 3000)):
        definition = aggregation(replace(window, ttl=ttl))
        if at:
            task = restore(definition, task.header(), kept, compiled)
        assert task.version() == version
        restored = len(kept)
        part = rows[24 * at : 24 * at + 24]
        if at == 1 or at == 3:
            assert take_changes(task, kept) == restored > 0
        closed = task.add(batch(part, 24 * at), 0)
        got += records_of(closed.results, definition.sink.record)
        take_changes(task, kept)
    assert got == want
    task.reach(rows[-1].ts + 3000 + 3000 // 8 + 1)
    take_changes(task, kept)
    assert not kept  # rows of before there was a ttl count as written when it came


def test_a_ttl_is_checked_and_said() -> None:
    assert str(counting(10, 5, ttl="1h")) == "counting(10, 5, ttl=1h)"
    assert str(everything(each=3, ttl="90s")) == "everything(each=3, ttl=90s)"
    assert str(everything(every="1m", ttl="1d")) == 'everything(every="1m", ttl=1d)'
    with pytest.raises(DefinitionError, match="counting: expected a ttl of 1 ms or more; got '0s'"):
        counting(3, ttl="0s")
    with pytest.raises(DefinitionError, match="everything: ttl: expected a duration"):
        everything(each=3, ttl="soon")
    with pytest.raises(DefinitionError, match="a ttl of every= or more, 1m, or a key would be forgotten before"):
        everything(every="1m", ttl="59s")
