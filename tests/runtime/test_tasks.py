"""Aggregations as tasks: late events and results to the outlet."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from streamproc import App, Record, count, maximum, own, sliding, total, tumbling
from streamproc.avro.writer import Misfits
from streamproc.batch import Batch
from streamproc.define.aggregation import Aggregation
from streamproc.errors import InvalidRecord, OversizedRecord
from streamproc.log.partition import partition_of
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

    async def send(self, topic: Any, records: Any, timestamps: Any, headers: Any = None, causes: Any = None) -> None:
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


async def test_a_late_event_that_is_too_large_is_put_aside_alone():
    class Small(Outlet):
        async def send(self, topic: Any, records: Any, *rest: Any) -> None:
            if any(record.n == 3 for record in records if isinstance(record, Beat)):
                raise OversizedRecord(topic.name, 2000, 1000)
            await super().send(topic, records, *rest)

    outlet = Small()
    task = AggregationTask(aggregation(), outlet, lambda: 0)
    await task.take(beats((0, 1), (3000, 2), (10, 3), (3001, 4), (20, 5)))
    assert outlet.records("sums-late") == [Beat("k", 20, 5)]
    ((letter, record),) = outlet.letters
    assert (letter.stage, letter.reason, letter.topic, letter.offset) == ("sums", "too_large", "beats", 2)
    assert record == Beat("k", 10, 3)


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


class Picky(Outlet):
    """Refuses columns as the Kafka outlet does: naming the rows. Counts the tries."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[int] = []
        self.partitions: list[int] = []

    async def send_columns(
        self, topic: Any, columns: Any, timestamps: Any, partitions: Any = None, causes: Any = None
    ) -> None:
        self.tries.append(len(columns))
        bad = np.array([i for i, n in enumerate(columns.values("n")) if n >= 2**31])
        if len(bad):
            raise Misfits(InvalidRecord(f"row {bad[0]}", "n"), bad)
        self.partitions += partitions.tolist()
        await super().send_columns(topic, columns, timestamps, partitions)


