"""Keepers: what the tasks of one partition know and give becomes durable at once, or not at all.

A keeper serves all stages that read one partition of one topic. Again and again, while something changed, it takes the
changed rows of their states and the positions that belong to them, and writes these, and the results that were held
back for them, in one Kafka transaction. Its transactional id belongs to the partition: whoever begins later with the
same id fences the one before, so that two workers that both believe to have the partition cannot both write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from streamproc.errors import ProducerFenced, StateError
from streamproc.log.batch_builder import Body
from streamproc.log.ports import Delivery
from streamproc.process.state import Changes, State
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transport.block import Block
from streamproc.state.head import FORMAT, Head
from streamproc.state.restore import Restored
from streamproc.state.rows import bodies

_MOST_HELD = 16 << 20  # bytes of results that wait for a flush; with more, no batch is begun
_SOURCES = "sources"  # the mark with the sources' ids
_REPEATS = "repeats"  # the mark with what was seen of others' results
_NEWS = 20.0  # seconds until the group must have told a worker that it has lost a partition
_log = logging.getLogger("streamproc.state")


class Result(NamedTuple):
    """A record batch that goes out with the flush."""

    topic: str
    partition: int
    body: Body


class Ahead:
    """Results that were sent ahead of their flush, and are not with Kafka yet."""

    def __init__(self) -> None:
        self._count = 0
        self._none: asyncio.Future[None] | None = None

    def sent(self) -> None:
        self._count += 1

    def settled(self) -> None:
        self._count -= 1
        if not self._count and self._none is not None and not self._none.done():
            self._none.set_result(None)

    async def delivered(self) -> None:
        """Returns when Kafka has all of them."""
        if self._count:
            self._none = asyncio.get_running_loop().create_future()
            await self._none


class Taken(NamedTuple):
    """What one task's flush is made of."""

    task: KeptTask
    changes: Changes
    head: Head
    results: Sequence[Result]
    blocks: Sequence[Block]
    ahead: Ahead


class Copy(Protocol):
    """A copy of a task's rows that has what the changelog has committed, and nothing else."""

    async def follow(self, changes: Changes, head: Head, next_offset: int) -> None:
        """Takes what was committed, before this offset of the changelog. Nothing more is taken from the state
        meanwhile. Raises StateError where it cannot.
        """


