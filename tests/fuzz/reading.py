"""Topics of a real Kafka, and reading them: by plain clients and by the product's fetcher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as At

from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.fetch import give_blocks
from streamproc.settings import KafkaSettings

#: A record: its offset, its timestamp, its key, its value.
Told = tuple[int, int, bytes | None, bytes | None]
_SECONDS = 60.0


async def make_topic(kafka: KafkaSettings, name: str, partitions: int = 1) -> None:
    """A topic that keeps records however old their timestamps are."""
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, partitions, config={"retention.ms": "-1"})])
    await admin.close()


async def by_aiokafka(kafka: KafkaSettings, topic: str, partition: int = 0) -> list[Any]:
    """Every record, by aiokafka's own consumer."""
    tp = TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        consumer.assign([tp])
        return [record async for record in _read(consumer, tp, 0)]


async def blocks(
    kafka: KafkaSettings, topic: str, partition: int = 0, *, first: int = 0, fetch_bytes: int = 4 << 20
) -> list[Fetched]:
    """What the product's fetcher gives from the offset ``first`` on."""
    tp = TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, max_partition_fetch_bytes=fetch_bytes) as consumer:
        give_blocks(consumer, lambda: frozenset([topic]))
        consumer.assign([tp])
        return [item async for item in _read(consumer, tp, first)]


async def _read(consumer: AIOKafkaConsumer, tp: TopicPartition, first: int) -> AsyncIterator[Any]:
    """All that the consumer gives from ``first`` up to the log's end."""
    end = (await consumer.end_offsets([tp]))[tp]
    consumer.seek(tp, first)
    async with asyncio.timeout(_SECONDS):
        while await consumer.position(tp) < end:
            for item in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, ()):
                yield item


def by_librdkafka(kafka: KafkaSettings, topic: str, partition: int, count: int) -> list[Told]:
    """The first ``count`` records of those that are committed."""
    config = {"group.id": "nobody", "enable.auto.commit": False, "isolation.level": "read_committed"}
    found: list[Told] = []
    with contextlib.closing(Consumer(kafka.librdkafka() | config)) as consumer:
        consumer.assign([At(topic, partition, 0)])
        while len(found) < count:
            some = consumer.consume(count - len(found), 10.0)
            assert some, f"{len(found)} of {count} records came"
            for record in some:
                assert record.error() is None, record.error()
                found.append((record.offset(), record.timestamp()[1], record.key(), record.value()))
    return found
