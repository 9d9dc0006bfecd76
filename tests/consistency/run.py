"""A run: a topology on Kafka under several workers, events that keep coming, and what is checked after each strike."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.runtime.topics import topic_specs
from streamproc.settings import KafkaSettings
from streamproc.state import topics as changelogs
from tests.consistency import flows, topology
from tests.consistency.checks import Quick, Sink, Wrong, check_head, check_table
from tests.consistency.cluster import Cluster
from tests.consistency.figures import Strike, judged
from tests.consistency.flow_checks import Flows
from tests.consistency.nemeses import Nemesis
from tests.consistency.offsets import Offsets
from tests.consistency.oracle import IDENTITY, Oracle
from tests.consistency.publishing import Publisher
from tests.consistency.reading import Reader
from tests.consistency.topology import PARTITIONS
from tests.consistency.workers import Fleet

SOURCES = ("events", *flows.SOURCES)
MORE = 2  # workers that come and go in a storm
PATIENCE = 120.0  # seconds without any progress, after which a worker counts as stuck
_LOOK = 0.1


class Stuck(AssertionError):
    """Nothing goes on any more."""


class Run:
    """One topology, under one guarantee.

    Args:
        name: the topology's.
        cluster: to strike at, and with a line for each worker; None for one broker, which nobody strikes.
        rate: events per second.
        workers: how many always run.
    """

    def __init__(
        self,
        name: str,
        guarantee: str,
        kafka: KafkaSettings,
        cluster: Cluster | None,
        folder: Path,
        rate: float,
        workers: int,
    ) -> None:
        self.app, self.kafka, self.cluster, self.rate = topology.build(name, guarantee), kafka, cluster, rate
        self.name, self.workers = name, workers
        url = f"file:{folder / 'registry.json'}"
        self._registry = open_registry(url)
        lines = [cluster.line(n) for n in range(workers)] if cluster else [kafka] * workers
        environ = {topology.NAME: name, topology.GUARANTEE: guarantee, "STREAMPROC_REGISTRY": url}
        self._replication = 3 if cluster else 1
        self.fleet = Fleet([*lines, *[kafka] * MORE], environ, folder, replication=self._replication)
        self._repeats = guarantee == "at_least_once"
        self._stack = contextlib.AsyncExitStack()
        self._offsets = Offsets(kafka, name, patience=PATIENCE)
        self._stack.callback(self._offsets.close)
        #: Offsets that the group had committed when we last looked, by source.
        self._seen: dict[str, list[int]] = {}
        self._unkept: list[str] = []  # what was not kept when we last looked
        self._oracles = [Oracle() for _ in range(PARTITIONS)]

    async def start(self, chance: random.Random) -> None:
        admin = KafkaAdmin(self.kafka, timeout=30)
        specs = topic_specs(self.app, self._replication)
        await admin.ensure(specs)
        await admin.close()
        codecs = {t.name: Codec.of(t, self._registry) for t in self.app.topics.values()}
        shorts = [*IDENTITY, *flows.IDENTITY, "quick", "quick-late", *SOURCES]
        self._changelogs = {stage: changelogs.name(self.name, stage) for stage in self.app.agents}
        topics = dict.fromkeys([*map(self.topic, shorts), *self._changelogs.values()], PARTITIONS)
        self.reader = Reader(self.kafka, topics, latest=set(self._changelogs.values()), watch=self.topic("counted"))
        self._stack.callback(self.reader.close)
        self._events = codecs[self.topic("events")]
        self._sinks = {
            short: [Sink(short, codecs[self.topic(short)], identity, repeats=self._repeats) for _ in range(PARTITIONS)]
            for short, identity in IDENTITY.items()
        }
        self._flows = Flows(self.name, codecs)
        quick = codecs[self.topic("quick")], codecs[self.topic("quick-late")]
        self._quick = [Quick(*quick, repeats=self._repeats) for _ in range(PARTITIONS)]
        visits = [self.topic(short) for short in flows.SOURCES]
        self.publisher = Publisher(self.kafka, self.topic("events"), visits, codecs, self.rate, chance)
        self._stack.push_async_callback(self.publisher.close)
        self._stack.callback(self.fleet.kill)
        self._stack.push_async_callback(self.fleet.stop)
        await self.fleet.start(self.workers)

    def topic(self, short: str) -> str:
        return flows.topic(self.name, short) if short in flows.IDENTITY else f"{self.name}-{short}"

    async def cycle(self, nemesis: Nemesis, *, before: float = 2.0) -> Strike:
        """Strikes while events come, and checks everything afterwards.

        Raises:
            Wrong: something is lost, or doubled, or another value.
            Stuck: nothing goes on.
        """
        self.publisher.go()
        await asyncio.sleep(before)
        owners: dict[int, set[int]] = {}

        async def all_work() -> bool:
            for slot in range(self.workers):
                owners[slot] = await asyncio.to_thread(self.fleet.workers[slot].partitions)
            return all(owners.values())

        await self._until(all_work, "all workers have partitions")
        ends_before, began = self.fleet.ends(), time.monotonic()
        await nemesis.strike(self)
        recovering = time.monotonic()
        await nemesis.recover(self)
        there = await self._ends()
        await self._until(lambda: self._is_committed(there), "offsets are committed")
        recovered = time.monotonic()
        await nemesis.look_back(self)
        await asyncio.sleep(1)  # what comes in the end is a part of the pause
        await self.publisher.pause()
        arrivals = self.reader.arrivals(began - 1)
        struck = set().union(*(owners[slot] for slot in nemesis.victims))
        pauses = judged([arrivals.get(number, []) for number in range(PARTITIONS)], struck, began, recovered)
        ended = self.fleet.ends() - ends_before
        strike = Strike(nemesis.name, began, recovered - recovering, *pauses, ended)
        await self.check()
        return strike

    async def check(self) -> None:
        """With no more events to come: all is committed, and all results are there, once.

        Raises:
            Wrong, Stuck: they are not.
        """
        there, sent = await self._ends(), self.publisher.sent
        for short, ends in there.items():
            assert sum(ends) == sent[self.topic(short)], f"{short}: {sent} were sent; {sum(ends)} are in the log"
        # Of visits the last one waits for the next, and so do the offsets.
        await self._until(lambda: self._is_committed({"events": there["events"]}), "everything is committed")
        if self._seen["events"] != there["events"]:
            raise Wrong(f"committed: {self._seen}; the source ends at {there['events']}")
        try:
            await self._until(lambda: asyncio.to_thread(self._settled), "all results are there")
        except Stuck as stuck:
            open_ = [s.open() for sinks in self._sinks.values() for s in sinks if not s.settled]
            quick = [q.differs(o) for q, o in zip(self._quick, self._oracles, strict=True)]
            raise Wrong("\n".join([*open_, *self._flows.open(), f"quick: {quick}", str(stuck)])) from None
        await self._until(lambda: asyncio.to_thread(self._flows_kept, there), "the flows' state is kept")
        places = [(topic, number) for topic in self._changelogs.values() for number in range(PARTITIONS)]
        written = await self._offsets.ends(places)
        await self._until(lambda: asyncio.to_thread(self.reader.has, written), "the changelogs are read")
        for number in range(PARTITIONS):
            self._check_state(number, there["events"][number])

    async def stop(self) -> None:
        await self._stack.aclose()

    def summary(self) -> str:
        repeated = sum(sink.repeated for sinks in self._sinks.values() for sink in sinks)
        ends = [f"  worker {w.slot} {said}" for w in self.fleet.workers for said in w.ends]
        events = self.publisher.sent.total()
        said = f"{events:,} events, {repeated:,} results came again, {len(ends)} workers ended by themselves"
        return "\n".join([said, *ends])

    def _settled(self) -> bool:
        """Takes what has come; whether that is all."""
        for number, oracle in enumerate(self._oracles):
            for record in self.reader.take(self.topic("events"), number):
                event: Any = self._events.decode(record.value or b"")
                oracle.take(event)
            for short, sinks in self._sinks.items():
                expected, oracle.results[short] = oracle.results[short], {}
                sinks[number].expect(expected)
                sinks[number].take(self.reader.take(self.topic(short), number))
            quick = (self.reader.take(self.topic(short), number) for short in ("quick", "quick-late"))
            self._quick[number].take(*quick)
        self._flows.take(self.reader)
        if sum(oracle.events for oracle in self._oracles) < self.publisher.sent[self.topic("events")]:
            return False
        if not self._flows.settled(self.publisher.sent):
            return False
        settled = all(sink.settled for sinks in self._sinks.values() for sink in sinks)
        return settled and not any(q.differs(o) for q, o in zip(self._quick, self._oracles, strict=True))

    def _check_state(self, number: int, end: int) -> None:
        oracle = self._oracles[number]
        tables: dict[str, tuple[str, dict[str, Any]]] = {
            "rows": ("counts", oracle.of_unit),
            "batches": ("highest", oracle.highest),
        }
        own = [stage for stage, definition in self.app.agents.items() if definition.source.name == self.topic("events")]
        for stage in own:
            rows = self.reader.last(self._changelogs[stage], number)
            check_head(f"{stage}[{number}]", rows, end)
            if stage in tables:
                name, wanted = tables[stage]
                check_table(f"{stage}[{number}]", rows, name, dict(wanted))

    def _flows_kept(self, there: dict[str, list[int]]) -> bool:
        self._unkept = self._flows.kept(self.reader, there)
        return not self._unkept

    async def _ends(self) -> dict[str, list[int]]:
        places = {short: [(self.topic(short), number) for number in range(PARTITIONS)] for short in SOURCES}
        return {short: [*(await self._offsets.ends(some)).values()] for short, some in places.items()}

    async def _is_committed(self, there: dict[str, list[int]]) -> bool:
        self._seen = {short: await self._offsets.committed(self.topic(short), PARTITIONS) for short in there}
        return all(at >= end for short in there for at, end in zip(self._seen[short], there[short], strict=True))

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not await condition():
            if time.monotonic() > end:
                has = {w.slot: sorted(w.partitions()) for w in self.fleet.workers if w.process is not None}
                for worker in self.fleet.workers:
                    worker.dump()
                await asyncio.sleep(3)
                raise Stuck(
                    f"{what}: not within {PATIENCE:g} s; committed {self._seen}, workers have {has}; {self._unkept}"
                )
            await asyncio.sleep(_LOOK)