class KeptTask:
    """One stage's task, as its keeper sees it.

    Args:
        stage: its name.
        changelog: the topic of its rows.
        state: empty as yet.
        limit: bytes that a record batch of the changelog may have.
        sources: the topics whose offsets it counts by, and Kafka's ids of them, as far as they are known.
        holds_all: whether all results go with the flush, as where the order of the input is not that of one log.
        copy: of the rows, where there is one.
    """

    def __init__(
        self,
        stage: str,
        changelog: str,
        state: State,
        limit: int,
        sources: Mapping[str, str | None] = MappingProxyType({}),
        *,
        holds_all: bool = False,
        copy: Copy | None = None,
    ) -> None:
        self.copy = copy
        self.stage, self.changelog, self.state, self.limit = stage, changelog, state, limit
        self.sources, self._holds_all = dict(sources), holds_all
        #: Held while a batch is in work. While nobody holds it, state, position and results belong together.
        self.lock = asyncio.Lock()
        #: By topic, from where it must be read again after a crash: the first offset that the state has not seen.
        self.positions: dict[str, int] = {}
        #: By topic, which results of other stages had been seen there.
        self.repeats: dict[str, Any] = {}
        self.ahead = Ahead()
        self.held_bytes = 0  # of results
        self._results: list[Result] = []
        self._clocked = False  # whether the clock has moved the state, and nothing else since the last flush
        self._flushing = False  # whether that, or results, are in a flush that is under way
        self._spoiled = False
        self._blocks: list[Block] = []
        self.changed = False
        self.on_change: Callable[[], None] = lambda: None
        #: What is to be told of changes and header, in their flush.
        self.tell: Callable[[Changes, Mapping[str, int | None]], Sequence[Result]] = lambda changes, header: ()

    @property
    def holds(self) -> bool:
        """Whether results have to be held: others are, which these must not overtake, or the clock has moved the state,
        which a replay would not do.
        """
        return self._holds_all or bool(self._results) or self._clocked or self._flushing

    def saw(self, block: Block, position: int) -> None:
        """The state has seen a block. With the lock held. The block is finished when it need not be read again."""
        block.hold()
        self._blocks.append(block)
        self.positions[block.topic] = position
        self._touch()

    def note_waiting(self) -> None:
        """Marks the blocks that must be read again, because rows of theirs wait for other sources: so it may stay for
        long. Those of which none waits any more are finished with the next flush, whatever else it brings.
        """
        for block in self._blocks:
            waits = block.fetched.next_offset > self.positions[block.topic]
            if block.entry is not None:
                block.entry.waits = waits
            if not waits:
                self._touch()

    def clock(self) -> None:
        """The clock has moved the state. With the lock held. Nobody needs to know of it before the next event."""
        self._clocked = True

    def spoil(self) -> None:
        """The state has seen a part of a batch, and is of no use any more. With the lock held."""
        self._spoiled = True
        self.changed = False

    def fence(self) -> None:
        """Another worker has the partition: nothing that comes of this state may be sent, nor kept."""
        self._holds_all = True
        self.spoil()

    def hold(self, result: Result) -> None:
        """Keeps a result back for the flush. With the lock held."""
        self._results.append(result)
        self.held_bytes += len(result.body.data)
        self._touch()

    def take(self) -> Taken:
        """What has changed since the last time. With the lock held."""
        marks = {
            name: dict(value)
            for name, value in ((_SOURCES, self.sources), (_REPEATS, self.repeats))
            if any(value.values())
        }
        head = Head(FORMAT, self.state.version(), dict(self.positions), self.state.header(), marks)
        done = [block for block in self._blocks if block.fetched.next_offset <= self.positions[block.topic]]
        changes = self.state.changes()
        results = [*self._results, *self.tell(changes, head.header)]
        taken = Taken(self, changes, head, results, done, self.ahead)
        self._flushing = bool(self._results) or self._clocked
        self._clocked = False
        self._blocks = [block for block in self._blocks if block.fetched.next_offset > self.positions[block.topic]]
        self._results, self.ahead = [], Ahead()
        self.held_bytes, self.changed = 0, False
        return taken

    def flushed(self) -> None:
        """Kafka has all that was taken."""
        self._flushing = False

    def restore(self, found: Restored) -> None:
        """Takes over what was kept.

        Raises:
            StateError: it is of another version of the stage.
        """
        head = found.head
        if head is None:
            return
        if head.version != (version := self.state.version()):
            raise StateError(
                f"the state of {self.stage!r} in topic {self.changelog} was written by another version of it: expected "
                f"{version}; found {head.version}. To begin without it, delete that topic, or give the app another name"
            )
        self.state.restore(head.header, found.keys, found.values)
        ids, seen = head.marks.get(_SOURCES, {}), head.marks.get(_REPEATS, {})
        for topic, position in head.positions.items():
            now = self.sources.get(topic)
            if now is None or ids.get(topic, now) == now:
                self.positions[topic] = position
                if topic in seen:
                    self.repeats[topic] = seen[topic]
            else:
                said = "%s: %s was deleted and made anew; its state stays, and all of the new topic's events count"
                _log.warning(said, self.stage, topic)

    def _touch(self) -> None:
        if not (self.changed or self._spoiled):
            self.changed = True
            self.on_change()


Done = Callable[[Delivery], None]


class Batches(Protocol):
    """What a keeper needs of a transactional producer."""

    async def start(self) -> None: ...
    async def begin(self) -> None: ...
    async def send(self, topic: str, partition: int, body: Body, done: Done | None = None) -> None: ...
    async def commit(self) -> None: ...
    async def close(self, timeout: float | None = None) -> None: ...


class Changelogs(Protocol):
    """What a keeper needs of a reader of changelogs."""

    async def read(self, topic: str, partition: int, version: str) -> Restored: ...


