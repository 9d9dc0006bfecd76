"""The benchmark's topics: made, read back whole, deleted. By librdkafka, which shares no code with what is measured."""

from __future__ import annotations

import asyncio
import io
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streamproc.avro.codec import FRAME
from streamproc.avro.ports import Schema
from streamproc.errors import BrokerError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.settings import KafkaSettings

PARTITIONS = 4
_AT_ONCE = 50_000  # records
_PATIENCE = 30.0  # seconds without a record before reading back gives up
_NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_SYNC = b"streamproc-bench"


class Records(NamedTuple):
    """Consecutive records of one partition."""

    partition: int
    keys: list[bytes | None]
    values: list[bytes]


class Topics:
    """Topics of one run, which :meth:`clear` deletes."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self._run = f"bench-{uuid.uuid4().hex[:8]}"
        self._names: set[str] = set()
        self._number = 0

    def name(self, what: str) -> str:
        """A name that no other topic or group has."""
        self._number += 1
        name = f"{self._run}-{what}-{self._number}"
        self._names.add(name)
        return name

    def make(self, name: str) -> str:
        """Creates a topic."""
        config = {"max.message.bytes": str(16 << 20), "compression.type": "producer", "retention.ms": "-1"}
        self._admin(lambda admin: admin.ensure([TopicSpec(name, PARTITIONS, config=config)]))
        return name

    def ends(self, name: str) -> tuple[int, ...]:
        """The offset behind the last record of each partition."""
        (info,) = self._admin(lambda admin: admin.describe([name]))
        return tuple(info.end)

    def lag(self, group: str, name: str) -> int:
        """How many records lie behind the offsets that a group has committed."""
        ends = self.ends(name)
        found = committed(self.kafka, group, [TopicPartition(name, p) for p in range(len(ends))])
        return sum(end - at.offset for end, at in zip(ends, found, strict=True))

    def drop(self, name: str) -> None:
        """Deletes a topic, those whose names go on from its name with a dash, and the group of that name."""
        there = self._admin(lambda admin: admin.list())
        gone = [topic for topic in there if topic == name or topic.startswith(f"{name}-")]
        self._admin(lambda admin: admin.delete(gone))
        client = AdminClient(self.kafka.librdkafka() | {"log_level": 3})
        for deleted in client.delete_consumer_groups([name]).values():
            deleted.exception(_PATIENCE)  # most topics have no group of their name
        self._names.discard(name)

    def clear(self) -> None:
        """Deletes everything that this run has made."""
        for name in sorted(self._names):
            self.drop(name)

    def _admin(self, call: Any) -> Any:
        async def run() -> Any:
            admin = KafkaAdmin(self.kafka, timeout=20.0)
            try:
                return await call(admin)
            finally:
                await admin.close()

        return asyncio.run(run())

    def read(self, name: str) -> Iterator[Records]:
        """All that lies in a topic, each partition in its order.

        Raises:
            BrokerError: Kafka does not give what it says it has.
        """
        consumer = Consumer(
            self.kafka.librdkafka()
            | {
                "group.id": f"{self._run}-read",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": False,
                "fetch.queue.backoff.ms": 10,
                "queued.min.messages": 1_000_000,
            }
        )
        try:
            for partition, end in enumerate(self.ends(name)):
                yield from self._partition(consumer, name, partition, end)
        finally:
            consumer.close()

    def _partition(self, consumer: Consumer, name: str, partition: int, end: int) -> Iterator[Records]:
        if not end:
            return
        consumer.assign([TopicPartition(name, partition, 0)])
        at, heard = 0, time.monotonic()
        while at < end:
            messages = consumer.consume(min(_AT_ONCE, end - at), 0.5)
            if not messages:
                # Markers of transactions take offsets, too: what is left may be one.
                (place,) = consumer.position([TopicPartition(name, partition)])
                if place.offset >= end:
                    return
                if time.monotonic() - heard > _PATIENCE:
                    raise BrokerError(f"topic {name!r}[{partition}]: nothing comes behind offset {at} of {end}")
                continue
            heard = time.monotonic()
            for message in messages:
                if (error := message.error()) is not None:
                    raise BrokerError(f"topic {name!r}[{partition}]: {error}")
            at = (messages[-1].offset() or 0) + 1
            yield Records(partition, [m.key() for m in messages], [m.value() or b"" for m in messages])


def committed(kafka: KafkaSettings, group: str, places: list[TopicPartition]) -> list[TopicPartition]:
    """The places with the offsets that a group has committed; 0 where it has none.

    A consumer asks: librdkafka's admin client ends the process where the group has no coordinator yet.
    """
    consumer = Consumer(kafka.librdkafka() | {"group.id": group, "enable.auto.commit": False, "log_level": 3})
    try:
        found = consumer.committed(places, timeout=_PATIENCE)
    except KafkaException as error:
        if error.args[0].code() not in _NO_COORDINATOR:
            raise BrokerError(f"group {group!r}: {error.args[0].str()}") from error
        found = places
    finally:
        consumer.close()
    return [TopicPartition(at.topic, at.partition, max(at.offset, 0)) for at in found]


def columns(records: list[bytes], schema: Schema) -> pl.DataFrame:
    """Framed values of one schema as columns, by polars; instants as Int64.

    Raises:
        BrokerError: they are not of one schema id, or not what the schema says.
    """
    prefix = records[0][: FRAME.size] if records else b""
    if any(not value.startswith(prefix) for value in records):
        raise BrokerError("expected values of one schema")
    body = b"".join([value[FRAME.size :] for value in records])
    text = json.dumps(schema).encode()
    head = b"Obj\x01" + _long(1) + _long(11) + b"avro.schema" + _long(len(text)) + text + _long(0) + _SYNC
    block = _long(len(records)) + _long(len(body)) + body + _SYNC if records else b""
    frame = pl.read_avro(io.BytesIO(head + block))
    if len(frame) != len(records):
        raise BrokerError(f"expected {len(records)} values; found {len(frame)}")
    return frame.with_columns(pl.selectors.datetime().cast(pl.Int64))


def _long(value: int) -> bytes:
    """Avro's zig-zag varint of a number that is not negative."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
