"""What we build is read by everyone: the Java clients and tools, librdkafka and aiokafka, from a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamproc.log.batch_builder import packed
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.transport.producer import BatchProducer
from tests.e2e.kit import everything, until
from tests.java import tools
from tests.java.client import JavaClient, Row

pytestmark = pytest.mark.e2e

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
#: Sizes of bodies; the console prints the first ones only, it is slow.
SIZES = (1, 2, 63, 64, 65, 500, 50_000)
_FEW = 130


@pytest.fixture(scope="module")
def java(broker: EmbeddedBroker) -> Iterator[JavaClient]:
    with JavaClient(broker.bootstrap) as client:
        yield client


def rows(n: int, first: int) -> list[Row]:
    """Keys and values of any length and none, timestamps that go back and forth."""
    found = []
    for i in range(first, first + n):
        key = (b"key-%d" % (i % 200), None, b"", b"k" * 70)[i % 4]
        value = (b"value %d" % i, None if key else b"-", b"", b"v%d." % i * (i % 50))[i // 4 % 4]
        found.append(Row(key, value, 1_700_000_000_000 + i * 7 % 1000, [], i))
    return found


async def make(broker: EmbeddedBroker, name: str) -> str:
    admin = KafkaAdmin(broker.settings)
    config = {"max.message.bytes": str(16 << 20), "retention.ms": "-1"}  # the timestamps are old
    await admin.ensure([TopicSpec(name, 1, config=config)])
    await admin.close()
    return name


async def sent(broker: EmbeddedBroker, topic: str, codec: str, transaction: str | None) -> list[Row]:
    """Sends bodies of all sizes, each as a batch of its own."""
    producer = BatchProducer(broker.settings, compression=codec, transactional_id=transaction)
    await producer.start()
    if transaction:
        await producer.begin()
    wanted: list[Row] = []
    for size in SIZES:
        part = rows(size, len(wanted))
        wanted += part
        for body in packed([r.timestamp or 0 for r in part], [r.key for r in part], [r.value for r in part], 1 << 30):
            await producer.send(topic, 0, body)
        await producer.flush()
    if transaction:
        await producer.commit()
    await producer.close()
    assert producer.fatal is None
    return wanted


@pytest.mark.parametrize("codec", CODECS)
async def test_readers_read_every_batch(broker: EmbeddedBroker, java: JavaClient, name: str, codec: str) -> None:
    topic = await make(broker, name)
    wanted = await sent(broker, topic, codec, None)
    assert java.read(topic) == wanted
    if codec == CODECS[-1]:  # it takes seconds; test_java_reads asks it for every codec
        assert tools.console(broker.bootstrap, topic, _FEW) == wanted[:_FEW]
    plain = [(r.offset, r.timestamp, r.key, r.value) for r in wanted]
    assert [(m.offset, m.timestamp, m.key, m.value) for m in everything(broker.settings, topic)] == plain
    assert await by_aiokafka(broker, topic, len(wanted)) == plain
    batches = tools.dump(folder(broker, topic))
    assert all(batch["isvalid"] == "true" and batch["magic"] == "2" for batch in batches)
    assert [int(batch["count"]) for batch in batches] == list(SIZES)
    assert [batch["compresscodec"] for batch in batches[3:]] == [codec] * (len(SIZES) - 3)
    assert [int(batch["baseSequence"]) for batch in batches] == [sum(SIZES[:i]) for i in range(len(SIZES))]
    assert len({batch["producerId"] for batch in batches}) == 1
    assert batches[0]["producerId"] != "-1"


async def test_readers_read_every_batch_of_a_transaction(broker: EmbeddedBroker, java: JavaClient, name: str) -> None:
    topic = await make(broker, name)
    wanted = await sent(broker, topic, "lz4", name)
    await until(lambda: len(java.read(topic, committed_only=True)) == len(wanted))  # its marker is soon there
    assert java.read(topic, committed_only=True) == wanted
    assert tools.console(broker.bootstrap, topic, _FEW, committed_only=True) == wanted[:_FEW]
    batches = tools.dump(folder(broker, topic))
    assert all(batch["isvalid"] == "true" and batch["isTransactional"] == "true" for batch in batches)
    assert [int(batch["count"]) for batch in batches] == [*SIZES, 1]  # and the marker of its end


def folder(broker: EmbeddedBroker, topic: str) -> Path:
    assert broker.config.data_dir is not None
    (found,) = (path for path in broker.config.data_dir.rglob(f"{topic}-0") if path.is_dir())
    return found


async def by_aiokafka(broker: EmbeddedBroker, topic: str, n: int) -> list[tuple[int, int, bytes | None, bytes | None]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[tuple[int, int, bytes | None, bytes | None]] = []
        while len(found) < n:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [(r.offset, r.timestamp, r.key, r.value) for r in records]
        return found
    finally:
        await consumer.stop()
