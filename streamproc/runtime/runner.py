"""Runs one agent or aggregation over the blocks of all its partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from streamproc.batch import Batch
from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.runtime.agent_task import AgentStopped, AgentTask
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.keeper import Keeper, KeptTask
from streamproc.runtime.metrics import StageMetrics, WorkerMetrics
from streamproc.runtime.tasks import AggregationTask, Clock, Task, task_for
from streamproc.runtime.topic_reader import TopicReader
from streamproc.runtime.transport.block import Block
from streamproc.state import topics as changelogs

_log = logging.getLogger("streamproc.worker")


class Runner:
    """One agent or aggregation, and its task per partition.

    Args:
        definition: what it runs.
        reader: of its source topic, shared with others that read it.
        keeper: of a partition of the source, where there is one.
    """

    def __init__(
        self,
        definition: Agent | Aggregation,
        reader: TopicReader,
        outlet: KafkaOutlet,
        metrics: WorkerMetrics,
        clock: Clock,
        keeper: Callable[[int], Keeper | None] = lambda partition: None,
    ) -> None:
        self.definition = definition
        self._keeper = keeper
        self._one = asyncio.Lock()  # one batch at a time, or the clock
        self._kept: dict[int, KeptTask] = {}
        self._reader, self._outlet, self._clock = reader, outlet, clock
        self._all_metrics, self._metrics = metrics, StageMetrics(metrics, definition.name)
        self._tasks: dict[int, Task] = {}
        self._idle_clocks: dict[int, int] = {}  # by partition, in milliseconds
        self._next: dict[int, int] = {}  # by partition: the first offset that its state has not seen
        self._late: dict[int, int] = {}  # by partition: how many late events the metric knows of
        self._retries: dict[int, int] = {}  # the same, of retries

    async def take(self, block: Block) -> None:
        """Runs a block through the partition's task, and lets go of it."""
        began = time.perf_counter()
        keeper = self._keeper(block.partition)
        kept = self._kept.get(block.partition)
        first = block.fetched.first_offset
        if keeper is not None and kept is not None and not await self._is_ready(keeper, kept, block.partition, first):
            return
        async with self._one, kept.lock if kept is not None else nullcontext():
            if self._kept.get(block.partition) is not kept:
                return  # the partition went to another worker meanwhile, and the block with it
            self._outlet.block, self._outlet.kept = block, kept
            try:
                if not await self._run(block, kept):
                    if kept is not None:
                        kept.spoil()
                    return
            except BaseException:
                if kept is not None:
                    kept.spoil()
                raise
            finally:
                self._outlet.block = self._outlet.kept = None
            if kept is not None:
                kept.saw(block, max(block.fetched.next_offset, self._next.get(block.partition, 0)))
        took = time.perf_counter() - began
        self._metrics.processing.observe(took)
        block.leave(took)

    async def _is_ready(self, keeper: Keeper, kept: KeptTask, partition: int, first: int) -> bool:
        """Waits for a partition's state. False when it went to another worker meanwhile."""
        try:
            await keeper.ready()
        except asyncio.CancelledError:
            if self._keeper(partition) is keeper:
                raise
            return False
        if kept.position is not None and partition not in self._next:
            self._next[partition] = kept.position
            if first > kept.position:
                said = "%s: offsets %d to %d of %s[%d] were never read: deleted, or the group was moved past them"
                source = self.definition.source.name
                _log.error(said, self.definition.name, kept.position, first - 1, source, partition)
        return True

    async def _run(self, block: Block, kept: KeptTask | None) -> bool:
        """False when the partition went to another worker meanwhile."""
        if block.fetched.restarted:  # the topic was made anew, and counts from the start again
            self._next.pop(block.partition, None)
            if kept is not None:
                kept.source = None
        for batch in await self._reader.read(block, self._outlet, self.definition.source.app.name):
            fresh = self._unseen(batch)
            if not len(fresh):
                continue
            task = self._task(block.partition)
            try:
                await task.take(fresh)
            except (AgentStopped, asyncio.CancelledError):
                if self._tasks.get(block.partition) is task:
                    raise
                return False
            self._next[block.partition] = int(fresh.offsets[-1]) + 1
            self._metrics.events.inc(len(fresh))
            self._metrics.latency.observe(max(0.0, (self._clock() - int(fresh.timestamps[-1])) / 1000))
        return True

    def keep_state(self, partition: int, limit: int, source: str | None) -> KeptTask | None:
        """A partition's task, made now, for its keeper; None where it has no state to keep. ``limit`` and ``source``
        are those of :class:`KeptTask`.
        """
        state = self._task(partition).state
        if state is None:
            return None
        name = self.definition.name
        topic = changelogs.name(self.definition.source.app.name, name)
        kept = self._kept[partition] = KeptTask(name, topic, state, limit, source)
        return kept

    def idle_for(self, partition: int, ms: int) -> None:
        """A partition had nothing to give for so long. Windows see only this time pass, not that in which the worker
        was held up or did not hear from Kafka.
        """
        if partition in self._idle_clocks:
            self._idle_clocks[partition] += ms

    async def advance(self) -> None:
        """Lets the time of idle partitions close their windows."""
        if self._one.locked():
            return
        for partition, task in list(self._tasks.items()):
            keeper, kept = self._keeper(partition), self._kept.get(partition)
            if keeper is not None and not keeper.opened:
                continue
            async with self._one, kept.lock if kept is not None else nullcontext():
                self._outlet.kept = kept
                try:
                    if await task.advance() and kept is not None:
                        kept.clock()
                finally:
                    self._outlet.kept = None

    async def keep(self, partitions: Iterable[int]) -> None:
        """Drops the state of all partitions but these: another worker has them now."""
        for partition in set(self._tasks) - set(partitions):
            self._kept.pop(partition, None)
            await self._tasks.pop(partition).stop()
            self._next.pop(partition, None)
            self._idle_clocks.pop(partition, None)
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
            elif isinstance(task, AgentTask):
                self._metrics.retries.inc(task.retries - self._retries.get(partition, 0))
                self._retries[partition] = task.retries

    def _task(self, partition: int) -> Task:
        if partition not in self._tasks:
            self._idle_clocks[partition] = self._clock()
            # A task may ask once more after its partition has gone.
            self._tasks[partition] = task_for(
                self.definition, self._outlet, lambda: self._idle_clocks.get(partition, 0)
            )
        return self._tasks[partition]

    def _unseen(self, batch: Batch) -> Batch:
        """The rows that the state has not seen: after a rebalance some come again."""
        first = self._next.get(batch.partition, 0)
        if first <= int(batch.offsets[0]):
            return batch
        return batch.slice(int(batch.offsets.searchsorted(first)), len(batch))

    def _clear_gauges(self, partition: int) -> None:
        for gauge in (self._all_metrics.watermark, self._all_metrics.open_panes, self._all_metrics.keys):
            _forget(gauge, self.definition.name, str(partition))


def _forget(gauge: Any, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        pass
