"""Runs one stage (an agent, an aggregation, a part of a flow) over the blocks of all its partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from streamproc.batch import Batch
from streamproc.define.app import Stage
from streamproc.runtime.agent_task import AgentStopped, AgentTask
from streamproc.runtime.clock import Clock
from streamproc.runtime.disk_stores import DiskStores
from streamproc.runtime.flow_task import FlowTask, Sequenced
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.keeper import Keeper, KeptTask
from streamproc.runtime.metrics import StageMetrics, WorkerMetrics
from streamproc.runtime.repeats import Repeats
from streamproc.runtime.shared_tables import SharedTable, everywhere, own_sources
from streamproc.runtime.table_pages import LiveTables
from streamproc.runtime.tasks import AggregationTask, AnyTask, task_for
from streamproc.runtime.topic_reader import TopicReader
from streamproc.runtime.transport.block import Block
from streamproc.state import topics as changelogs

_MOST_WAITING = 250_000  # rows of a source that wait for other sources; with more, no more of it is fetched
_log = logging.getLogger("streamproc.worker")

Source = tuple[str, int]  # a topic's name and a partition


def _hold_nobody(topic: str, partition: int, held: bool) -> None:
    """Where nobody fetches."""


class Runner:
    """One stage, and its task per partition.

    Args:
        definition: what it runs.
        readers: of its source topics, by name, shared with others that read them.
        keeper: of a partition of the sources, where there is one.
        shared: the table that is everywhere, of stages that have one.
        hold: called with a source whose fetching is to be held back, or is to go on.
        stores: of the tasks of agents, where the app has tables on disk.
    """

    def __init__(
        self,
        definition: Stage,
        readers: Mapping[str, TopicReader],
        outlet: KafkaOutlet,
        metrics: WorkerMetrics,
        clock: Clock,
        keeper: Callable[[int], Keeper | None] = lambda partition: None,
        hold: Callable[[str, int, bool], None] = _hold_nobody,
        shared: SharedTable | None = None,
        stores: DiskStores | None = None,
    ) -> None:
        self.definition, self._stores = definition, stores
        self._changelog = changelogs.name(definition.source.app.name, definition.name)
        self.sources = tuple(topic.name for topic in own_sources(definition))
        table = everywhere(definition)
        self._clocks = self.sources if table is None else (*self.sources, table.topic.name)
        self._shared = shared
        self._keeper, self._hold = keeper, hold
        self._one = asyncio.Lock()  # one batch at a time, or the clock
        self._kept: dict[int, KeptTask] = {}
        self._keeps = False  # whether its tasks have state to keep
        self._readers, self._outlet, self._clock = readers, outlet, clock
        self._all_metrics, self._metrics = metrics, StageMetrics(metrics, definition.name)
        self._tasks: dict[int, AnyTask] = {}
        self._idle_clocks: dict[Source, int] = {}  # in milliseconds
        self._next: dict[Source, int] = {}  # the first offset that its state has not seen
        self._repeats: dict[Source, Repeats] = {}
        #: Of sources whose rows may have to be read again: what had been seen of others' results before those offsets.
        self._seen_before: dict[Source, deque[tuple[int, Any]]] = {}
        self._held: set[Source] = set()
        self._late: dict[int, int] = {}  # by partition: how many late events the metric knows of
        self._retries: dict[int, int] = {}  # the same, of retries

    async def take(self, block: Block) -> None:
        """Runs a block through the partition's task, and lets go of it."""
        began = time.perf_counter()
        keeper = self._keeper(block.partition)
        kept = self._kept.get(block.partition)
        if kept is None and self._keeps:
            return  # the partition is not this worker's
        if keeper is not None and kept is not None and not await self._is_ready(keeper, kept, block):
            return
        async with self._one, kept.lock if kept is not None else nullcontext():
            if self._kept.get(block.partition) is not kept:
                return  # the partition went to another worker meanwhile, and the block with it
            self._outlet.block, self._outlet.kept = block, kept
            try:
                with block.at_work():
                    went = await self._run(block, kept)
                if not went:
                    if kept is not None:
                        kept.spoil()
                    return
            except BaseException:
                if kept is not None:
                    kept.spoil()
                raise
            finally:
                self._outlet.block = self._outlet.kept = None
            at = (block.topic, block.partition)
            self._next[at] = max(block.fetched.next_offset, self._next.get(at, 0))
            if kept is not None:
                kept.saw(block, self._next[at])
            self._note_waiting(block.partition, kept)
        took = time.perf_counter() - began
        self._metrics.processing.observe(took)
        block.leave(took)

    async def _is_ready(self, keeper: Keeper, kept: KeptTask, block: Block) -> bool:
        """Waits for a partition's state. False when it went to another worker meanwhile."""
        partition = block.partition
        try:
            await keeper.ready()
        except asyncio.CancelledError:
            if self._keeper(partition) is keeper:
                raise
            return False
        at = (block.topic, partition)
        if at not in self._next:
            self._take_over(kept, at, block.fetched.first_offset)
        return True

    def _take_over(self, kept: KeptTask, at: Source, first: int) -> None:
        """Goes on where the state that was kept ends."""
        topic, partition = at
        position = kept.positions.get(topic)
        if position is None:
            if isinstance(task := self._tasks.get(partition), Sequenced):
                task.front.restart(topic)
            return
        self._next[at] = position
        if topic in kept.repeats:
            self._repeats[at] = Repeats.restored(kept.repeats[topic])
        if first > position:
            said = "%s: offsets %d to %d of %s[%d] were never read: deleted, or the group was moved past them"
            _log.error(said, self.definition.name, position, first - 1, topic, partition)

    async def _run(self, block: Block, kept: KeptTask | None) -> bool:
        """False when the partition went to another worker meanwhile."""
        at = (block.topic, block.partition)
        task = self._task(block.partition)
        if block.fetched.restarted:  # the topic was made anew, and counts from the start again
            for known in (self._next, self._repeats, self._seen_before):
                known.pop(at, None)
            if kept is not None:
                kept.sources[block.topic] = None
                kept.repeats.pop(block.topic, None)
            if isinstance(task, Sequenced):
                task.front.restart(block.topic)
        reader, first = self._readers[block.topic], self._next.get(at, 0)
        for batch in await reader.read(block, self._outlet, self.definition.source.app.name):
            fresh = self._fresh(batch)
            if not len(fresh):
                continue
            try:
                await task.take(fresh)
            except (AgentStopped, asyncio.CancelledError):
                if self._tasks.get(block.partition) is task:
                    raise
                return False
            self._next[at] = int(fresh.offsets[-1]) + 1
            self._metrics.events.inc(len(fresh))
            self._metrics.latency.observe(max(0.0, (self._clock() - int(fresh.timestamps[-1])) / 1000))
        if isinstance(task, Sequenced):
            for offset, partition, reached in reader.beats(block):
                if offset >= first:  # also those before the block's last row: what one partition tells, no other does
                    await task.hear(block.topic, offset, partition, reached)
        return True

    def _fresh(self, batch: Batch) -> Batch:
        """The rows that the state has not seen: after a rebalance some come again, and after a crash results that their
        stages had sent already.
        """
        at = (batch.topic, batch.partition)
        first = self._next.get(at, 0)
        if first > int(batch.offsets[0]):
            batch = batch.slice(int(batch.offsets.searchsorted(first)), len(batch))
        if batch.origins is None or not len(batch):
            return batch
        repeats = self._repeats.setdefault(at, Repeats())
        if self.definition.sequenced:
            self._seen_before.setdefault(at, deque()).append((int(batch.offsets[0]), repeats.marks()))
        return repeats.fresh(batch)

    def _note_waiting(self, partition: int, kept: KeptTask | None) -> None:
        """Notes from where the sources must be read again, and holds those back of which too much waits. With the lock
        held.
        """
        task = self._tasks.get(partition)
        for topic in self.sources:
            at = (topic, partition)
            if isinstance(task, Sequenced) and task.front.sequencer is not None:
                self._hold_back(at, task.front.waiting_of(topic))
                since = task.front.waiting_from(topic)
            else:
                since = None
            if kept is None or at not in self._next:
                continue
            kept.positions[topic] = self._next[at] if since is None else since
            if at in self._repeats:
                kept.repeats[topic] = self._marks(at, since)
        if kept is not None:
            kept.note_waiting()

    def _marks(self, at: Source, since: int | None) -> Any:
        """What had been seen of others' results, before the offset from which rows wait."""
        kept = self._seen_before.get(at, deque())
        while kept and (since is None or kept[0][0] < since):
            kept.popleft()
        return self._repeats[at].marks() if since is None or not kept else kept[0][1]

    def _hold_back(self, at: Source, waiting: int) -> None:
        if waiting > _MOST_WAITING and at not in self._held:
            self._held.add(at)
            self._hold(*at, True)
        elif waiting < _MOST_WAITING // 2 and at in self._held:
            self._held.remove(at)
            self._hold(*at, False)

    def keep_state(self, partition: int, limit: int, sources: Mapping[str, str | None]) -> KeptTask | None:
        """A partition's task, made now, for its keeper; None where it has no state to keep. ``limit`` and ``sources``
        are those of :class:`KeptTask`.
        """
        state = self._task(partition).state
        if state is None:
            return None
        name, topic = self.definition.name, self._changelog
        copy = None if self._stores is None else self._stores.copy(topic, partition, state)
        kept = KeptTask(name, topic, state, limit, sources, holds_all=self.definition.sequenced, copy=copy)
        self._kept[partition], self._keeps = kept, True
        return kept

    def idle_for(self, topic: str, partition: int, ms: int) -> None:
        """A source had nothing to give for so long. Windows see only this time pass, not that in which the worker was
        held up or did not hear from Kafka.
        """
        if (topic, partition) in self._idle_clocks:
            self._idle_clocks[topic, partition] += ms

    def table_idle_for(self, ms: int) -> None:
        """The table that is everywhere had nothing to give for so long."""
        for partition in self._tasks:
            self._idle_clocks[self._clocks[-1], partition] += ms

    async def table_moved(self, partition: int) -> None:
        """A partition of the table that is everywhere has come further."""
        assert self._shared is not None
        for number, task in list(self._tasks.items()):
            async with self._in_work(number):
                if isinstance(task, FlowTask) and self._tasks.get(number) is task:
                    keeper = self._keeper(number)
                    await task.table_moved(partition, release=keeper is None or keeper.opened)
                    self._note_waiting(number, self._kept.get(number))
        tasks = [task for task in self._tasks.values() if isinstance(task, FlowTask)]
        self._shared.prune(task.front.sequencer.frontier for task in tasks if task.front.sequencer is not None)

    @asynccontextmanager
    async def _in_work(self, partition: int) -> AsyncIterator[KeptTask | None]:
        """While nothing else is; results belong to no block."""
        kept = self._kept.get(partition)
        async with self._one, kept.lock if kept is not None else nullcontext():
            self._outlet.kept = kept
            try:
                yield kept
            finally:
                self._outlet.kept = None

    def is_held(self, topic: str, partition: int) -> bool:
        """Whether so much of a source waits for others that no more is fetched."""
        return (topic, partition) in self._held

    def is_at(self, topic: str, partition: int) -> bool:
        """Whether a block of a source is in work."""
        block = self._outlet.block
        return block is not None and (block.topic, block.partition) == (topic, partition)

    def progress(self, topic: str, partition: int) -> Hashable:
        """How far it is with a source: something else whenever it has come further."""
        task = self._tasks.get(partition)
        waits = isinstance(task, AgentTask) and task.waits_to_retry
        at = task.progress if isinstance(task, AgentTask) else None
        return self._next.get((topic, partition)), at, time.monotonic() if waits else None

    def live_tables(self) -> list[LiveTables]:
        """The tables of its tasks, for a look from outside."""
        found = []
        for partition, task in self._tasks.items():
            if isinstance(task, AgentTask):
                keeper = self._keeper(partition)
                tables = task.tables if keeper is None or keeper.opened else None
                positions = {topic: at for (topic, number), at in self._next.items() if number == partition}
                found.append(LiveTables(self.definition.name, partition, tables, positions))
        return found

    async def advance(self) -> None:
        """Lets the time of idle partitions close their windows."""
        if self._one.locked():
            return
        for partition, task in list(self._tasks.items()):
            keeper = self._keeper(partition)
            if keeper is not None and not keeper.opened:
                continue
            async with self._in_work(partition) as kept:
                if await task.advance() and kept is not None:
                    kept.clock()
                if self.definition.sequenced:
                    self._note_waiting(partition, kept)

    async def keep(self, partitions: Iterable[int]) -> None:
        """Drops the state of all partitions but these: another worker has them now."""
        self._held.clear()  # with new partitions all are fetched again
        for partition in set(self._tasks) - set(partitions):
            self._kept.pop(partition, None)
            await self._tasks.pop(partition).stop()
            for topic in self._clocks:
                at = (topic, partition)
                for known in (self._next, self._idle_clocks, self._repeats, self._seen_before):
                    known.pop(at, None)
            self._late.pop(partition, None)
            self._retries.pop(partition, None)
            self._clear_gauges(partition)
        self._metrics.tasks.set(len(self._tasks))

    async def stop(self) -> None:
        await self.keep(())

    def observe(self) -> None:
        """Sets the gauges."""
        self._metrics.tasks.set(len(self._tasks))
        for partition, task in self._tasks.items():
            if isinstance(task, AggregationTask):
                at, metrics = (self.definition.name, str(partition)), self._all_metrics
                self._metrics.late.inc(task.late_events - self._late.get(partition, 0))
                self._late[partition] = task.late_events
                metrics.watermark.labels(*at).set((task.window.stream_time or 0) / 1000)
                metrics.open_panes.labels(*at).set(task.window.open_panes)
                metrics.keys.labels(*at).set(task.window.keys)
            elif isinstance(task, FlowTask):
                self._metrics.late.inc(task.late_events - self._late.get(partition, 0))
                self._late[partition] = task.late_events
            elif isinstance(task, AgentTask):
                self._metrics.retries.inc(task.retries - self._retries.get(partition, 0))
                self._retries[partition] = task.retries

    def _task(self, partition: int) -> AnyTask:
        if partition not in self._tasks:
            for topic in self._clocks:
                self._idle_clocks[topic, partition] = self._clock()

            def clock_of(topic: str) -> int:  # a task may ask once more after its partition has gone
                return self._idle_clocks.get((topic, partition), 0)

            def clock() -> int:
                return min(map(clock_of, self.sources))

            store = None if self._stores is None else self._stores.made(self._changelog, partition)
            self._tasks[partition] = task_for(self.definition, self._outlet, clock, clock_of, self._shared, store)
        return self._tasks[partition]

    def _clear_gauges(self, partition: int) -> None:
        for gauge in (self._all_metrics.watermark, self._all_metrics.open_panes, self._all_metrics.keys):
            _forget(gauge, self.definition.name, str(partition))


def _forget(gauge: Any, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        pass
