"""The consumer group of workers: they let go of partitions late, and leave at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from confluent_kafka.admin import AdminClient

from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.transport.group import let_go_late, share_by
from streamproc.settings import KafkaSettings

pytestmark = [pytest.mark.e2e]
PATIENCE = 60.0


class Listener(ConsumerRebalanceListener):
    def __init__(self) -> None:
        self.has: set[TopicPartition] = set()
        self.assigned = asyncio.Event()
        self.revoked = 0

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.revoked += bool(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.has = set(assigned)
        self.assigned.set()


class Members:
    """Consumers of one group."""

    def __init__(self, name: str, kafka: KafkaSettings) -> None:
        self.topic, self.kafka = name, kafka
        self.all: list[AIOKafkaConsumer] = []

    async def join(self, *, session: int = 60_000) -> tuple[Any, Listener]:
        consumer = AIOKafkaConsumer(
            **self.kafka.aiokafka(),
            group_id=self.topic,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session,
            rebalance_timeout_ms=60_000,
            heartbeat_interval_ms=200,
        )
        self.all.append(consumer)
        share_by(consumer, {})
        await consumer.start()
        let_go_late(consumer)
        listener = Listener()
        consumer.subscribe([self.topic], listener=listener)
        return consumer, listener

    async def die(self, consumer: Any) -> None:
        """Without a word."""
        coordinator = consumer._coordinator
        for task in (coordinator._coordination_task, coordinator._heartbeat_task):
            task.cancel()
        await consumer._client.close()

    def in_group(self) -> int:
        admin = AdminClient(self.kafka.librdkafka())
        return len(admin.describe_consumer_groups([self.topic])[self.topic].result(10).members)


@pytest.fixture
async def members(name: str, kafka: KafkaSettings) -> AsyncIterator[Members]:
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, 2, 1, {})])
    await admin.close()
    there = Members(name, kafka)
    yield there
    for consumer in there.all:
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait([stopping], timeout=10)
        if stopping.done() and not stopping.cancelled():
            stopping.exception()


async def publish(kafka: KafkaSettings, topic: str, partition: int, value: bytes) -> None:
    producer = AIOKafkaProducer(**kafka.aiokafka())
    await producer.start()
    await producer.send_and_wait(topic, value, partition=partition)
    await producer.stop()


async def got(consumer: Any, value: bytes) -> None:
    async for record in consumer:
        if record.value == value:
            return


async def test_who_is_there_goes_on_while_the_group_waits_for_one_that_died(members: Members) -> None:
    first, has = await members.join()
    async with asyncio.timeout(PATIENCE):
        await has.assigned.wait()
        has.assigned.clear()
        dying, lost = await members.join(session=6_000)
        await lost.assigned.wait()
        await has.assigned.wait()
        (mine,) = has.has
        revoked = has.revoked
        await members.die(dying)
        _, heir = await members.join()
        while not first._coordinator._joins:  # noqa: ASYNC110  it has heard that the group joins anew
            await asyncio.sleep(0.01)
        await publish(members.kafka, members.topic, mine.partition, b"meanwhile")
        await got(first, b"meanwhile")
        await first.commit({mine: 1})
        assert first._coordinator._joins
        assert has.revoked == revoked
        assert not heir.assigned.is_set()
        await heir.assigned.wait()
        assert has.revoked == revoked + 1
        assert await first.committed(mine) == 1
        assert mine in has.has  # what one has, one keeps


async def test_who_stops_while_the_group_waits_leaves_at_once(members: Members) -> None:
    _, has = await members.join()
    async with asyncio.timeout(PATIENCE):
        await has.assigned.wait()
        dying, lost = await members.join()
        await lost.assigned.wait()
        await members.die(dying)  # the group waits for a minute now
        stopping, _ = await members.join()
        while await asyncio.to_thread(members.in_group) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await stopping.stop()
        while await asyncio.to_thread(members.in_group) > 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
