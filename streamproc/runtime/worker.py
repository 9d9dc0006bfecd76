"""The worker: runs a topology's agents and aggregations against Kafka."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one worker is one core; partitions are how work is spread

from faust.types import TP
from prometheus_client import CollectorRegistry

from streamproc import compiled
from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.define.app import App
from streamproc.define.topic import Topic
from streamproc.errors import Stalled, StreamprocError
from streamproc.log.batch_builder import BATCH_OVERHEAD
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.runtime import faust_app
from streamproc.runtime.change_streams import ChangeStreams
from streamproc.runtime.disk_stores import DiskChangelogs, DiskStores
from streamproc.runtime.followed_tables import FollowedTable, followed_tables
from streamproc.runtime.groups import groups
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.keeper import Keeper, KeptTask
from streamproc.runtime.keepers import Keepers
from streamproc.runtime.memory import keep_freed_memory
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.quiet import calm_libraries
from streamproc.runtime.reader import ChangelogReader
from streamproc.runtime.runner import Runner
from streamproc.runtime.shared_tables import own_sources, shared_tables
from streamproc.runtime.snapshots import Snapshots
from streamproc.runtime.stalls import LoopWatch, Stalls
from streamproc.runtime.table_pages import LiveTables
from streamproc.runtime.tasks import needed_columns
from streamproc.runtime.topic_reader import TopicReader
from streamproc.runtime.topics import changelog_specs, check_changelogs, has_state, topic_specs
from streamproc.runtime.transport.producer import BatchProducer
from streamproc.runtime.transport.sender import JOIN
from streamproc.settings import KafkaSettings
from streamproc.state import topics as changelogs

_TICK = 0.2  # seconds between looks at idle partitions and gauges
_STOP_WITHIN = 8.0  # seconds for what is in work
_STOP_FAILED_WITHIN = 2.0  # seconds, where something failed: what is in work may never be finished
_LOADING = 2.0  # seconds: kernels that were compiled before are loaded by then
_FLUSH_WITHIN = 5.0  # seconds, for results that are under way
_ANSWER_WITHIN = 5.0  # seconds, or Kafka counts as away
_FOR_EVER = 10 * 365 * 86400.0  # results wait for the broker as long as it takes; the queue is bounded
_log = logging.getLogger("streamproc.worker")


async def _prepare_kernels() -> None:
    """Loads the compiled kernels in a thread; says so where that takes its time, which is when they are compiled."""
    if not compiled.available():
        return
    loading = asyncio.create_task(asyncio.to_thread(compiled.prepare))
    done, _ = await asyncio.wait([loading], timeout=_LOADING)
    if not done:
        _log.info("compiling kernels for this machine: once, and kept for the next start")
    await loading


def _keep_objects() -> None:
    """What is there by now, mostly libraries' (numba's alone are hundreds of thousands), stays: to look through it once
    more stops everything for a tenth of a second and longer.
    """
    gc.collect()
    gc.freeze()


def now_ms() -> int:
    return int(time.time() * 1000)


class Worker:
    """Runs one topology until it is told to stop, or something that it cannot mend happens.

    Args:
        app: the topology.
        kafka: the cluster.
        registry: of schemas.
        metrics: its metrics; one that takes the place of another goes on with those of that.
        replication: of the topics that it creates.
        instance: this worker's name in its group, also after a restart: it then gets its partitions back at once, also
            if it was killed. While it is away nobody else has them, until its session is over.
        stall_after: seconds without any progress where there is work, after which :meth:`run` raises Stalled.
        state_dir: for snapshots of state, which shorten the next start, and for tables on disk; what is there may be
            deleted at any time while no worker runs.
    """

    def __init__(
        self,
        app: App,
        kafka: KafkaSettings,
        registry: Registry,
        *,
        metrics: WorkerMetrics | None = None,
        replication: int = 1,
        state_dir: Path | None = None,
        stall_after: float = 120.0,
        instance: str | None = None,
    ) -> None:
        self.app, self.kafka, self.registry, self.replication = app, kafka, registry, replication
        self.state_dir, self._instance = state_dir, instance
        self.metrics = metrics or WorkerMetrics(CollectorRegistry())
        self.ready = False
        self.stuck = False  # threads of Faust are left that only the process's end stops
        self.failure: Exception | None = None  # what :meth:`run` raises
        self._ended = asyncio.Event()
        self._has_partitions = asyncio.Event()
        self._runners: dict[str, Runner] = {}
        self._faust: Any = None
        self._limits: dict[str, int] = {}  # by topic, how many bytes a batch may have
        self._producer: KafkaProducer | None = None
        self._batches: BatchProducer | None = None  # of results that come as columns
        self._codecs: dict[str, Codec] = {}  # by topic
        self._topic_ids: dict[str, str] = {}  # of sources: Kafka's
        self._groups = groups(app)
        self._shared = shared_tables(app)  # those that are everywhere
        self._tables: list[FollowedTable] = []
        self._keepers: Keepers | None = None  # of state
        self._changelogs: Snapshots | None = None
        self._stores: DiskStores | None = None  # of tables on disk
        self._ticker: asyncio.Task[None] | None = None
        self._stalls, self._loop_watch = Stalls[TP](stall_after), LoopWatch(stall_after)

    async def start(self) -> None:
        """Creates missing topics, registers schemas, joins the group.

        Raises:
            SettingsError, BrokerUnavailable, TopicError, IncompatibleSchema: nothing was started.
        """
        self._stores = DiskStores(self.app, self.state_dir)
        calm_libraries()
        keep_freed_memory()
        admin = KafkaAdmin(self.kafka)
        try:
            specs = topic_specs(self.app, self.replication)
            await admin.ensure(specs)
            self._limits = await admin.message_limits([spec.name for spec in specs])
            await check_changelogs(self.app, admin)
            names = [topic.name for topic in self._sources()]
            self._topic_ids = await admin.ids(names + [spec.name for spec in changelog_specs(self.app)])
            self._stores.ids = self._topic_ids
        finally:
            await admin.close()
        await _prepare_kernels()
        codecs = {t.name: await asyncio.to_thread(Codec.of, t, self.registry) for t in self.app.topics.values()}
        self._codecs = codecs
        self._producer, self._batches = self._make_producers()
        await self._batches.start()
        self._runners = self._make_runners(codecs)
        self._tables = followed_tables(self.kafka, codecs, self._shared, self._runners, self.fail)
        for table in self._tables:
            await table.start()
        reader = ChangelogReader(self.kafka)
        self._changelogs = Snapshots(reader, self.state_dir, self._topic_ids)
        await self._changelogs.start()
        self._keepers = Keepers(
            self.app.name,
            self._groups,
            self._kept_tasks,
            self._make_keepers_producer,
            DiskChangelogs(self._stores, reader, self._changelogs),
            self.metrics,
            self.fail,
            every=(self.app.flush or 0) / 1000,
        )
        self._faust = faust_app.build(
            self.app,
            self._runners,
            self.kafka,
            failed=self.fail,
            assigned=self._assigned,
            instance=self._instance,
        )
        _keep_objects()
        await self._faust.start()
        self._ticker = asyncio.create_task(self._tick(), name="worker ticker")
        self._loop_watch.start()
        self.ready = True
        _log.info("worker of %s: %d agents, group %s", self.app.name, len(self._runners), self._faust.conf.id)

    async def run(self) -> None:
        """Waits for :meth:`stop_soon` or a failure.

        Raises:
            StreamprocError: what went wrong.
        """
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), 1.0)
            except TimeoutError:
                if self._faust.should_stop and not self._ended.is_set():
                    self.fail(self._faust.crash_reason or StreamprocError("Faust stopped"))
        if self.failure is not None:
            raise self.failure

    def stop_soon(self) -> None:
        """Makes :meth:`run` return."""
        self._ended.set()

    def fail(self, error: BaseException) -> None:
        """Something that cannot be mended here: a fresh start from the committed offsets can."""
        if self.failure is None:
            wrapped = (
                error if isinstance(error, StreamprocError) else StreamprocError(f"{type(error).__name__}: {error}")
            )
            wrapped.__cause__ = error if wrapped is not error else error.__cause__
            self.failure = wrapped
            self.ready = False
        self._ended.set()

    async def stop(self) -> None:
        """Finishes what is in work, sends its results, commits, and leaves the group.

        With Kafka away that cannot be: then it gives up after some seconds, and what was not committed comes again.
        """
        self.ready = False
        self._loop_watch.stop()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
        if self._faust is not None:
            await self._stop_faust()
        if self._keepers is not None:
            await self._keepers.close(flush=self.failure is None and not self.stuck)
        for runner in self._runners.values():
            await runner.stop()
        if self._stores is not None:
            await self._stores.close()
        if self._changelogs is not None:
            await self._changelogs.close()
        for table in self._tables:
            await table.close()
        closing = [producer.close() for producer in (self._producer, self._batches) if producer is not None]
        await asyncio.gather(*closing)

    async def _stop_faust(self) -> None:
        stopping = asyncio.create_task(self._faust.stop(), name="faust stop")
        patience = _STOP_WITHIN if self.failure is None else _STOP_FAILED_WITHIN
        done, _ = await asyncio.wait([stopping], timeout=patience)
        if not done:  # and not cancelled either: Faust would not mind
            self.stuck = True
            _log.warning("not everything could be finished and committed within %g s: it will come again", patience)

    def problems(self) -> dict[str, str]:
        """What keeps it from being ready, by name; empty when it is."""
        found: dict[str, str] = {}
        if not self.ready:
            found["worker"] = "starting or stopping" if self.failure is None else str(self.failure)
        elif self._faust.rebalancing or not self._has_partitions.is_set():
            found["group"] = "waiting for partitions"
        for producer in (self._batches, self._producer):
            if producer is not None and producer.problem:
                found["kafka"] = producer.problem
        return found

    def live_tables(self) -> list[LiveTables]:
        """The tables of this worker's tasks, for a look from outside."""
        return [tables for runner in self._runners.values() for tables in runner.live_tables()]

    def assignment(self) -> dict[str, list[int]]:
        """The partitions that this worker has, by topic."""
        found: dict[str, list[int]] = {}
        for tp in sorted(self._faust.consumer.assignment()):
            found.setdefault(tp.topic, []).append(tp.partition)
        return found

    def _make_runners(self, codecs: dict[str, Codec]) -> dict[str, Runner]:
        readers = {
            topic: TopicReader(
                topic.name,
                codecs[topic.name],
                self._columns(topic),
                self.metrics,
                time=topic.time,
                ahead=topic.ahead,
            )
            for topic in self._sources()
        }
        assert self._producer is not None
        runners = {}
        for name, definition in self.app.agents.items():
            outlet = KafkaOutlet(
                self.app,
                name,
                codecs,
                self._producer,
                self.metrics,
                self.fail,
                self._batches,
                self._limits,
                self._topic_ids,
                self._may_be_out,
            )
            keeper = partial(self._keeper, definition.source.name)
            own, shared = {topic.name: readers[topic] for topic in own_sources(definition)}, self._shared.get(name)
            runners[name] = Runner(
                definition, own, outlet, self.metrics, now_ms, keeper, self._hold, shared, self._stores
            )
        return runners

    async def _assigned(self, partitions: set[TP]) -> None:
        assert self._keepers is not None
        assert self._changelogs is not None
        assert self._stores is not None
        await self._keepers.assigned((tp.topic, tp.partition) for tp in partitions)
        self._changelogs.keep(self._keepers.changelogs())
        await self._stores.keep(self._keepers.changelogs())
        self._has_partitions.set()

    def _keeper(self, topic: str, partition: int) -> Keeper | None:
        return None if self._keepers is None else self._keepers.get(topic, partition)

    def _hold(self, topic: str, partition: int, held: bool) -> None:
        self._faust.consumer.hold(TP(topic, partition), held)

    def _kept_tasks(self, group: str, partition: int) -> list[KeptTask]:
        """The tasks of a group's partition that have state."""
        found = []
        for runner in self._runners.values():
            stage = runner.definition
            if self._groups[stage.source.name] == group and has_state(self.app, stage):
                limit = self._limits[changelogs.name(self.app.name, stage.name)]
                ids = {topic: self._topic_ids.get(topic) for topic in runner.sources}
                kept = runner.keep_state(partition, limit, ids)
                if kept is not None:
                    kept.tell = ChangeStreams(self.app, stage.name, partition, self._codecs, self._limits).results
                    found.append(kept)
        return found

    def _make_keepers_producer(self, transactional_id: str) -> BatchProducer:
        return BatchProducer(
            self.kafka,
            transactional_id=transactional_id,
            close_timeout=_FLUSH_WITHIN,
            join_bytes=self._join_bytes(),
        )

    def _join_bytes(self) -> int:
        """Up to which small bodies become one batch: every topic must take it."""
        return min(min(self._limits.values()) - BATCH_OVERHEAD, JOIN)

    def _make_producers(self) -> tuple[KafkaProducer, BatchProducer]:
        """Both send what every topic takes: one record as large as the largest allows, batches for the smallest."""
        room = min(self._limits.values()) - BATCH_OVERHEAD
        single = KafkaProducer(
            self.kafka,
            delivery_timeout=_FOR_EVER,
            close_timeout=_FLUSH_WITHIN,
            max_message_bytes=max(max(self._limits.values()), 1_000_000),
            batch_bytes=min(room, 1_000_000),
        )
        return single, BatchProducer(self.kafka, close_timeout=_FLUSH_WITHIN, join_bytes=self._join_bytes())

    def _sources(self) -> set[Topic]:
        return {topic for definition in self.app.agents.values() for topic in own_sources(definition)}

    def _columns(self, topic: Topic) -> frozenset[str] | None:
        """The fields that anybody reads of a topic; None for all."""
        wanted: set[str] = set()
        for definition in self.app.readers(topic):
            columns = needed_columns(definition, topic)
            if columns is None:
                return None
            wanted |= columns
        return frozenset(wanted)

    def _may_be_out(self) -> bool:
        return self._faust is not None and self._faust.consumer.may_be_out()

    async def _tick(self) -> None:
        looked = time.time()
        while True:
            await asyncio.sleep(_TICK)
            self._loop_watch.beat()
            try:
                self._let_idle_time_pass(looked)
                looked = time.time()
                for runner in self._runners.values():
                    await runner.advance()
                    runner.observe()
                self._observe_lag()
                await self._look_for_stalls()
            except Exception as error:
                self.fail(error)
                return

    def _let_idle_time_pass(self, since: float) -> None:
        """At most a tick's time passes, however long ago the last look was: what was not seen is not known."""
        ms = int(min(time.time() - since, _TICK) * 1000)
        consumer = self._faust.consumer
        for tp in consumer.assignment():
            if consumer.caught_up(tp, since):
                for runner in self._runners.values():
                    runner.idle_for(tp.topic, tp.partition, ms)
        for table in self._tables:
            table.let_idle_time_pass(since, ms)

    async def _look_for_stalls(self) -> None:
        """Fails where there is more of a partition, here or in Kafka, and nothing is done with it."""
        assert self._keepers is not None
        consumer, work = self._faust.consumer, dict[TP, Hashable]()
        for tp in consumer.assignment():
            keeper = self._keepers.get(tp.topic, tp.partition)
            runners = [runner for runner in self._runners.values() if tp.topic in runner.sources]
            restores = keeper is not None and not keeper.opened
            if not restores and not consumer.caught_up(tp, 0) and not any(runner.is_held(*tp) for runner in runners):
                work[tp] = (consumer.fetched(tp), *(runner.progress(*tp) for runner in runners))
        for tp in self._stalls.look(work, time.monotonic()):
            if not await self._answers(tp):
                self._stalls.forget(tp)
                continue
            self.metrics.stalls.labels(tp.topic).inc()
            busy = [runner.definition.name for runner in self._runners.values() if runner.is_at(*tp)]
            said = f"{tp.topic}[{tp.partition}]: there is work, and for {self._stalls.after:g} s nothing was done"
            self.fail(Stalled(f"{said}; {f'it is at {busy[0]}' if busy else 'nobody has it'}"))

    async def _answers(self, tp: TP) -> bool:
        """Whether Kafka does: without it nothing can go on."""
        assert self._changelogs is not None
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._changelogs.end(tp.topic, tp.partition)
        except (StreamprocError, TimeoutError):
            return False
        return True

    def _observe_lag(self) -> None:
        consumer = self._faust.consumer
        for tp in consumer.assignment():
            end, at = consumer.highwater(tp), consumer.ledger.position(tp)
            position = at if at is not None else consumer._committed_offset.get(tp) or 0
            if end is not None:
                self.metrics.lag.labels(tp.topic, str(tp.partition)).set(max(0, end - position))
