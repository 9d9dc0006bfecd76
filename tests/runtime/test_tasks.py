"""Aggregations as tasks: late events and results to the outlet."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc import App, Record, count, maximum, total, tumbling
from streamproc.batch import Batch
from streamproc.define.aggregation import Aggregation
from streamproc.log.ports import Headers
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.tasks import AggregationTask, needed_columns, task_for
from tests.runtime.kit import ListOutlet, Ping, agent


class Beat(Record):
    key: str
    ts: int
    n: int
    note: str = "whole"


class BeatSum(Record):
    key: str
    start: int
    end: int
    n: int
    top: int


class Outlet(ListOutlet):
    """Keeps headers, too."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[Any] = []

    async def send(self, topic: Any, records: Any, timestamps: Any, headers: list[Headers] | None = None) -> None:  # type: ignore[override]
        await super().send(topic, records, timestamps, headers)
        self.headers += headers or ()


def aggregation(**named: Any) -> Aggregation:
    app = App("test")
    source = app.topic("beats", Beat, key="key", time="ts")
    source.window(tumbling("1s"), **named).agg("sums", BeatSum, n=total("n"), top=maximum("n"))
    found = app.agents["sums"]
    assert isinstance(found, Aggregation)
    return found


def beats(*rows: tuple[int, int], first: int = 0) -> Batch:
    """Of (event time, number); taken in at 5000 and what follows."""
    offsets = np.arange(first, first + len(rows), dtype=np.int64)
    return Batch("beats", 0, Beat, offsets, offsets + 5000, records=[Beat("k", ts, n) for ts, n in rows])


async def test_results_are_stamped_with_the_event_that_closed_their_window():
    outlet = Outlet()
    task = AggregationTask(aggregation(), outlet, lambda: 0)
    await task.take(beats((0, 1), (500, 2), (1000, 4), (1500, 8), (2000, 16), (2001, 32)))
    assert outlet.sends == [("sums", [BeatSum("k", 0, 1000, 3, 2), BeatSum("k", 1000, 2000, 12, 8)], [5002, 5004])]


async def test_results_that_the_clock_brings_are_stamped_with_it():
    now = 100
    outlet = Outlet()
    task = AggregationTask(aggregation(idle="1s"), outlet, lambda: now)
    await task.take(beats((0, 1)))
    now = 1200
    await task.advance()
    await task.advance()
    assert outlet.sends == [("sums", [BeatSum("k", 0, 1000, 1, 1)], [1200])]


async def test_late_events_go_out_as_they_came_and_say_how_late():
    outlet = Outlet()
    task = AggregationTask(aggregation(), outlet, lambda: 0)
    await task.take(beats((0, 1), (3000, 2), (10, 3), (3001, 4), (20, 5)))
    assert outlet.sends[0] == ("sums-late", [Beat("k", 10, 3), Beat("k", 20, 5)], [5002, 5004])
    assert outlet.headers == [(("missed", b"1"), ("of", b"1"))] * 2
    assert task.late_events == 2


async def test_late_events_of_a_batch_with_the_needed_columns_only_are_whole():
    """A worker decodes just what its aggregations read, and the rest when somebody is late."""
    whole = beats((3000, 1), (0, 2))
    frame = whole.frame.select(sorted(needed_columns(aggregation()) or ()))
    lean = Batch("beats", 0, Beat, whole.offsets, whole.timestamps, frame=frame, whole=lambda: whole)
    assert lean.columns == ["key", "n", "ts"]
    outlet = Outlet()
    await AggregationTask(aggregation(), outlet, lambda: 0).take(lean)
    assert outlet.records("sums-late") == [Beat("k", 0, 2)]


async def test_a_result_that_does_not_fit_its_schema_is_put_aside_alone():
    """The sum's field holds 32 bits."""
    outlet = Outlet()
    task = AggregationTask(aggregation(), outlet, lambda: 0)
    rows = [(0, 2**30), (1, 2**30), (1000, 7), (2000, 1)]
    await task.take(beats(*rows))
    assert outlet.records("sums") == [BeatSum("k", 1000, 2000, 7, 7)]
    letter, _ = outlet.letters[0]
    assert (letter.stage, letter.reason, letter.topic, letter.offset) == ("sums", "invalid", "sums", None)
    assert letter.error.startswith("n: 2147483648 does not fit")
    assert letter.value == b'{"key":"k","start":0,"end":1000,"n":2147483648,"top":1073741824}'


async def test_nothing_comes_of_nothing():
    outlet = Outlet()
    task = AggregationTask(aggregation(idle=0), outlet, lambda: 0)
    await task.take(beats())
    await task.advance()
    await task.stop()
    assert outlet.sends == []


def test_tasks_by_definition():
    async def look(stream: Any) -> None: ...

    one, other = aggregation(), agent(look, sinks=0)
    assert isinstance(task_for(one, ListOutlet(), lambda: 0), AggregationTask)
    assert isinstance(task_for(other, ListOutlet(), lambda: 0), AgentTask)
    assert needed_columns(one) == {"key", "ts", "n"}
    assert needed_columns(other) is None


def test_a_count_needs_the_key_only():
    class Count(Record):
        __schema__ = "ping_count"
        key: str
        start: int
        end: int
        n: int

    app = App("test")
    app.topic("pings", Ping, key="key").window(tumbling("1s")).agg("counts", Count, n=count())
    assert needed_columns(app.agents["counts"]) == {"key"}
