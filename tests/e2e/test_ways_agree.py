"""Whoever wrote a topic, and however: the kernels, polars, rows and fastavro read the same of it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

from streamproc.log.broker import EmbeddedBroker
from streamproc.settings import KafkaSettings
from tests.fuzz.agreeing import World, agree, records
from tests.fuzz.reading import blocks, by_aiokafka, make_topic
from tests.fuzz.schemas import Data, Schemas
from tests.java.client import JavaClient, Row

pytestmark = pytest.mark.e2e

#: The first example and how many. By hand: STREAMPROC_EXAMPLES=1000:500 pytest tests/e2e/test_ways_agree.py
FIRST, EXAMPLES = map(int, os.environ.get("STREAMPROC_EXAMPLES", "0:12").split(":"))
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WRITERS = ("librdkafka", "aiokafka", "java")
HEADERS: dict[str, tuple[list[tuple[str, bytes | None]], ...]] = {
    "none": ([],),
    "constant": ([("trace", b"0123456789")],),
    "varying": ([], [("a", b"1")], [("a", b""), ("a", None), ("é", b"\xff")]),
}
_TIME = 1_700_000_000_000


class Habit(NamedTuple):
    """How a producer writes."""

    writer: str
    codec: str
    batch: int  # records in a batch
    idempotent: bool


@pytest.fixture(scope="module")
def java(broker: EmbeddedBroker) -> Iterator[JavaClient]:
    with JavaClient(broker.bootstrap) as client:
        yield client


class Log:
    """A topic of one partition, and all who can write to it."""

    def __init__(self, kafka: KafkaSettings, topic: str, java: JavaClient) -> None:
        self.kafka, self.topic, self._java = kafka, topic, java

    async def write(self, habit: Habit, rows: list[Row]) -> None:
        await {"librdkafka": self._librdkafka, "aiokafka": self._aiokafka, "java": self._by_java}[habit.writer](
            habit, rows
        )

    async def _librdkafka(self, habit: Habit, rows: list[Row]) -> None:
        config = {
            "compression.type": habit.codec,
            "batch.num.messages": habit.batch,
            "linger.ms": 50,
            "enable.idempotence": habit.idempotent,
            "max.in.flight": 1,
        }
        producer = Producer(self.kafka.librdkafka() | config)
        failed: list[Any] = []

        def told(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        for r in rows:
            producer.produce(
                self.topic, r.value, r.key, 0, on_delivery=told, timestamp=r.timestamp, headers=list(r.headers)
            )
        assert await asyncio.to_thread(producer.flush, 30) == 0
        assert not failed

    async def _aiokafka(self, habit: Habit, rows: list[Row]) -> None:
        codec = None if habit.codec == "none" else habit.codec
        async with AIOKafkaProducer(
            bootstrap_servers=self.kafka.bootstrap,
            compression_type=codec,
            linger_ms=50 if habit.batch >= len(rows) else 0,
            max_batch_size=4 << 20,
            enable_idempotence=habit.idempotent,
            acks="all",
        ) as producer:
            for at in range(0, len(rows), habit.batch):
                some = rows[at : at + habit.batch]
                sent = [await producer.send(self.topic, r.value, r.key, 0, r.timestamp, list(r.headers)) for r in some]
                await asyncio.gather(*sent)

    async def _by_java(self, habit: Habit, rows: list[Row]) -> None:
        every = habit.batch if habit.batch < len(rows) else 0
        await asyncio.to_thread(
            self._java.produce,
            self.topic,
            rows,
            codec=habit.codec,
            flush_every=every,
            linger_ms=50,
            idempotent=habit.idempotent,
        )


def rows_of(world: World, writers: list[dict[str, Any]], chance: random.Random, count: int) -> list[Row]:
    """Records of all the world's schemas, with a key habit and a header habit, and now and then one that is none."""
    data = [Data(schema, chance) for schema in writers]
    made = [[writer.datum() for _ in range(20)] for writer in data]
    keys = chance.choice(((b"k",), (None,), (b"", b"k", None, b"\xff" * 30)))
    headers = HEADERS[chance.choice(("none", "none", "constant", "varying"))]
    mixed, tombstones, poison = chance.random() < 0.4, chance.random() < 0.3, chance.random() < 0.3
    rows = []
    for i in range(count):
        at = chance.randrange(len(data)) if mixed else 0
        value: bytes | None = b"\0" + world.ids[at].to_bytes(4, "big") + chance.choice(made[at])
        if tombstones and chance.random() < 0.1:
            value = None
        elif poison and chance.random() < 0.02:
            value = chance.choice((b"", b"\1", b"\0\0\0\3\xe7\0", value[:-1], value + b"\0"))  # type: ignore[index,operator]
        key = chance.choice(keys)
        if key is None and value is None:
            key = b""  # aiokafka sends nothing without either
        rows.append(Row(key, value, _TIME + i * chance.choice((0, 1, 1000)), chance.choice(headers)))
    return rows


async def same_everywhere(log: Log, chance: random.Random) -> None:
    schemas = Schemas(chance)
    reader = schemas.reader()
    writers = [schemas.writer(reader) for _ in range(chance.choice((0, 0, 1, 3)))]
    world = World(reader, writers)
    await make_topic(log.kafka, log.topic)
    sent: list[Row] = []
    for _ in range(chance.choice((1, 1, 2))):
        count = chance.choice((1, 5, 60, 3000))
        habit = Habit(
            chance.choice(WRITERS),
            chance.choice(CODECS),
            1 if count <= 60 and chance.random() < 0.3 else chance.choice((7, 10_000)),
            chance.random() < 0.5,
        )
        rows = rows_of(world, [reader, *writers], chance, count)
        await log.write(habit, rows)
        sent += rows
    plain = await by_aiokafka(log.kafka, log.topic)
    assert [(r.offset, r.timestamp, r.key, r.value) for r in plain] == [
        (i, row.timestamp, row.key, row.value) for i, row in enumerate(sent)
    ]
    names = world.names
    columns = frozenset(chance.sample(names, chance.randint(1, len(names)))) if chance.random() < 0.7 else None
    for first in {0, chance.randrange(len(sent))}:
        fetched = await blocks(log.kafka, log.topic, first=first, fetch_bytes=chance.choice((1 << 12, 4 << 20)))
        raw = [r for item in fetched for r in records(item.parts) if r.offset >= item.first_offset]
        assert [(r.offset, r.timestamp, r.key, r.value) for r in raw] == [
            (r.offset, r.timestamp, r.key, r.value) for r in plain[first:]
        ]
        assert [list(r.headers) for r in raw] == [
            [(name, value or b"") for name, value in r.headers] for r in plain[first:]
        ]
        for item in fetched:
            agree(world, item.parts, columns, item.first_offset)


@pytest.mark.timeout(0 if EXAMPLES > 40 else 400)
async def test_all_ways_read_the_same(kafka: KafkaSettings, name: str, java: JavaClient) -> None:
    for seed in range(FIRST, FIRST + EXAMPLES):
        try:
            await same_everywhere(Log(kafka, f"{name}-{seed}", java), random.Random(seed))
        except BaseException as error:
            error.add_note(f"example {seed}: STREAMPROC_EXAMPLES={seed}:1 makes it again")
            raise
