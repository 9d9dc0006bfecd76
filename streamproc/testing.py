"""Testing topologies: a driver with no broker and a clock moved by hand, and a check that every topology should pass.

::

    with TestDriver(app) as driver:
        driver.publish(events, Reading(...), Reading(...))
        driver.advance("1m")
        assert driver.results(bars) == [...]
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.batch import Batch, records_of
from streamproc.columns import Causes, Columns, Longs
from streamproc.define.app import App, Stage
from streamproc.define.deadletter import DeadLetter
from streamproc.define.duration import Duration, milliseconds
from streamproc.define.topic import Topic
from streamproc.errors import DefinitionError
from streamproc.log.partition import partition_of
from streamproc.log.ports import Headers
from streamproc.process.table_changes import TableChanges
from streamproc.record import Record
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.flow_task import FlowTask, Sequenced
from streamproc.runtime.shared_tables import everywhere, own_sources, shared_tables
from streamproc.runtime.tasks import AnyTask, task_for

T = TypeVar("T")


class Result(NamedTuple):
    """One record in a topic of the driver."""

    topic: str
    partition: int
    key: bytes | None
    record: Record
    timestamp: int
    headers: Headers


class Beat(NamedTuple):
    """How far a partition is of which another topic's is made."""

    partition: int
    offset: int
    origin: int
    time: int


