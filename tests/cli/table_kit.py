"""What tests of kept state seen from outside share: a topology that has run on the shared broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.cli.main import main
from streamproc.log.broker.config import free_port
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.partition import partition_of
from streamproc.runtime.topics import topic_specs
from streamproc.settings import KafkaSettings
from streamproc.state import topics as changelogs
from tests.cli import table_topology
from tests.cli.table_topology import NAME, PARTITIONS, Last, Tick

TOPOLOGY = f"{Path(table_topology.__file__)}:app"
PATIENCE = 60.0
START = 1_700_000_000_000


def made(count: int, units: int = 7) -> list[Tick]:
    """Ticks of several units, half a second apart; one in 50 is refused by an agent."""
    return [Tick(f"u{n % units}", START + 500 * n, -1.0 if n % 50 == 49 else n / 4) for n in range(count)]


class Place:
    """An app's topics on a broker, and the command."""

    def __init__(self, kafka: KafkaSettings, name: str, folder: Path, *, changes: bool = False) -> None:
        self.kafka, self.name, self.url = kafka, name, f"file:{folder / 'registry.json'}"
        self.app = table_topology.build(name, changes=changes)
        self.registry = open_registry(self.url)
        self.source = f"{name}-ticks"
        self.codec = Codec.of(self.app.topics[self.source], self.registry)

    def changelog(self, stage: str) -> str:
        return changelogs.name(self.name, stage)

    async def make_topics(self) -> None:
        admin = KafkaAdmin(self.kafka)
        await admin.ensure(topic_specs(self.app, 1))
        await admin.close()

    def publish(self, ticks: Sequence[Tick]) -> None:
        producer = Producer(self.kafka.librdkafka() | {"linger.ms": 5, "log_level": 0, "enable.idempotence": True})
        for tick in ticks:
            at = partition_of(tick.unit.encode(), PARTITIONS)
            producer.produce(self.source, self.codec.encode(tick), tick.unit.encode(), partition=at)
        assert producer.flush(PATIENCE) == 0

    async def work(self, *options: str, while_up: Any = None, killing: Any = None) -> None:
        """Runs a worker until it has kept all that is in the source; then awaits ``while_up(its admin address)``. Or
        awaits ``killing(the worker)``, which kills it.
        """
        port = free_port()
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamproc", "worker", TOPOLOGY, "--admin-port", str(port), *options),
            env={**os.environ, **self.kafka.environ(), NAME: self.name, "STREAMPROC_REGISTRY": self.url},
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                if killing is not None:
                    await killing(worker)
                    return
                while not await asyncio.to_thread(_is_ready, port) or await self._lag(worker):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                if while_up is not None:
                    await while_up(f"http://127.0.0.1:{port}")
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()

    async def _lag(self, worker: asyncio.subprocess.Process) -> int:
        assert worker.returncode is None, "the worker ended"
        admin = KafkaAdmin(self.kafka)
        try:
            return sum((await admin.lag(self.name, [self.source])).values())
        finally:
            await admin.close()

    def run(self, capsys: Any, *words: str) -> tuple[int, str, str]:
        """A command's exit code and what it printed. ``TOPOLOGY`` stands for the topology."""
        command = [TOPOLOGY if word == "TOPOLOGY" else word for word in words]
        code = main([*command, "--bootstrap", self.kafka.bootstrap])
        return (code, *capsys.readouterr())

    def json(self, capsys: Any, *words: str) -> Any:
        code, out, err = self.run(capsys, *words, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    def json_anyway(self, capsys: Any, *words: str) -> Any:
        """Of a command that fails."""
        code, out, err = self.run(capsys, *words, "-o", "json")
        assert code == 1, err
        return json.loads(out)


class Expected:
    """The rows that the agents of the topology keep, computed by hand."""

    def __init__(self, ticks: Sequence[Tick]) -> None:
        self.counts: dict[str, int] = {}
        self.last: dict[str, Last] = {}
        self.loud: dict[str, int] = {}
        self.pairs: dict[tuple[str, int], list[float]] = {}
        for tick in ticks:
            if tick.x >= 0:
                self.counts[tick.unit] = self.counts.get(tick.unit, 0) + 1
                self.last[tick.unit] = Last(tick.ts, tick.x)
            upper = tick.unit.upper()
            self.loud[upper] = self.loud.get(upper, 0) + 2
            self.pairs.setdefault((tick.unit, tick.ts // 1000 % 2), []).append(tick.x)
            if len(self.pairs.setdefault((tick.unit, 0), [])) > 5:
                del self.pairs[tick.unit, 0]


def lying(kafka: KafkaSettings, topic: str, partition: int) -> dict[bytes, bytes | None]:
    """What a partition has last of every key."""
    consumer = Consumer(kafka.librdkafka() | {"group.id": "lying", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: dict[bytes, bytes | None] = {}
    while (raw := consumer.poll(20)) is not None and raw.error() is None:
        found[raw.key() or b""] = raw.value()
    consumer.close()
    return found


def page(url: str) -> tuple[int, Any]:
    """Status and JSON of a page."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def worked(settings: KafkaSettings, folder: Path, ticks: Sequence[Tick]) -> Iterator[Place]:
    """A topology whose worker has kept all that comes of these ticks, and has gone."""
    with pytest.MonkeyPatch.context() as patch:
        name = f"t{uuid.uuid4().hex[:8]}"
        patch.setenv(NAME, name)
        patch.setenv("STREAMPROC_REGISTRY", f"file:{folder / 'registry.json'}")
        place = Place(settings, name, folder)
        asyncio.run(place.make_topics())
        place.publish(ticks)
        asyncio.run(place.work())
        yield place
