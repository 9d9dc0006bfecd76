"""Classes of one's own that raise, in windows of every kind: what is told, once and of whom, and who is not harmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import sliding
from streamproc.define import aggregates as a
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import AlignedWindow, CountWindow, GlobalWindow, SessionWindow, SlidingWindow
from streamproc.errors import StateError
from streamproc.process.windowing import window_task
from streamproc.testing import TestDriver, split_invariant
from tests.process.aggregates_kit import Row, Spread
from tests.process.everywhere_kit import WAYS, WINDOWS, aggregation_of, sink_of, some_rows
from tests.process.kit import batch
from tests.process.oracle import expected
from tests.process.window_kit import events, restore, run, take_changes


class Odd(Spread):
    """Does not take a 13, and gives nothing of what has a 99."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = False

    def add(self, value: float, note: str | None) -> None:
        if value == 13:
            raise ValueError("thirteen")
        self.bad |= value == 99
        super().add(value, note)

    def merge(self, other: Spread) -> None:
        super().merge(other)
        self.bad |= getattr(other, "bad", False)

    def close(self) -> float | None:
        if self.bad:
            raise KeyError("ninety-nine")
        return super().close() or 0.0


class Alone(Odd):
    """Does not become one with another that has a 77."""

    def merge(self, other: Spread) -> None:
        if 77 in (*self.seen, *other.seen):
            raise RuntimeError("seventy-seven")
        super().merge(other)


AGGREGATES: dict[str, Aggregate] = {
    "n": a.count(),
    "x": a.own(Odd, "f", "ns", type=float),
    "f": a.total("f"),
    "y": a.own(Odd, "g", "ns", type=float),
    "words": a.top_k("s", 2),
}


def definition_of(window: Any, grace: int = 0, every: int | None = None) -> Aggregation:
    return aggregation_of(sink_of(AGGREGATES, window), AGGREGATES, window, grace=grace, every=every)


def spread(values: Sequence[float]) -> float:
    good = [value for value in values if value != 13]
    return max(good) - min(good) if good else 0.0


@given(st.data())
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_each_event_and_each_result_is_told_once(window: Any, data: st.DataObject) -> None:
    values = st.sampled_from([1.0, 2.0, 13.0, 99.0, 5.0, 7.0])
    times = data.draw(events(40, most=40))
    rows = [Row.of(n, unit=s.unit, ts=s.ts, f=data.draw(values), g=data.draw(values)) for n, s in enumerate(times)]
    grace = 0 if isinstance(window, CountWindow | GlobalWindow) else data.draw(st.sampled_from([0, 10]))
    every = data.draw(st.sampled_from([None, 15])) if isinstance(window, AlignedWindow | SessionWindow) else None
    definition = definition_of(window, grace, every)
    outcome = expected(rows, window, grace, every)
    late = {row for row, missed, of in outcome.late if missed == of}
    there = set(range(len(rows))) - late
    if isinstance(window, SlidingWindow):
        there = {row for result in outcome.results for row in result.rows}
    names = (("x", "f"), ("y", "g"))
    refused = [
        (row, f"{name}: ValueError: thirteen")
        for row in sorted(there)
        for name, f in names
        if getattr(rows[row], f) == 13
    ]
    broken = [
        (at, f"{name}: KeyError: 'ninety-nine'")
        for at, result in enumerate(outcome.results)
        for name, f in names
        if any(getattr(rows[i], f) == 99 for i in result.rows)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=6)))
    points = data.draw(st.dictionaries(st.sampled_from([0, *cuts]), st.sampled_from([None, *WAYS]), max_size=4))
    for compiled in WAYS:
        for parts, restored in (((), {}), (cuts, points), (range(1, len(rows)), {})):
            got = run(definition, rows, parts, compiled=compiled, restored=restored)
            assert sorted(got.refused) == refused
            assert sorted(got.broken) == broken
            assert [(r.unit, r.start, r.n) for r in got.results] == [
                (want.key, want.start, len(want.rows)) for want in outcome.results
            ]
            for at, (result, want) in enumerate(zip(got.results, outcome.results, strict=True)):
                for name, f in names:
                    bad = any(at == row and said.startswith(name) for row, said in broken)
                    assert getattr(result, name) == (None if bad else spread([getattr(rows[i], f) for i in want.rows]))
                assert result.f == pytest.approx(sum(rows[i].f for i in want.rows))
                assert sum(result.words.values()) <= len(want.rows)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_dead_letters_in_a_driver(window: Any) -> None:
    """Whole events with where they lie; of sliding windows only that. Results in place of their sink."""
    definition = definition_of(window)
    rows = [msgspec.structs.replace(r, f={5: 13.0, 20: 99.0}.get(n, 1.0), g=2.0) for n, r in enumerate(some_rows())]
    source = definition.source
    with TestDriver(source.app) as driver:
        driver.publish(source, *rows)
        (event,) = [letter for letter in driver.dead_letters if letter.topic == "rows"]
        results = [letter for letter in driver.dead_letters if letter.topic == "out"]
        arrived = driver.results(definition.sink)
    assert (event.stage, event.reason, event.partition, event.offset) == ("out", "aggregate_error", 0, 5)
    assert event.error == "x: ValueError: thirteen"
    assert 'raise ValueError("thirteen")' in str(event.traceback)
    if isinstance(window, SlidingWindow):
        assert event.value is None
    else:
        assert event.key == rows[5].unit.encode()
        assert event.value
    outcome = expected(rows, window)
    bad = [result for result in outcome.results if 20 in result.rows]
    assert bad
    assert len(arrived) == len(outcome.results) - len(bad)
    assert [msgspec.json.decode(letter.value or b"")["start"] for letter in results] == [want.start for want in bad]
    for letter in results:
        assert (letter.stage, letter.reason) == ("out", "aggregate_error")
        assert letter.error == "x: KeyError: 'ninety-nine'"
        assert msgspec.json.decode(letter.value or b"")["x"] is None
    split_invariant(source.app, {source: rows}, tries=1)