class TestDriver:
    """Runs a topology without a broker. Every record is encoded and decoded as it would be on its way through Kafka.

    Agents run in an event loop of its own, so that it works inside and outside of a running one. Plain Faust agents
    (``app.faust``) are not run. Retries come at once: their waits are skipped, and the clock stands still.

    Args:
        app: the topology.
        now: the clock at the start, in milliseconds since the epoch; only :meth:`advance` moves it.
    """

    __test__ = False  # not a test case, though its name begins like one

    def __init__(self, app: App, *, now: int = 0) -> None:
        self.app = app
        self.now = now
        self.log: list[Result] = []
        self._registry = MemoryRegistry()
        self._codecs: dict[str, Codec] = {}
        self._tasks: dict[tuple[str, int], AnyTask] = {}
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._todo: deque[tuple[Topic, Batch | Beat]] = deque()
        self._shared = shared_tables(app)
        self._running: tuple[str, int] | None = None  # the stage and the partition in work
        self._spread = 0
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="TestDriver", daemon=True
        )
        self._thread.start()
        started.wait()

    def publish(
        self, topic: Topic, *records: Record, timestamps: Sequence[int] | None = None, partition: int | None = None
    ) -> None:
        """Puts records into a topic, as one batch per partition, and runs until nothing moves.

        Args:
            timestamps: when each is taken in; now, when None.
            partition: where they go; by their keys, when None.

        Raises:
            InvalidRecord: one does not fit its schema; none is in the topic.
            StreamprocError: what would have stopped a worker, such as an agent that returned.
        """
        if self.app.topics.get(topic.name) is not topic:
            raise DefinitionError(f"publish: topic {topic.name!r} is not one of app {self.app.name!r}")
        for record in records:
            if not isinstance(record, topic.record):
                raise TypeError(
                    f"publish: topic {topic.name!r} takes {topic.record.__name__}; got {type(record).__name__}"
                )
        stamps = timestamps if timestamps is not None else [self.now] * len(records)
        if len(stamps) != len(records):
            raise ValueError(f"publish: expected {len(records)} timestamps, one per record; got {len(stamps)}")
        self._call(self._publish(topic, records, stamps, partition))

    def advance(self, duration: Duration) -> None:
        """Moves the clock on, lets idle windows close, and runs until nothing moves."""
        self.now += milliseconds(duration, "advance")
        self._call(self._advance())

    def results(self, topic: Topic) -> list[Any]:
        """The records that have come to a topic, in order."""
        return [result.record for result in self.log if result.topic == topic.name]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        return self.results(self.app.dead_letters)

    def close(self) -> None:
        """Stops all agents."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def __enter__(self) -> TestDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The outlet of its tasks.

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        causes: Causes | None = None,
    ) -> None:
        """Appends to a topic, and hands it to those who read it."""
        self._append(topic, records, timestamps, headers, None, causes)

    async def send_columns(
        self,
        topic: Topic,
        columns: Columns,
        timestamps: Longs,
        partitions: Longs | None = None,
        causes: Causes | None = None,
    ) -> None:
        """As :meth:`send`, of rows given as columns."""
        self._append(topic, records_of(columns, topic.record), timestamps.tolist(), None, None, causes)

    async def beat(self, topic: Topic, partition: int, time: int, timestamp: int) -> None:
        """Tells those who read a topic that was rekeyed how far one of the partitions before that is."""
        for at in range(topic.partitions):
            offset = self._ends[topic.name, at]
            self._ends[topic.name, at] += 1
            self._todo.append((topic, Beat(at, offset, partition, time)))

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        """Appends to the dead letters."""
        if record is not None and letter.topic is not None:
            topic = self.app.topics[letter.topic]
            value = self._codec(topic).encode(record)
            letter = msgspec.structs.replace(letter, key=topic.key_of(record), value=value)
        await self.send(self.app.dead_letters, [letter], [self.now])

    # Inside.

    def _append(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None,
        partition: int | None,
        causes: Causes | None = None,
    ) -> None:
        codec = self._codec(topic)
        decoded = [codec.decode(codec.encode(record)) for record in records]  # all, before any is in the topic
        by_partition: dict[int, tuple[list[Record], list[int], list[int]]] = defaultdict(lambda: ([], [], []))
        for i, (record, timestamp) in enumerate(zip(decoded, timestamps, strict=True)):
            key = topic.key_of(record)
            at = self._partition(topic, key) if partition is None else partition
            self.log.append(Result(topic.name, at, key, record, timestamp, headers[i] if headers else ()))
            rows, stamps, numbers = by_partition[at]
            rows.append(record)
            stamps.append(timestamp)
            numbers.append(i)
        for at, (rows, stamps, numbers) in by_partition.items():
            first = self._ends[topic.name, at]
            self._ends[topic.name, at] += len(rows)
            offsets = np.arange(first, first + len(rows), dtype=np.int64)
            batch = Batch(topic.name, at, topic.record, offsets, np.array(stamps, np.int64), records=rows)
            if causes is not None and self._running is not None:
                stage, source = self._running
                batch.origins = causes.take(np.array(numbers, np.int64)).origins(stage, source)
            self._todo.append((topic, batch))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the driver is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self._ended.wait()
        for task in self._tasks.values():
            await task.stop()

    async def _publish(
        self, topic: Topic, records: Sequence[Record], timestamps: Sequence[int], partition: int | None
    ) -> None:
        self._append(topic, records, timestamps, None, partition)
        await self._settle()

    async def _settle(self) -> None:
        while self._todo or await self._tell():
            topic, batch = self._todo.popleft()
            for reader in self.app.readers(topic):
                if isinstance(batch, Batch) and (table := everywhere(reader)) is not None and table.topic is topic:
                    await self._put_everywhere(reader.name, batch)
                if topic not in own_sources(reader):
                    continue
                task = self._task(reader, batch.partition)
                self._running = (reader.name, batch.partition)
                if isinstance(batch, Batch):
                    await task.take(batch)
                elif isinstance(task, Sequenced):
                    await task.hear(topic.name, batch.offset, np.array([batch.origin]), np.array([batch.time]))
                self._running = None
                if isinstance(task, AgentTask):
                    await self._tell_changes(reader.name, batch.partition, task)

    async def _tell_changes(self, stage: str, partition: int, task: AgentTask) -> None:
        """As the flush of a worker would, after every batch."""
        streams = [table.change_stream for table in self.app.tables.values() if table.change_stream is not None]
        if streams:
            changes, time = task.tables.changes(), task.tables.header()["time"]
            for stream, records in TableChanges(streams, stage, partition).records(changes, time, self.now):
                await self.send(stream.channel, records, [self.now] * len(records))

    async def _put_everywhere(self, stage: str, batch: Batch) -> None:
        self._shared[stage].put(batch)
        for (name, _), task in self._tasks.items():
            if name == stage and isinstance(task, FlowTask):
                await task.table_moved(batch.partition)

    def _task(self, reader: Stage, partition: int) -> AnyTask:
        at = (reader.name, partition)
        if at not in self._tasks:
            task = self._tasks[at] = task_for(reader, self, lambda: self.now, None, self._shared.get(reader.name))
            if isinstance(task, AgentTask):
                task.pause = _at_once
        return self._tasks[at]

    async def _tell(self) -> bool:
        """Lets stages that rekey tell how far they are; whether one had something to tell."""
        told = [await task.tell() for task in self._tasks.values() if isinstance(task, FlowTask)]
        return any(told) and bool(self._todo)

    async def _advance(self) -> None:
        for task in list(self._tasks.values()):
            await task.advance()
        await self._settle()

    def _codec(self, topic: Topic) -> Codec:
        if topic.name not in self._codecs:
            self._codecs[topic.name] = Codec.of(topic, self._registry)
        return self._codecs[topic.name]

    def _partition(self, topic: Topic, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, topic.partitions)
        self._spread += 1
        return self._spread % topic.partitions


async def _at_once(_: float) -> None:
    """In place of a retry's wait."""


