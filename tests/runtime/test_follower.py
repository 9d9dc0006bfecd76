"""A topic followed whole, on a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition as Tp
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streamproc import App
from streamproc.avro.blocks import Bad
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.batch import Batch
from streamproc.define.topic import Topic
from streamproc.errors import BrokerUnavailable
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.follower import TopicFollower
from streamproc.settings import KafkaSettings
from tests.runtime.kit import Ping
from tests.state.kit import WAYS

pytestmark = pytest.mark.e2e


class Place:
    """A topic of pings, and what was followed of it: by partition, the numbers in the order in which they came."""

    def __init__(self, kafka: KafkaSettings, topic: Topic) -> None:
        self.kafka, self.topic = kafka, topic
        self.codec = Codec.of(topic, MemoryRegistry())
        self.seen: dict[int, list[int]] = {}
        self.refused: list[tuple[int, int]] = []

    def follower(self, **options: Any) -> TopicFollower:
        return TopicFollower(self.kafka, self.topic, self.codec, self.take, refuse=self.refuse, **options)

    def take(self, batch: Batch) -> None:
        assert batch.topic == self.topic.name
        self.seen.setdefault(batch.partition, []).extend(batch["n"].to_list())

    def refuse(self, partition: int, bad: Bad) -> None:
        self.refused.append((partition, bad.record.offset))

    def value(self, n: int) -> bytes:
        return self.codec.encode(Ping(f"key-{n}", n))

    async def send(self, partition: int, *numbers: int | bytes) -> None:
        producer = Producer(self.kafka.librdkafka() | {"enable.idempotence": True})
        for n in numbers:
            value = n if isinstance(n, bytes) else self.value(n)
            producer.produce(self.topic.name, value, partition=partition)
        assert await asyncio.to_thread(producer.flush, 30) == 0

    @contextlib.asynccontextmanager
    async def following(self, **options: Any) -> AsyncIterator[TopicFollower]:
        follower = self.follower(**options)
        await follower.start()
        try:
            yield follower
        finally:
            await follower.close()


async def place(kafka: KafkaSettings, name: str, partitions: int = 3, **config: str) -> Place:
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, partitions, 1, config)])
    await admin.close()
    return Place(kafka, App("test").topic(name, Ping, key="key", time="n", partitions=partitions))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  what is waited for happens in Kafka
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
async def test_all_is_read_from_the_beginning_and_then_what_comes(kafka, name, way):
    at = await place(kafka, name)
    await at.send(0, *range(5_000))
    await at.send(1, 7, b"not avro", 3)
    async with at.following(compiled=way) as follower:
        await follower.ready()
        assert at.seen == {0: list(range(5_000)), 1: [7, 3]}
        assert (at.refused, follower.refused) == ([(1, 1)], 1)
        assert {number: (one.position, one.time) for number, one in follower.partitions.items()} == {
            0: (5_000, 4_999),
            1: (3, 7),
            2: (0, None),
        }
        await at.send(2, 1, 2)
        await at.send(0, 100)
        await until(lambda: at.seen.get(2) == [1, 2] and at.seen[0][5_000:] == [100])
        await until(lambda: follower.partitions[0].position == 5_001)
        assert follower.partitions[0].time == 4_999
    await follower.stopped()


async def test_an_empty_topic_is_ready_at_once(kafka, name):
    at = await place(kafka, name)
    async with at.following() as follower:
        await follower.ready()
        assert at.seen == {}


async def test_only_what_is_needed_is_decoded(kafka, name):
    at = await place(kafka, name, 1)
    await at.send(0, *range(100))
    found: list[list[str]] = []
    at.take = lambda batch: found.append(batch.columns)  # type: ignore[method-assign]
    async with at.following(columns=frozenset(["key"])) as follower:
        await follower.ready()
    assert found
    assert all({"key", "n"} <= set(columns) for columns in found)


async def test_it_is_known_since_when_there_is_no_more(kafka, name):
    at = await place(kafka, name, 2)
    begun = time.time()
    async with at.following() as follower:
        assert not follower.caught_up(0, begun + 1000)
        await until(lambda: follower.caught_up(0, begun))
        since = follower.partitions[0].caught_up
        assert since is not None
        assert since >= int(begun * 1000) / 1000
        later = time.time()
        await until(lambda: follower.caught_up(0, later))
        assert follower.partitions[0].caught_up == since, "it has been so all the time"
        await at.send(0, 1)
        await until(lambda: at.seen == {0: [1]})
        await until(lambda: follower.partitions[0].caught_up is not None)
        assert follower.partitions[0].caught_up >= later
        assert not follower.caught_up(5, 0)


async def test_what_was_not_taken_is_not_caught_up(kafka, name):
    """A batch in the callback is still to come."""
    at = await place(kafka, name, 1)
    told: list[bool] = []
    async with at.following() as follower:
        await until(lambda: follower.caught_up(0, 0))
        at.take = lambda batch: told.append(follower.caught_up(0, 0))  # type: ignore[method-assign]
        follower._take_batch = at.take
        await at.send(0, 1)
        await until(lambda: told)
        assert told == [False]
        await until(lambda: follower.caught_up(0, 0))


async def test_what_is_not_committed_is_not_read(kafka, name):
    at = await place(kafka, name, 1)
    producer = Producer(kafka.librdkafka() | {"transactional.id": name})
    await asyncio.to_thread(producer.init_transactions, 30)
    async with at.following() as follower:
        await until(lambda: follower.caught_up(0, 0))
        for n, end in ((1, producer.abort_transaction), (2, producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(at.topic.name, at.value(n), partition=0)
            assert await asyncio.to_thread(producer.flush, 30) == 0
            await until(lambda: not follower.caught_up(0, 0))  # the log goes on, and nobody knows yet what it says
            assert at.seen == {}
            await asyncio.to_thread(end, 30)
            await until(lambda: follower.caught_up(0, 0))
        assert at.seen == {0: [2]}
    async with at.following() as follower:  # its log ends with a marker
        await follower.ready()
        assert at.seen == {0: [2, 2]}


async def test_partitions_that_are_added_are_read_too(kafka, name, monkeypatch):
    monkeypatch.setattr("streamproc.runtime.follower._METADATA_MS", 200)
    at = await place(kafka, name, 1)
    await at.send(0, 1)
    async with at.following() as follower:
        await follower.ready()
        admin = AdminClient(kafka.librdkafka())
        for future in admin.create_partitions([NewPartitions(name, 3)]).values():
            await asyncio.to_thread(future.result, 30)
        await at.send(2, 5)
        await at.send(0, 2)
        await until(lambda: at.seen == {0: [1, 2], 2: [5]})
        assert sorted(follower.partitions) == [0, 1, 2]


async def test_what_has_gone_from_the_log_is_skipped_and_said(kafka, name, caplog):
    at = await place(kafka, name, 1)
    await at.send(0, *range(10))
    async with at.following() as follower:
        await follower.ready()
        admin = AdminClient(kafka.librdkafka())
        follower._consumer.pause(Tp(name, 0))
        await at.send(0, *range(10, 20))
        for future in admin.delete_records([TopicPartition(name, 0, 15)]).values():
            await asyncio.to_thread(future.result, 30)
        follower._consumer.seek(Tp(name, 0), 10)
        with caplog.at_level(logging.WARNING, "streamproc.worker"):
            follower._consumer.resume(Tp(name, 0))
            await until(lambda: at.seen[0][-1] == 19)
        assert at.seen == {0: [*range(10), *range(15, 20)]}
        assert f"{name}[0]: there is nothing at offset 10 any more: it is read from offset 15 on" in caplog.messages


async def test_a_callback_that_raises_ends_it_and_is_told(kafka, name):
    at = await place(kafka, name, 1)
    await at.send(0, 1)

    def broken(_: Batch) -> None:
        raise ValueError("no")

    at.take = broken  # type: ignore[method-assign]
    async with at.following() as follower:
        with pytest.raises(ValueError, match="no"):
            await follower.ready()
        with pytest.raises(ValueError, match="no"):
            await follower.stopped()


async def test_a_topic_that_is_not_there(kafka, name):
    at = Place(kafka, App("test").topic(name, Ping))
    with pytest.raises(BrokerUnavailable, match=f"no topic {name} in Kafka"):
        await at.follower(patience=1).start()


async def test_nobody_answers():
    at = Place(KafkaSettings("127.0.0.1:1"), App("test").topic("pings", Ping))
    with pytest.raises(BrokerUnavailable, match=r"in Kafka at 127\.0\.0\.1:1"):
        await at.follower(patience=1).start()


async def test_it_outlives_a_broker(tmp_path: Path, name):
    broker = EmbeddedBroker(data_dir=tmp_path)
    await asyncio.to_thread(broker.start)
    port = broker.config.port
    try:
        at = await place(broker.settings, name, 2)
        await at.send(0, *range(1_000))
        async with at.following() as follower:
            await follower.ready()
            await asyncio.to_thread(broker.stop)
            gone = time.time()
            await asyncio.sleep(1.5)
            assert not follower.caught_up(0, gone)
            broker = EmbeddedBroker(data_dir=tmp_path, port=port)
            await asyncio.to_thread(broker.start)
            await at.send(0, 1_000)
            await at.send(1, 1)
            await until(lambda: at.seen == {0: list(range(1_001)), 1: [1]})
            await until(lambda: follower.caught_up(0, gone))
    finally:
        await asyncio.to_thread(broker.stop)
