"""Every aggregate in windows of every kind: equal to the bit to what accumulators make of the rows that the oracle says
(that those are right is in test_aggregates.py), however rows were cut, with kernels and without, and wherever a task
stopped and another one went on with its changes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import App, Record, everything, hopping, session, sliding, tumbling
from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.writer import RecordWriter
from streamproc.columns import values_in
from streamproc.define import aggregates as a
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import AlignedWindow, CountWindow, GlobalWindow, SessionWindow, SlidingWindow
from streamproc.log.batch_builder import build
from streamproc.process import engine, keys
from streamproc.process.accumulators import Accumulators
from streamproc.process.sliding import SlidingEngine
from streamproc.process.windowing import window_task
from streamproc.testing import TestDriver, split_invariant
from tests.log.wire import parsed
from tests.process.aggregates_kit import AGGREGATES, Longest, Row, Written, bits, columns
from tests.process.aggregates_kit import rows as any_rows
from tests.process.everywhere_kit import WAYS, WINDOWS, aggregation_of, sink_of, some_rows
from tests.process.kit import batch
from tests.process.oracle import Outcome, Wanted, expected
from tests.process.window_kit import events, run, windows, zoned


def of_one_length(window: Any) -> bool:
    return isinstance(window, AlignedWindow | SlidingWindow)


@cache
def _defined(of_one: bool) -> tuple[type[Written], dict[str, Aggregate]]:
    """The type of results in windows of one length or not, and the aggregates that there are."""
    wanted = {name: agg for name, agg in AGGREGATES.items() if of_one or agg.kind != "rate"}
    return sink_of(wanted, tumbling("1s")), wanted


def aggregation(window: Any, *, grace: int = 0, every: int | None = None, idle: float | None = None) -> Aggregation:
    """All of them; grace and ``every`` in milliseconds."""
    record, aggregates = _defined(of_one_length(window))
    return aggregation_of(record, aggregates, window, grace=grace, every=every, idle=idle)


def reference(definition: Aggregation, rows: Sequence[Row], outcome: Outcome) -> list[list[Any]]:
    """What accumulators make of each result's rows."""
    made = Accumulators(definition, definition.aggregates, False)
    cells: list[int] = []
    added: list[int] = []
    merges: list[tuple[int, int, int]] = []  # after so many rows: into, from
    count = 0

    def fill(sums: Sequence[Any]) -> int:
        nonlocal count
        cell, count = count, count + 1
        for one in sums:
            if isinstance(one, int):
                cells.append(cell)
                added.append(one)
            else:
                other = fill(one)
                merges.append((len(added), cell, other))
        return cell

    tops = [fill(result.rows if result.sums is None else result.sums) for result in outcome.results]
    made.room(count)
    given_ = columns(rows)
    times = np.array([row.ts for row in rows], np.int64)
    start = 0
    for stop, into, other in [*merges, (len(added), -1, -1)]:
        at = np.array(added[start:stop], np.int64)
        if len(at):
            some = {name: column.gather(at) for name, column in given_.items()}
            made.add(np.array(cells[start:stop], np.int64), times[at], some)
        if other >= 0:
            made.merge(np.array([into]), made, np.array([other]))
        start = stop
    lengths = np.array([result.end - result.start for result in outcome.results], np.int64)
    found = made.results(np.array(tops, np.int64), np.array([len(r.rows) for r in outcome.results], np.int64), lengths)
    return [list(row) for row in zip(*map(values_in, found.values()), strict=True)]


def told(results: Sequence[Any]) -> list[Any]:
    return [bits(list(msgspec.structs.astuple(result))) for result in results]


def wanted(definition: Aggregation, rows: Sequence[Row], outcome: Outcome) -> list[Any]:
    def row(result: Wanted, values: list[Any]) -> Any:
        return bits([result.key, result.start, result.end, *values])

    return list(map(row, outcome.results, reference(definition, rows, outcome))) if outcome.results else []


@st.composite
def filled(draw: st.DrawFn, times: Sequence[Any]) -> list[Row]:
    """Rows at these times, of these keys, with any values."""
    pool = draw(st.lists(any_rows(), min_size=1, max_size=6))
    chance = random.Random(draw(st.integers(0, 2**32)))
    found = [(*pool, Row.of(chance.randrange(100)))[chance.randrange(len(pool) + 1)] for _ in times]
    return [
        msgspec.structs.replace(row, unit=sample.unit, ts=sample.ts) for row, sample in zip(found, times, strict=True)
    ]


