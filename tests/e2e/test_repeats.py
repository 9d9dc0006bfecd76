"""A worker killed between its results and their state sends some of them again: what comes again is known by its id,
and the stage that reads them counts it once.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.log.origins import Origin, origin_of
from streamproc.log.partition import partition_of
from streamproc.runtime.topics import topic_specs
from streamproc.settings import KafkaSettings
from tests.e2e import repeats_topology as topology
from tests.e2e.repeats_topology import Event

pytestmark = [pytest.mark.e2e]
PATIENCE = 120.0
EVENTS, UNITS = 1500, 7  # per kill
KILLS = 6  # at most, until something came again
BEGIN = 1_700_000_000_000


def made() -> list[Event]:
    """Events ten milliseconds apart."""
    chance = random.Random(3)
    units = [f"u{chance.randrange(UNITS)}" for _ in range(EVENTS * (KILLS + 1))]
    return [Event(f"e{n}", unit, BEGIN + 10 * n, 0.0, "") for n, unit in enumerate(units)]


class Run:
    """The topology on Kafka."""

    def __init__(self, name: str, kafka: KafkaSettings, folder: Path) -> None:
        self.name, self.kafka, self.app = name, kafka, topology.build(name)
        url = f"file:{folder / 'registry.json'}"
        registry = open_registry(url)
        self.codecs = {topic.name: Codec.of(topic, registry) for topic in self.app.topics.values()}
        self.environ = os.environ | kafka.environ() | {topology.NAME: name, "STREAMPROC_REGISTRY": url}

    async def prepare(self) -> None:
        admin = KafkaAdmin(self.kafka)
        await admin.ensure(topic_specs(self.app))
        await admin.close()

    async def publish(self, events: Sequence[Event], seconds: float) -> None:
        source, codec = self.app.topics[f"{self.name}-events"], self.codecs[f"{self.name}-events"]
        producer = KafkaProducer(self.kafka)
        for i, event in enumerate(events):
            producer.send(source.name, codec.encode(event), key=source.key_of(event))
            if i % 50 == 49:
                await asyncio.sleep(seconds * 50 / len(events))
        await producer.flush()
        await producer.close()

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamproc", "worker", f"{Path(topology.__file__)}:app", env=self.environ
        )

    async def results(self, short: str) -> list[tuple[int, Origin | None, Any]]:
        """Partition, id and record of all that lies in a topic."""
        codec = self.codecs[f"{self.name}-{short}"]
        found = await asyncio.to_thread(committed, self.kafka, f"{self.name}-{short}")
        return [
            (partition, origin_of(headers, empty=False), codec.decode(value)) for partition, headers, value in found
        ]

    async def until(self, short: str, count: int) -> list[tuple[int, Origin | None, Any]]:
        """The results, once there are so many different ones."""
        async with asyncio.timeout(PATIENCE):
            while len(once(found := await self.results(short))) < count:  # noqa: ASYNC110  it happens elsewhere
                await asyncio.sleep(0.1)
        return found


def committed(kafka: KafkaSettings, topic: str) -> list[tuple[int, Any, bytes]]:
    """Partition, headers and value of all that is committed in a topic."""
    options = {"group.id": "all", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer, found = Consumer(kafka.librdkafka() | options), []
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        ended = False
        while not ended:
            raw = consumer.poll(10)
            assert raw is not None
            if (error := raw.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended = True
            else:
                found.append((partition, tuple(raw.headers() or ()), raw.value() or b""))
    consumer.close()
    return found


def once(results: Sequence[tuple[int, Origin | None, Any]]) -> list[Any]:
    """Results without those that came before. What comes again says the same."""
    seen: dict[Any, Any] = {}
    for number, (partition, origin, record) in enumerate(results):
        # What goes with its state has no id where it needs none.
        known = seen.setdefault((partition, origin) if origin is not None else number, record)
        assert known == record
    return list(seen.values())


def expected(events: Sequence[Event], partitions: dict[str, int]) -> tuple[set[Any], dict[str, list[tuple[int, int]]]]:
    """Seconds and sums of a run without faults: a second ends with the first event of its partition behind it."""
    latest: dict[int, int] = {}
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for event in events:
        counts[event.unit, event.ts // 1000 * 1000] += 1
        latest[partitions[event.unit]] = event.ts
    seconds = {
        (unit, start, start + 1000, n)
        for (unit, start), n in counts.items()
        if start + 1000 <= latest[partitions[unit]]
    }
    sums: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for unit, _, end, n in sorted(seconds, key=lambda second: second[1]):
        sums[unit].append((end, n + (sums[unit][-1][1] if sums[unit] else 0)))
    return seconds, sums


async def test_a_worker_that_is_killed_before_its_state_is_kept(
    name: str, kafka: KafkaSettings, tmp_path: Path
) -> None:
    run, chance = Run(name, kafka, tmp_path), random.Random(name)
    await run.prepare()
    events, source = made(), run.app.topics[f"{name}-events"]
    partitions = {e.unit: partition_of(source.key_of(e) or b"", 2) for e in events}
    worker = await run.start()
    try:
        for kill in range(1, KILLS + 1):
            told = events[: kill * EVENTS]
            seconds, sums = expected(told, partitions)
            there = len(once(await run.results("sums")))
            publishing = asyncio.create_task(run.publish(told[-EVENTS:], 10.0))
            await run.until("sums", there + 20)
            await asyncio.sleep(chance.random() * 2)
            worker.kill()
            await worker.wait()
            worker = await run.start()
            await publishing
            raw = await run.until("seconds", len(seconds))
            if len(raw) > len(seconds):
                break
        summed = await run.until("sums", len(seconds))
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 30) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert len(raw) > len(once(raw)), "nothing came again: the test has shown nothing"
    assert {(s.unit, s.start, s.end, s.n) for s in once(raw)} == seconds
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for each in once(summed):
        found[each.unit].append((each.end, each.sum))
    assert found == sums  # each unit's in order, none left out, none counted twice
