"""Results of any columns, written as record batches, are what the codec makes of each row: so read the Java client,
the Java console consumer, librdkafka, and we ourselves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fastavro import parse_schema

from streamproc.avro.writer import RecordWriter
from streamproc.batch import frame_of
from streamproc.columns import Columns
from streamproc.compiled import available
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.partition import partition_of
from streamproc.runtime.transport.producer import BatchProducer
from tests.fuzz.agreeing import World, agree
from tests.fuzz.reading import blocks, by_aiokafka, by_librdkafka, make_topic
from tests.fuzz.schemas import PLAIN, Data
from tests.java import tools
from tests.java.client import JavaClient, Row

pytestmark = pytest.mark.e2e

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 2
EXAMPLES = 3
_TIME = 1_700_000_000_000


@dataclass(frozen=True)
class Sink:
    """What a writer needs of a topic."""

    name: str
    record: Any
    key: str | None
    partitions: int = PARTITIONS

    def key_of(self, record: Any) -> bytes | None:
        return None if self.key is None else str(getattr(record, self.key)).encode()


@pytest.fixture(scope="module")
def java(broker: EmbeddedBroker) -> Iterator[JavaClient]:
    with JavaClient(broker.bootstrap) as client:
        yield client


def plain_schema(chance: random.Random) -> dict[str, Any]:
    """A record with a string ``id`` and other plain fields, some of them nullable."""
    fields: list[dict[str, Any]] = [{"name": "id", "type": "string"}]
    for i in range(chance.randint(0, 6)):
        kind: Any = chance.choice((*PLAIN, {"type": "fixed", "name": f"F{i}", "size": 3}))
        shape = chance.choice((kind, kind, ["null", kind], [kind, "null"]))
        fields.append({"name": f"f{i}", "type": shape})
    chance.shuffle(fields)
    return {"type": "record", "name": "Thing", "namespace": "test", "fields": fields}


def results(world: World, chance: random.Random, n: int) -> list[Any]:
    data = Data(world.reader, chance)
    frame = b"\0" + world.codec.schema_id.to_bytes(4, "big")
    return [world.codec.decode(frame + data.datum()) for _ in range(n)]


@pytest.mark.parametrize("codec", CODECS)
async def test_every_client_reads_the_codecs_bytes(
    broker: EmbeddedBroker, java: JavaClient, name: str, codec: str
) -> None:
    for example in range(EXAMPLES):
        chance = random.Random(f"{codec} {example}")
        schema = plain_schema(chance)
        parse_schema(schema)
        world = World(schema, [])
        topic = f"{name}-{example}"
        await make_topic(broker.settings, topic, PARTITIONS)
        sink = Sink(topic, world.codec.record, chance.choice(("id", "id", None)))
        wanted, counts = await written(broker, world, sink, codec, chance)
        found = [java.read(topic, partition=p, committed_only=True, at_least=counts[p]) for p in range(PARTITIONS)]
        assert sorted((r.key, r.value, r.timestamp) for part in found for r in part) == sorted(wanted)
        assert all(not row.headers for part in found for row in part)
        for p, part in enumerate(found):
            if sink.key is not None:
                assert all(partition_of(row.key or b"", PARTITIONS) == p for row in part)
            in_order(wanted, part)
            said = [(row.offset, row.timestamp, row.key, row.value) for row in part]
            assert by_librdkafka(broker.settings, topic, p, len(part)) == said
            assert [
                (r.offset, r.timestamp, r.key, r.value) for r in await by_aiokafka(broker.settings, topic, p)
            ] == said
            if example == p == 0:  # it takes seconds
                assert tools.console(broker.bootstrap, topic, len(part[:40])) == part[:40]
            for fetched in await blocks(broker.settings, topic, p):
                agree(world, fetched.parts)


def in_order(wanted: list[tuple[Any, ...]], part: list[Row]) -> None:
    """Holds that a partition's records come in the order in which they were sent."""
    left = iter(wanted)
    for row in part:
        assert any(each == (row.key, row.value, row.timestamp) for each in left), f"{row} is out of its place"


async def written(
    broker: EmbeddedBroker, world: World, sink: Sink, codec: str, chance: random.Random
) -> tuple[list[tuple[Any, ...]], Counter[int]]:
    """Writes some batches of results, by kernels and without. Gives what ought to be there, in the order of sending,
    and how many records of it each partition has.
    """
    transaction = sink.name if chance.random() < 0.4 else None
    producer = BatchProducer(broker.settings, compression=codec, transactional_id=transaction)
    wanted: list[tuple[Any, ...]] = []
    counts: Counter[int] = Counter()
    await producer.start()
    if transaction:
        await producer.begin()
    for kernels in (available(), False):
        writer = RecordWriter(world.codec, sink, use_kernels=kernels, limit=chance.choice((2_000, 512 << 10)))
        rows = results(world, chance, chance.choice((1, 50, 2_000)))
        stamps = np.array([_TIME + chance.randrange(-5_000, 5_000) for _ in rows], np.int64)
        columns = Columns.of(frame_of(rows, sink.record))
        for partition, body in writer.write(columns, stamps):
            counts[partition] += body.records
            await producer.send(sink.name, partition, body)
        pairs = zip(rows, stamps.tolist(), strict=True)
        wanted += [(sink.key_of(row), world.codec.encode(row), stamp) for row, stamp in pairs]
    await producer.flush()
    if transaction:
        await producer.commit()
    await producer.close()
    return wanted, counts
