"""Workers that are killed at random moments: what comes of it in the end is what a run without faults gives."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.runtime.topics import topic_specs
from streamproc.settings import KafkaSettings
from tests.consistency import topology
from tests.consistency.topology import GRACE_MS, SIZE_MS, STEP_MS, Event, Window

pytestmark = [pytest.mark.e2e]

# A short form; `make consistency` takes the long one.
EVENTS = int(os.environ.get("STREAMPROC_TEST_EVENTS", "4000"))
KILLS = int(os.environ.get("STREAMPROC_TEST_KILLS", "1"))
PATIENCE = 90.0


def made(seed: int) -> list[Event]:
    """Events of eleven units, a millisecond apart, some of them out of order."""
    chance = random.Random(seed)
    return [
        Event(f"e{n}", f"u{chance.randrange(11)}", 1_700_000_000_000 + n - chance.choice((0, 0, 0, 50, 150)), x, "")
        for n, x in enumerate(round(chance.random(), 3) for _ in range(EVENTS))
    ]


class Run:
    """A topology on Kafka, and what lies in its topics."""

    def __init__(self, name: str, guarantee: str, kafka: KafkaSettings, folder: Path) -> None:
        self.app, self.kafka = topology.build(name, guarantee), kafka
        self.url = f"file:{folder / 'registry.json'}"
        self.registry = open_registry(self.url)
        self.environ = {
            **os.environ,
            **kafka.environ(),
            topology.NAME: name,
            topology.GUARANTEE: guarantee,
            "STREAMPROC_REGISTRY": self.url,
        }

    async def prepare(self) -> None:
        admin = KafkaAdmin(self.kafka)
        await admin.ensure(topic_specs(self.app))
        await admin.close()
        self.codecs = {t.name: Codec.of(t, self.registry) for t in self.app.topics.values()}

    async def publish(self, events: Sequence[Event], seconds: float) -> None:
        """All of them, evenly spread over so much time."""
        source = self.app.topics[f"{self.app.name}-events"]
        producer = KafkaProducer(self.kafka)
        for i, event in enumerate(events):
            producer.send(source.name, self.codecs[source.name].encode(event), key=source.key_of(event))
            if i % 100 == 99:
                await asyncio.sleep(seconds * 100 / len(events))
        await producer.flush()
        await producer.close()

    async def start(self) -> asyncio.subprocess.Process:
        """A worker that says that it is up."""
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "streamproc", "worker", f"{Path(topology.__file__)}:app"),
            env=self.environ,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert worker.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while b"is up" not in (line := await worker.stderr.readline()):
                    assert line, "the worker ended"
        except BaseException:
            worker.kill()
            raise
        self.reading = asyncio.create_task(_show(worker.stderr))
        return worker

    async def until_more_is_there(self) -> None:
        """Returns when some more results have come."""
        before = await asyncio.to_thread(self.results, "counted")
        async with asyncio.timeout(PATIENCE):
            while len(await asyncio.to_thread(self.results, "counted")) < len(before) + 100:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def results(self, short: str) -> list[tuple[int, Any]]:
        """Offset and record of all that is committed in a topic, partition by partition."""
        topic = f"{self.app.name}-{short}"
        consumer = Consumer(self.kafka.librdkafka() | {"group.id": "all", "isolation.level": "read_committed"})
        found: list[tuple[int, Any]] = []
        for partition in range(3):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, low)])
            while True:
                found += [(raw.offset() or 0, raw.value()) for raw in consumer.consume(1000, 0.2)]
                (at,) = consumer.position([TopicPartition(topic, partition)])
                if low == high or at.offset >= high:
                    break
        consumer.close()
        return [(offset, self.codecs[topic].decode(value)) for offset, value in found]

    async def until_all_is_there(self, wanted: dict[str, int]) -> None:
        """Returns when topics hold as many different records."""
        async with asyncio.timeout(PATIENCE):
            for short, count in wanted.items():
                while True:
                    found = await asyncio.to_thread(self.results, short)
                    if len({repr(record) for _, record in found}) >= count:
                        break
                    await asyncio.sleep(0.3)


async def _show(lines: asyncio.StreamReader) -> None:
    async for line in lines:
        print(line.decode(), end="")


def expected(events: Sequence[Event]) -> dict[str, list[Any]]:
    """What a run without faults gives, computed by hand."""
    partitions: defaultdict[int, list[Event]] = defaultdict(list)
    from streamproc.log.partition import partition_of

    for event in events:
        partitions[partition_of(event.unit.encode(), 3)].append(event)
    counted, rising, windows = [], [], []
    for rows in partitions.values():
        seen: defaultdict[str, int] = defaultdict(int)
        highest: defaultdict[str, float] = defaultdict(float)
        for event in rows:
            seen[event.unit] += 1
            counted.append(topology.Counted(event.id, event.unit, seen[event.unit], event.x))
            if event.x > highest[event.unit]:
                rising.append(event)
                highest[event.unit] = event.x
        windows += windows_of(rows)
    return {"counted": counted, "rising": rising, "windows": windows}


def windows_of(rows: Sequence[Event]) -> list[Window]:
    """The closed windows of a partition; none of its events is late."""
    held: defaultdict[tuple[int, str], list[Event]] = defaultdict(list)
    for event in rows:
        for start in range(event.ts // STEP_MS * STEP_MS, event.ts - SIZE_MS, -STEP_MS):
            held[start, event.unit].append(event)
    last = max(event.ts for event in rows)
    return [
        Window(unit, start, start + SIZE_MS, len(some), sum(e.x for e in some), max(e.x for e in some))
        for (start, unit), some in held.items()
        if start + SIZE_MS + GRACE_MS <= last
    ]


def rounded(records: Sequence[Any]) -> list[str]:
    """Sums of floats depend on their order: by panes here, event by event there. 1e-9 is far above what that makes."""
    return sorted(repr([round(v, 9) if isinstance(v, float) else v for v in _values(record)]) for record in records)


def _values(record: Any) -> list[Any]:
    return [getattr(record, name) for name in record.__struct_fields__]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_a_worker_that_is_killed_again_and_again(
    guarantee: str, name: str, kafka: KafkaSettings, tmp_path: Path
) -> None:
    chance = random.Random(name)
    print("seed", name)
    run = Run(name, guarantee, kafka, tmp_path)
    await run.prepare()
    events = made(7)
    wanted = expected(events)
    length = -(-len(events) // (KILLS + 1))
    parts = [events[at : at + length] for at in range(0, len(events), length)]
    worker = await run.start()
    try:
        for part in range(KILLS + 1):
            publishing = asyncio.create_task(run.publish(parts[part], 3.0))
            if part < KILLS:
                await run.until_more_is_there()
                await asyncio.sleep(chance.random())
                worker.send_signal(signal.SIGKILL)
                await worker.wait()
                worker = await run.start()
            await publishing
        await run.until_all_is_there({short: len(records) for short, records in wanted.items()})
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 30) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    for short, records in wanted.items():
        found = [record for _, record in run.results(short)]
        if guarantee == "at_least_once":  # sent again, but always the same
            found = list({repr(record): record for record in found}.values())
        assert rounded(found) == rounded(records), short
    if guarantee == "exactly_once":
        nths: defaultdict[str, list[int]] = defaultdict(list)
        for _, record in run.results("counted"):
            nths[record.unit].append(record.nth)
        assert all(after == before + 1 for unit in nths.values() for before, after in pairwise(unit))