def check(data: st.DataObject, definition: Aggregation, rows: list[Row]) -> None:
    every = definition.emit.every if definition.emit else None
    outcome = expected(rows, definition.window, definition.grace, every)
    want = wanted(definition, rows, outcome)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=6)))
    points = data.draw(st.dictionaries(st.sampled_from([0, *cuts]), st.sampled_from([None, *WAYS]), max_size=4))
    every_row = range(1, len(rows))
    often = data.draw(st.dictionaries(st.sampled_from(range(len(rows))), st.sampled_from([None, *WAYS]), max_size=6))
    kept = set()
    with patch.object(engine, "_MANY_KEYS", 3), patch.object(keys, "_FEW", data.draw(st.sampled_from([2, 32]))):
        for compiled in WAYS:
            for parts, restored in (((), {}), (cuts, points), (every_row, often)):
                got = run(definition, rows, parts, compiled=compiled, restored=restored)
                assert told(got.results) == want, compiled
                assert got.causes == [result.cause for result in outcome.results]
                assert got.late == outcome.late
                assert not got.refused
                assert not got.broken
                kept.add(got.rows)
    assert len(kept) == 1


@given(st.data(), windows())
@settings(max_examples=25, deadline=None)
def test_every_aggregate_in_every_window(data: st.DataObject, chosen: tuple[Any, int]) -> None:
    window, scale = chosen
    grace, every = 0, None
    if not isinstance(window, CountWindow | GlobalWindow):
        grace = data.draw(st.sampled_from([0, 1, scale, 2 * scale]))
    if isinstance(window, AlignedWindow | SessionWindow):
        every = data.draw(st.sampled_from([None, scale, max(1, scale // 3)]))
    check(data, aggregation(window, grace=grace, every=every), data.draw(filled(data.draw(events(scale, most=40)))))


@given(st.data())
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_every_aggregate_in_windows_of_each_kind(window: Any, data: st.DataObject) -> None:
    grace = 0 if isinstance(window, CountWindow | GlobalWindow) else 10
    check(data, aggregation(window, grace=grace), data.draw(filled(data.draw(events(40, most=40)))))


@given(st.data(), zoned())
@settings(max_examples=8, deadline=None)
def test_every_aggregate_in_days_of_a_zone(data: st.DataObject, window: Any) -> None:
    """A rate is by the length that a day has."""
    day = 86_400_000
    rows = data.draw(filled(data.draw(events(day // 3, start=1_711_846_800_000 - 2 * day, most=30))))
    check(data, aggregation(window, grace=data.draw(st.sampled_from([0, day]))), rows)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_through_the_driver_and_the_writer(window: Any) -> None:
    """Lists, maps and sketches arrive in records, and the writer makes the codec's bytes of columns."""
    definition = aggregation(window)
    app, rows = definition.source.app, some_rows()
    with TestDriver(app) as driver:
        driver.publish(definition.source, *rows)
        arrived = driver.results(definition.sink)
        assert not driver.dead_letters
    want = wanted(definition, rows, expected(rows, window))
    assert sorted(told(arrived)) == sorted(want)
    assert len(arrived) >= 8
    codec = Codec.of(definition.sink, MemoryRegistry())
    for compiled in WAYS:
        closed = window_task(definition, compiled).add(batch(rows, columns=True), 0)
        writer = RecordWriter(codec, definition.sink, use_kernels=compiled)
        wires = [
            bytes(record.value)
            for _, body in writer.write(closed.results, np.zeros(len(closed.results), np.int64))
            for record in parsed(build(body)).records()
        ]
        assert sorted(told([codec.decode(wire) for wire in wires])) == sorted(want)
        assert min(map(len, wires)) > FRAME.size
    split_invariant(app, {definition.source: rows}, tries=1)


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("window", [session("20ms"), sliding("25ms"), everything(every="30ms")], ids=str)
def test_parts_are_joined(window: Any, compiled: bool) -> None:
    """Also columns of objects and lists."""
    definition = aggregation(window, grace=0, every=10 if isinstance(window, SessionWindow) else None)
    rows = some_rows()
    outcome = expected(rows, window, 0, definition.emit.every if definition.emit else None)
    with patch("streamproc.process.sliding._AT_ONCE", 5):
        got = run(definition, rows, compiled=compiled)
    assert told(got.results) == wanted(definition, rows, outcome)
    assert len(set(got.causes)) > 3


@pytest.mark.parametrize("window", [hopping("40ms", "15ms"), session("20ms"), sliding("25ms"), everything(every="7ms")])
@pytest.mark.parametrize("compiled", WAYS)
def test_by_the_clock(window: Any, compiled: bool) -> None:
    """What the clock closes is what an event would have closed."""
    definition = aggregation(window, idle=0.001)
    rows = some_rows(20)[:-1]
    task = window_task(definition, compiled)
    first = task.add(batch(rows), 0)
    found = [values for closed in (first, task.advance(10_000)) if len(closed.results) for values in _rows(closed)]
    outcome = expected([*rows, Row.of(1, ts=20_000, unit="u0")], window)
    assert found == wanted(definition, [*rows, Row.of(1, ts=20_000, unit="u0")], outcome)


def _rows(closed: Any) -> list[Any]:
    return [bits(list(row)) for row in zip(*(closed.results.values(name) for name in closed.results), strict=True)]


def test_by_columns_in_each_window() -> None:
    """A class that takes arrays gets those of its cell only."""
    aggregates = {"x": a.own(Longest, "s", type=dict[str, int])}
    for window in WINDOWS:
        definition = aggregation_of(sink_of(aggregates, window), aggregates, window)
        rows = some_rows()
        outcome = expected(rows, window)
        for compiled in WAYS:
            got = run(definition, rows, compiled=compiled)
            assert [r.x["rows"] for r in got.results] == [len(want.rows) for want in outcome.results]


def test_sliding_windows_keep_no_offsets_for_nothing() -> None:
    for aggregates, kept in (({"n": a.count()}, 0), ({"x": a.own(Longest, "s", type=dict[str, int])}, 64)):
        definition = aggregation_of(sink_of(aggregates, sliding("1s")), aggregates, sliding("1s"))
        task = window_task(definition, False)
        task.add(batch(some_rows(3)), 0)
        assert isinstance(task, SlidingEngine)
        assert len(task._events._offsets) == kept


class Spot(Record):
    x: float
    name: str | None


class Path(Written):
    unit: str
    ts: int
    spot: Spot | None
    marks: list[int]


class Farthest:
    """The farthest spot's name, and all marks."""

    def __init__(self) -> None:
        self.x, self.name, self.marks = -1.0, "", 0

    def add(self, spot: Spot | None, marks: list[int]) -> None:
        if spot is not None and spot.x > self.x:
            self.x, self.name = spot.x, spot.name or "?"
        self.marks += sum(marks)

    def merge(self, other: Farthest) -> None:
        if other.x > self.x:
            self.x, self.name = other.x, other.name
        self.marks += other.marks

    def close(self) -> str:
        return f"{self.name} {self.marks}"


class Far(Written):
    unit: str
    start: int
    end: int
    far: str


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_fields_that_are_records_and_lists(window: Any) -> None:
    """Classes of one's own get them as they are in events, also of events that were kept."""
    app = App("paths")
    source = app.topic("paths", Path, key="unit", time="ts", partitions=1)
    source.window(window).agg("far", Far, far=a.own(Farthest, "spot", "marks", type=str))
    definition = app.agents["far"]
    assert isinstance(definition, Aggregation)
    rows = [
        Path("u", 7 * i + 30 * (i // 6), Spot(i * 5 % 7, None if i % 5 == 1 else f"s{i}"), [i, 1]) for i in range(30)
    ]
    rows = [msgspec.structs.replace(row, spot=None) if i % 9 == 4 else row for i, row in enumerate(rows)]

    def far(members: Sequence[int]) -> str:
        made = Farthest()
        for i in members:
            made.add(rows[i].spot, rows[i].marks)
        return made.close()

    outcome = expected(rows, window)
    want = [Far(result.key, result.start, result.end, far(result.rows)) for result in outcome.results]
    assert want
    for compiled in WAYS:
        got = run(definition, rows, [3, 9, 17, 25], compiled=compiled, restored={9: compiled, 17: compiled})
        assert not got.refused
        assert got.results == want


class Trail:
    """Which rows there were, one after the other."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def add(self, row: int) -> None:
        self.rows.append(row)

    def merge(self, other: Trail) -> None:
        self.rows += other.rows

    def close(self) -> list[int]:
        return self.rows


@given(st.data())
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_rows_are_taken_in_their_order(window: Any, data: st.DataObject) -> None:
    """By classes whose results show it: what is merged later came later, pane by pane, session by session."""
    grace = 0 if isinstance(window, CountWindow | GlobalWindow) else data.draw(st.sampled_from([0, 40]))
    aggregates: dict[str, Aggregate] = {"x": a.own(Trail, "i", type=list[int])}
    definition = aggregation_of(sink_of(aggregates, window), aggregates, window, grace=grace)
    rows = [Row.of(n, unit=s.unit, ts=s.ts, i=n) for n, s in enumerate(data.draw(events(40)))]
    outcome = expected(rows, window, grace)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=6)))
    for compiled in WAYS:
        for parts in ((), cuts):
            got = run(definition, rows, parts, compiled=compiled, restored=dict.fromkeys(cuts[::2], compiled))
            assert [result.x for result in got.results] == [list(want.rows) for want in outcome.results]