async def test_rows_that_do_not_fit_are_found_at_once_and_put_aside_alone():
    outlet = Picky()
    task = AggregationTask(aggregation(), outlet, lambda: 0)
    await task.take(beats(*((1000 * i, 2**31 if i in (3, 7) else i) for i in range(21))))
    assert outlet.tries == [20, 18, 1, 1]
    assert [record.start // 1000 for record in outlet.records("sums")] == [i for i in range(20) if i not in (3, 7)]
    assert outlet.sends[0][2] == [5001 + i for i in range(20) if i not in (3, 7)]
    assert outlet.partitions == [partition_of(b"k", task.definition.sink.partitions)] * 18
    assert [json.loads(letter.value or b"")["start"] for letter, _ in outlet.letters] == [3000, 7000]


async def test_results_go_out_in_one_piece_with_their_partitions():
    outlet = Picky()
    task = AggregationTask(aggregation(idle="1s"), outlet, lambda: 10_000)
    offsets = np.arange(5, dtype=np.int64)
    rows = [Beat(f"k{i}", 0, i) for i in range(4)] + [Beat("k0", 1000, 1)]
    await task.take(Batch("beats", 0, Beat, offsets, offsets + 5000, records=rows))
    sink = task.definition.sink
    assert outlet.tries == [4]
    keys = [record.key.encode() for record in outlet.records("sums")]
    assert sorted(keys) == [b"k0", b"k1", b"k2", b"k3"]
    assert outlet.partitions == [partition_of(key, sink.partitions) for key in keys]


class Top:
    """The greatest, of its own; takes no 3, and gives nothing where a 7 was."""

    def __init__(self) -> None:
        self.top = 0

    def add(self, n: int) -> None:
        if n == 3:
            raise ValueError("a three")
        self.top = max(self.top, n)

    def merge(self, other: Top) -> None:
        self.top = max(self.top, other.top)

    def close(self) -> int:
        if self.top == 7:
            raise ArithmeticError("a seven")
        return self.top


def with_own(window: Any = None, **named: Any) -> Aggregation:
    app = App("test")
    source = app.topic("beats", Beat, key="key", time="ts")
    source.window(window or tumbling("1s"), **named).agg("sums", BeatSum, n=total("n"), top=own(Top, "n", type=int))
    found = app.agents["sums"]
    assert isinstance(found, Aggregation)
    return found


async def test_what_a_class_of_ones_own_does_not_take_or_give_is_put_aside():
    """The rest goes out with its own timestamps and partitions."""
    outlet = Picky()
    task = AggregationTask(with_own(), outlet, lambda: 0)
    await task.take(beats((0, 1), (1000, 3), (1500, 7), (2000, 2), (2001, 3), (3000, 5), (4000, 1), first=50))
    assert outlet.records("sums") == [
        BeatSum("k", 0, 1000, 1, 1),
        BeatSum("k", 2000, 3000, 5, 2),
        BeatSum("k", 3000, 4000, 5, 5),
    ]
    assert outlet.sends[0][2] == [5051, 5055, 5056]
    assert len(outlet.partitions) == 3
    (first, one), (second, other), (result, none) = outlet.letters
    assert [one, other, none] == [Beat("k", 1000, 3), Beat("k", 2001, 3), None]
    assert [(x.stage, x.reason, x.topic, x.partition, x.offset) for x in (first, second, result)] == [
        ("sums", "aggregate_error", "beats", 0, 51),
        ("sums", "aggregate_error", "beats", 0, 54),
        ("sums", "aggregate_error", "sums", None, None),
    ]
    assert first.error == "top: ValueError: a three"
    assert 'raise ValueError("a three")' in str(first.traceback)
    assert result.error == "top: ArithmeticError: a seven"
    assert 'raise ArithmeticError("a seven")' in str(result.traceback)
    assert result.value == b'{"key":"k","start":1000,"end":2000,"n":10,"top":null}'


async def test_what_the_clock_brings_may_be_broken_too():
    now = 100
    outlet = Outlet()
    task = AggregationTask(with_own(sliding("1s"), idle="1s"), outlet, lambda: now)
    await task.take(beats((0, 7)))
    await task.take(beats((1500, 3), first=1))
    now = 1200
    await task.advance()
    assert outlet.records("sums") == [BeatSum("k", 501, 1501, 3, 0)]
    (broken, _), (refused, record) = outlet.letters
    assert (broken.topic, broken.error) == ("sums", "top: ArithmeticError: a seven")
    # Of sliding windows events are told when their batch has gone.
    assert (refused.topic, refused.partition, refused.offset, record) == ("beats", 0, 1, None)


async def test_events_that_are_refused_are_whole_in_their_letters():
    whole = beats((0, 3), (1, 2))
    frame = whole.frame.select(sorted(needed_columns(with_own()) or ()))
    lean = Batch("beats", 0, Beat, whole.offsets, whole.timestamps, frame=frame, whole=lambda: whole)
    outlet = Outlet()
    await AggregationTask(with_own(), outlet, lambda: 0).take(lean)
    assert [record for _, record in outlet.letters] == [Beat("k", 0, 3)]


async def test_an_event_that_two_classes_refuse_has_one_letter():
    app = App("test")
    source = app.topic("beats", Beat, key="key", time="ts")
    both = {"n": own(Top, "n", type=int), "top": own(Top, "n", type=int)}
    source.window(tumbling("1s")).agg("sums", BeatSum, **both)
    outlet = Outlet()
    await task_for(app.agents["sums"], outlet, lambda: 0).take(beats((0, 3), (1, 7), (1000, 1)))
    assert [letter.error for letter, _ in outlet.letters] == [
        "n: ValueError: a three; top: ValueError: a three",
        "n: ArithmeticError: a seven; top: ArithmeticError: a seven",
    ]
    assert outlet.records("sums") == []