class Keeper:
    """Keeps the tasks of one partition.

    Args:
        group: of the source topics: the name of one, where no stage reads it together with others.
        tasks: of the stages that read them.
        producer: transactional, not started; the keeper's own.
        changelogs: where state is read back.
        every: seconds between two flushes, at least.
        failed: called with what must stop the worker.
    """

    def __init__(
        self,
        group: str,
        partition: int,
        tasks: Sequence[KeptTask],
        producer: Batches,
        changelogs: Changelogs,
        metrics: WorkerMetrics,
        failed: Callable[[Exception], None],
        *,
        every: float,
    ) -> None:
        self.group, self.partition, self.tasks = group, partition, tasks
        self._producer, self._changelogs, self._metrics, self._failed = producer, changelogs, metrics, failed
        self._every = every
        self._began = 0.0  # when the last flush was
        self._changed = asyncio.Event()
        self._due = asyncio.Event()  # a flush is wanted at once
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        for task in tasks:
            task.on_change = self._changed.set
        self._opened: asyncio.Task[None] = asyncio.create_task(self._open(), name=f"restore {group}[{partition}]")
        self._runner: asyncio.Task[None] = asyncio.create_task(self._run(), name=f"keeper {group}[{partition}]")

    @property
    def opened(self) -> bool:
        """Whether the state is there."""
        return self._opened.done() and not self._opened.cancelled() and self._opened.exception() is None

    async def ready(self) -> None:
        """Returns when the state is there, and there is room for more results.

        Raises:
            StateError, BrokerError: the state cannot be had.
        """
        if not self.opened:
            await asyncio.shield(self._opened)
        if self._held() > _MOST_HELD:
            self._room.clear()
            self._due.set()
            await self._room.wait()

    async def close(self, *, flush: bool) -> None:
        """Stops. With ``flush``, keeps what has changed first; without, it is forgotten."""
        self._closing = True
        self._due.set()
        self._changed.set()
        self._room.set()
        if not flush or not self._opened.done():
            self._opened.cancel()
            self._runner.cancel()
        await asyncio.wait([self._runner, self._opened])
        await self._producer.close(None if flush else 0.0)

    async def _open(self) -> None:
        began = time.monotonic()
        await self._producer.start()  # from here on nobody before us can write
        reading = [self._changelogs.read(task.changelog, self.partition, task.state.version()) for task in self.tasks]
        for task, found in zip(self.tasks, await asyncio.gather(*reading), strict=True):
            task.restore(found)
            if found.head is not None:
                took, rows = time.monotonic() - began, len(found.keys)
                said = "%s[%d]: state of %s is there, %d rows, up to offset %s, after %.2f s"
                upto = ", ".join(f"{at} of {topic}" for topic, at in sorted(found.head.positions.items()))
                _log.info(said, self.group, self.partition, task.stage, rows, upto, took)
        self._metrics.recovery.labels(self.group).observe(time.monotonic() - began)

    async def _run(self) -> None:
        try:
            await asyncio.shield(self._opened)
            while True:
                if not self._closing:
                    await self._changed.wait()
                    await self._pause()
                self._changed.clear()
                if any(task.changed for task in self.tasks):
                    await self._flush()
                elif self._closing:
                    return
        except ProducerFenced as error:
            # Another worker has the partition. If the group does not say so soon, nobody has it.
            for task in self.tasks:
                task.fence()
            _log.warning("%s[%d]: %s", self.group, self.partition, error)
            if not await self._is_closed_within(_NEWS):
                self._failed(error)
        except Exception as error:
            self._failed(error)

    async def _is_closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not self._closing:
                    self._due.clear()
                    await self._due.wait()
        except TimeoutError:
            pass
        return self._closing

    async def _pause(self) -> None:
        """Until the next flush is due: at once, where the last one is long enough ago."""
        wait = self._began + self._every - time.perf_counter()
        if wait > 0:
            try:
                await asyncio.wait_for(self._due.wait(), wait)
            except TimeoutError:
                pass
        self._due.clear()

    async def _flush(self) -> None:
        self._began = began = time.perf_counter()
        taken: list[Taken] = []
        for task in self.tasks:
            if task.changed:
                async with task.lock:
                    if task.changed:  # it may have been spoilt meanwhile
                        taken.append(task.take())
        for part in taken:
            await part.ahead.delivered()
        ends = dict[KeptTask, int]()  # in the changelogs of tasks with copies
        await self._producer.begin()
        for part in taken:
            for result in part.results:
                await self._producer.send(*result)
            task, now = part.task, int(time.time() * 1000)
            for body in bodies(part.changes, part.head, now, topic=task.changelog, most=task.limit):
                done = partial(_note_end, ends, task, body.records) if task.copy is not None else None
                await self._producer.send(task.changelog, self.partition, body, done)
        await self._producer.commit()
        for part in taken:
            if part.task.copy is not None:
                await part.task.copy.follow(part.changes, part.head, ends[part.task])
            part.task.flushed()
            for topic, _, body in part.results:
                self._metrics.results.labels(topic).inc(body.records)
            for block in part.blocks:
                block.release()
        if self._held() <= _MOST_HELD:
            self._room.set()
        self._metrics.flush.labels(self.group).observe(time.perf_counter() - began)

    def _held(self) -> int:
        return sum(task.held_bytes for task in self.tasks)


def _note_end(ends: dict[KeptTask, int], task: KeptTask, records: int, first: Delivery) -> None:
    ends[task] = first.offset + records