@pytest.mark.parametrize("compiled", WAYS)
def test_what_does_not_merge_is_told_with_its_results(compiled: bool) -> None:
    """Also after it was kept."""
    aggregates: dict[str, Aggregate] = {"n": a.count(), "x": a.own(Alone, "f", "ns", type=float)}
    for window in (w for w in WINDOWS if str(w) in ("hopping(40ms, 15ms)", "session(20ms)", "counting(6, 4)")):
        definition = aggregation_of(
            sink_of(aggregates, window), aggregates, window, grace=50 if str(window).startswith("session") else 0
        )
        times = [0, 30, 15, 36, 38, 39, 200] if str(window).startswith("session") else [0, 5, 30, 31, 33, 36, 200]
        rows = [Row.of(n, unit="u", ts=ts, f=77.0 if n == 1 else 1.0) for n, ts in enumerate(times)]
        said = "x: RuntimeError: seventy-seven"
        whole = run(definition, rows, compiled=compiled)
        assert whole.broken
        assert {words for _, words in whole.broken} == {said}
        for at in range(1, len(rows)):
            other = run(definition, rows, [at], compiled=compiled, restored={at: compiled})
            assert other.broken == whole.broken
            assert other.results == whole.results
            assert not other.refused


class Three:
    """Has room for three."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, _: float) -> None:
        if self.n == 3:
            raise OverflowError("full")
        self.n += 1

    def merge(self, other: Three) -> None:
        self.n += other.n

    def close(self) -> int:
        return self.n


class Fussy(Three):
    """Takes a 1 only behind another."""

    def add(self, value: float) -> None:
        if value == 1 and not self.n:
            raise LookupError("nothing before")
        self.n += 1


@pytest.mark.parametrize("compiled", WAYS)
def test_sliding_windows_tell_an_event_once_wherever_they_go_on(compiled: bool) -> None:
    aggregates: dict[str, Aggregate] = {"x": a.own(Three, "f", type=int), "y": a.own(Fussy, "f", type=int)}
    definition = aggregation_of(sink_of(aggregates, sliding("10ms")), aggregates, sliding("10ms"))
    rows = [
        Row.of(n, unit="u", ts=ts, f=f) for n, (ts, f) in enumerate([(0, 2), (3, 1), (6, 2), (8, 2), (11, 2), (14, 2)])
    ]
    # Rows 3, 4 and 5 are the fourth in their own windows; row 1 is the first in that of row 4 only.
    rows.append(Row.of(9, unit="u", ts=100))
    want = [(1, "y: LookupError: nothing before"), *((row, "x: OverflowError: full") for row in (3, 4, 5))]
    assert sorted(run(definition, rows, compiled=compiled).refused) == want
    for at in range(1, len(rows)):
        got = run(definition, rows, [at], compiled=compiled, restored={at: compiled})
        assert sorted(got.refused) == want
        got = run(definition, rows, range(1, len(rows)), compiled=compiled, restored={at: compiled})
        assert sorted(got.refused) == want


@pytest.mark.parametrize("compiled", WAYS)
def test_what_was_told_is_a_change(compiled: bool) -> None:
    """Or the next task would tell it again."""
    aggregates: dict[str, Aggregate] = {"x": a.own(Odd, "f", "ns", type=float)}
    definition = aggregation_of(sink_of(aggregates, sliding("1s")), aggregates, sliding("1s"))
    task = window_task(definition, compiled)
    kept: dict[bytes, bytes] = {}
    task.add(batch([Row.of(1, unit="u", ts=0, f=13.0)]), 0)
    assert take_changes(task, kept) == 1
    assert [f.offset for f in task.add(batch([Row.of(2, unit="u", ts=10)], 1), 0).refused] == [0]
    assert take_changes(task, kept) == 2
    other = restore(definition, task.header(), kept, compiled)
    assert not other.add(batch([Row.of(3, unit="u", ts=20)], 2), 0).refused


class Kept:
    """Cannot be taken back, once it has a 5."""

    def __init__(self) -> None:
        self.last = 0.0

    def add(self, value: float) -> None:
        self.last = value

    def merge(self, other: Kept) -> None:
        self.last = other.last

    def close(self) -> float:
        return self.last

    def dump(self) -> bytes:
        return b"%d" % self.last

    @classmethod
    def load(cls, data: bytes) -> Kept:
        made = cls()
        made.last = {b"0": 0.0, b"1": 1.0}[data]
        return made


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("window", [w for w in WINDOWS if not isinstance(w, SlidingWindow)], ids=str)
def test_state_that_its_class_does_not_take_back(window: Any, compiled: bool) -> None:
    """Is not left out: the task does not start."""
    aggregates: dict[str, Aggregate] = {"x": a.own(Kept, "f", type=float)}
    definition = aggregation_of(sink_of(aggregates, window), aggregates, window)
    for value in (1.0, 5.0):
        task = window_task(definition, compiled)
        kept: dict[bytes, bytes] = {}
        task.add(batch([Row.of(1, unit="u", ts=0, f=value)]), 0)
        take_changes(task, kept)
        if value == 1:
            assert restore(definition, task.header(), kept, compiled).open_panes == 1
        elif not str(window).startswith(("tumbling", "hopping")):  # panes are copied, which fails first
            with pytest.raises(StateError, match="x: Kept does not take back what it dumped: KeyError: b'5'"):
                restore(definition, task.header(), kept, compiled)
