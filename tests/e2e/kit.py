"""What the tests of whole systems share: real processes, what lies in their Kafka, and clients that collect."""

from __future__ import annotations

import asyncio
import contextlib
import random
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.cli.system import Child, System
from streamproc.client import Ack, Client, Message, Subscription
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.log.ports import Message as Raw
from streamproc.settings import KafkaSettings
from tests.e2e import topology
from tests.e2e.topology import NAME, Event

TOPOLOGY = f"{Path(topology.__file__)}:app"
PATIENCE = 120.0


class Place:
    """A running system, and what can be asked of it."""

    def __init__(self, system: System, name: str) -> None:
        self.system, self.name = system, name
        self.app: App = topology.build(name)
        self.registry = open_registry(system.registry)
        assert system.kafka is not None
        self.kafka: KafkaSettings = system.kafka

    def topic(self, short: str) -> str:
        return f"{self.name}-{short}"

    def codec(self, short: str) -> Codec:
        return Codec.of(self.app.topics[self.topic(short)], self.registry)

    def client(self, **options: Any) -> Client:
        return Client(self.system.url, **options)

    def child(self, noun: str) -> Child:
        """The last one of that kind."""
        return [child for child in self.system.children if child.name == noun][-1]

    def raw(self, short: str) -> list[Raw]:
        """All that lies in a topic."""
        return everything(self.kafka, self.topic(short))

    def letters(self) -> list[DeadLetter]:
        """All dead letters."""
        codec = self.codec("dead-letters")
        return [codec.decode(raw.value or b"") for raw in self.raw("dead-letters")]  # type: ignore[misc]

    async def letters_of(self, ids: set[str], count: int) -> list[DeadLetter]:
        """Dead letters that somewhere name one of ``ids``, once there are so many."""
        found: list[DeadLetter] = []

        def there() -> bool:
            found[:] = [
                x for x in self.letters() if any(id.encode() in msgspec.json.encode(x) + (x.value or b"") for id in ids)
            ]
            return len(found) >= count

        await until(there)
        return found

    def committed(self) -> dict[int, int]:
        """The offsets of the events that the worker's group has committed, by partition."""
        return committed(self.kafka, self.name, self.topic("events"), 3)


@contextlib.asynccontextmanager
async def running(name: str, folder: Path, kafka: KafkaSettings) -> AsyncIterator[Place]:
    """A system of gateway and worker on a broker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME, name)
        lines: list[str] = []
        registry = f"file:{folder / 'registry.json'}"
        system = System(
            TOPOLOGY, kafka=kafka, registry=registry, on_line=lambda who, line: lines.append(f"{who}: {line}")
        )
        await system.start()
        try:
            yield Place(system, name)
        finally:
            await system.stop()
            print("\n".join(lines))


async def until(condition: Callable[[], Any]) -> None:
    """Returns when it holds. It may block: it is asked in a thread."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  what is waited for happens in other processes
            await asyncio.sleep(0.1)


def everything(settings: KafkaSettings, topic: str) -> list[Raw]:
    """All that is committed in a topic, by a client that has nothing to do with the system."""
    options = {"group.id": "all", "enable.auto.commit": False, "enable.partition.eof": True}
    options["auto.offset.reset"] = "earliest"  # a broker may not know a partition's offsets at once
    consumer = Consumer(settings.librdkafka() | options)
    found: list[Raw] = []
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    unread = set(partitions)
    while unread:  # offsets do not tell: a transaction's marker takes the last one
        for raw in consumer.consume(1000, 0.05):
            if (error := raw.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                unread.discard(raw.partition())
            else:
                found.append(
                    Raw(topic, raw.partition(), raw.offset(), raw.timestamp()[1], raw.key(), raw.value())  # type: ignore[arg-type]
                )
    consumer.close()
    return found


def committed(settings: KafkaSettings, group: str, topic: str, partitions: int) -> dict[int, int]:
    # By a consumer that joins nothing: librdkafka's admin client may end the process where the coordinator has moved.
    consumer = Consumer(settings.librdkafka() | {"group.id": group, "enable.auto.commit": False})
    try:
        found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10)
    finally:
        consumer.close()
    return {at.partition: max(0, at.offset) for at in found}


def events(prefix: str, count: int, units: int = 7, start: int = 1_700_000_000_000) -> Iterator[Event]:
    """Events of several units, in time's order, ten milliseconds apart, the same every time."""
    chance = random.Random(prefix)
    for n in range(count):
        yield Event(f"{prefix}-{n}", f"u{n % units}", start + n * 10, round(chance.random(), 3), "")


async def publish(client: Client, topic: str, many: Any) -> dict[str, Ack]:
    """Publishes; returns when Kafka has all of them."""
    futures = [await client.send(topic, event.id, msgspec.to_builtins(event)) for event in many]
    return {ack.id: ack for ack in await asyncio.gather(*futures)}


class Collector:
    """Collects what a subscription brings, in a task of its own."""

    def __init__(self, subscription: Subscription) -> None:
        self.messages: list[Message] = []
        self.causes: Counter[str | None] = Counter()
        self._subscription = subscription
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for message in self._subscription:
            assert isinstance(message, Message), message
            self.messages.append(message)
            self.causes[message.cause] += 1

    def data(self) -> list[Any]:
        return [msgspec.json.decode(message.data) for message in self.messages]

    async def has(self, wanted: set[str]) -> None:
        """Returns when there is a result of each of these causes."""
        async with asyncio.timeout(PATIENCE):
            while not wanted <= self.causes.keys():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def collecting(client: Client, *channels: str) -> AsyncIterator[list[Collector]]:
    """Subscribes to channels."""
    async with contextlib.AsyncExitStack() as stack:
        collectors = []
        for channel in channels:
            collector = Collector(await stack.enter_async_context(client.subscribe(channel)))
            stack.push_async_callback(collector.stop)
            collectors.append(collector)
        yield collectors


def page(child: Child, path: str) -> tuple[int, str]:
    """Status and text of one of a process's pages."""
    try:
        with urllib.request.urlopen(child.admin_url + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metrics(child: Child) -> dict[str, float]:
    """A process's metrics, summed over labels, by name."""
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(page(child, "/metrics")[1]):
        for sample in family.samples:
            sums[sample.name] += sample.value  # type: ignore[assignment]
    return dict(sums)
