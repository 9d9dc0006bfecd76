"""Writes an input to Kafka by librdkafka, as a producer of its users would: keyed, in Confluent's framing, lz4."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from typing import Any

import fastavro
from confluent_kafka import Producer

from streamproc.avro.codec import FRAME
from streamproc.avro.ports import Schema
from streamproc.bench.inputs import Input
from streamproc.bench.topics import Topics
from streamproc.errors import BrokerError

_FLUSH = 120.0  # seconds
_ROOM = 60.0  # seconds that a full queue may take until it has room again


def produce(topics: Topics, given: Input, topic: str, schema: Schema, schema_id: int, count: int) -> None:
    """Fills an empty topic with the first ``count`` events.

    Raises:
        BrokerError: Kafka did not take all of them.
    """
    append(topics, given, topic, schema, schema_id, given.rows(count))
    there = sum(topics.ends(topic))
    if there != count:
        raise BrokerError(f"topic {topic!r}: expected {count} records; Kafka has {there}")


def append(
    topics: Topics, given: Input, topic: str, schema: Schema, schema_id: int, rows: Iterable[dict[str, Any]]
) -> None:
    """Writes rows of an input behind what is there.

    Raises:
        BrokerError: Kafka did not take all of them.
    """
    producer = Producer(
        topics.kafka.librdkafka()
        | {
            "enable.idempotence": True,
            "log_level": 3,  # what it tries again is nobody's business
            "linger.ms": 2000,  # a batch leaves when it is full; only the last ones wait
            "batch.num.messages": given.batch,
            "batch.size": 8 << 20,
            "message.max.bytes": 8 << 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    encode = encoder(schema, schema_id)
    for at, row in enumerate(rows):
        headers = None if given.headers is None else dict(given.headers(at))
        _send(producer, topic, encode(row), str(row[given.key]).encode(), headers)
        if at % 1000 == 0:
            producer.poll(0)
    if left := producer.flush(_FLUSH):
        raise BrokerError(f"topic {topic!r}: Kafka did not take {left} records")


def encoder(schema: Schema, schema_id: int) -> Callable[[dict[str, Any]], bytes]:
    """Values in Confluent's framing, by fastavro."""
    parsed, prefix, out = fastavro.parse_schema(schema), FRAME.pack(0, schema_id), io.BytesIO()
    write = fastavro.schemaless_writer

    def encode(row: dict[str, Any]) -> bytes:
        out.seek(0)
        out.truncate()
        out.write(prefix)
        write(out, parsed, row)
        return out.getvalue()

    return encode


def _send(producer: Producer, topic: str, value: bytes, key: bytes, headers: Any) -> None:
    deadline = 0.0
    while True:
        try:
            if headers:
                producer.produce(topic, value, key, headers=headers)
            else:
                producer.produce(topic, value, key)
            return
        except BufferError:
            deadline = deadline or time.monotonic() + _ROOM
            if time.monotonic() > deadline:
                raise BrokerError(f"topic {topic!r}: Kafka takes nothing for {_ROOM:g} s") from None
            producer.poll(0.1)