Part = tuple[Topic, int, list[Record], range]  # a batch to publish: its topic, partition, records and timestamps
Outcome = dict[tuple[str, bytes | None], list[Any]]


def split_invariant(app: App, inputs: Mapping[Topic, Sequence[Record]], *, tries: int = 20, seed: int = 0) -> None:
    """Checks that a topology's results do not depend on how its inputs were cut into batches.

    The inputs, partition by partition, are run whole, one by one, and cut at random ``tries`` times. Each topic must
    hold the same records, bit for bit, with the same timestamps and headers and in the same order per key, every time
    (in any order, where several agents write it). So must the dead letters, but for their time and traceback. Of a
    table's changes only the last of each row counts, for how many there are in between depends on flushes; what reads
    them may see that. The clock stands still; events are taken in a millisecond apart.

    Raises:
        AssertionError: two runs differ; the message names the topic, the key and the first difference.
    """
    chance = random.Random(seed)
    whole = [(topic, at, rows, stamps) for topic, rows in inputs.items() for at, rows, stamps in _parts(topic, rows)]
    want = _run(app, whole)
    _compare(want, _run(app, _cut(whole, lambda: 1)), "one by one")
    for attempt in range(tries):
        got = _run(app, _cut(whole, lambda: chance.choice((1, 2, 3, 7, 50, 1000))))
        _compare(want, got, f"cut at random (try {attempt + 1}, seed {seed})")


def _parts(topic: Topic, records: Sequence[Record]) -> Iterator[tuple[int, list[Record], range]]:
    by_partition: dict[int, list[Record]] = defaultdict(list)
    for i, record in enumerate(records):
        key = topic.key_of(record)
        by_partition[i % topic.partitions if key is None else partition_of(key, topic.partitions)].append(record)
    for partition, rows in by_partition.items():
        yield partition, rows, range(len(rows))


def _cut(parts: Iterable[Part], length: Callable[[], int]) -> Iterator[Part]:
    for topic, partition, records, stamps in parts:
        start = 0
        while start < len(records):
            stop = start + length()
            yield topic, partition, records[start:stop], stamps[start:stop]
            start = stop


def _run(app: App, parts: Iterable[Part]) -> Outcome:
    """What each topic holds in the end, by key."""
    out: Outcome = defaultdict(list)
    writers = Counter(sink.name for agent in app.agents.values() for sink in agent.sinks)
    changes = {table.change_stream.channel.name for table in app.tables.values() if table.change_stream is not None}
    last: dict[tuple[Any, ...], Any] = {}  # by row of a table: its last change
    with TestDriver(app) as driver:
        for topic, partition, records, stamps in parts:
            driver.publish(topic, *records, timestamps=stamps, partition=partition)
        for result in driver.log:
            record, timestamp = result.record, result.timestamp
            if isinstance(record, DeadLetter):
                record, timestamp = msgspec.structs.replace(record, time=0, traceback=None), 0
            value = driver._codec(app.topics[result.topic]).encode(record)[FRAME.size :]
            entry = (value, timestamp, result.headers, f"{record} at {timestamp}")
            if result.topic not in changes:
                out[result.topic, result.key].append(entry)
                continue
            row = (result.topic, result.key, getattr(record, "stage", None), getattr(record, "partition", None))
            last[row] = entry
            if getattr(record, "value", None) is None:
                del last[row]
    for (name, key, *_), entry in last.items():
        out[name, key].append(entry)
    for (name, _), results in out.items():
        if writers[name] > 1 or name in changes or name == app.dead_letters.name:
            results.sort()
    return out


def _compare(want: Outcome, got: Outcome, how: str) -> None:
    for at in sorted(want.keys() | got.keys(), key=repr):
        a, b = want.get(at, []), got.get(at, [])
        for i, (x, y) in enumerate(zip_longest(a, b)):
            if x != y:
                first, second = (entry[-1] if entry else "nothing" for entry in (x, y))
                raise AssertionError(
                    f"topic {at[0]!r}, key {at[1]!r}: {len(a)} results when run whole, {len(b)} {how}; "
                    f"the first difference is result {i}: {first}, against {second}"
                )
