"""What a real Kafka's fetches become: seeks, gaps, logs that are cut off or damaged, transactions."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from streamproc.log.batches import CorruptBatch, RecordBatch
from streamproc.log.broker import BrokerConfig, EmbeddedBroker
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.driver import records_of
from streamproc.runtime.transport.fetch import give_blocks
from streamproc.settings import KafkaSettings
from tests.e2e.faust_kit import Reader, committed, until

pytestmark = pytest.mark.e2e
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def make(kafka: KafkaSettings, topic: str, **config: Any) -> str:
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    admin = AdminClient(kafka.librdkafka())
    admin.create_topics([NewTopic(topic, 1, 1, config=settings)])[topic].result(20)
    return topic


def produce(kafka: KafkaSettings, topic: str, n: int, *, first: int = 0, each: int = 20, **more: Any) -> None:
    """Records with their numbers as values, ``each`` to a batch."""
    producer = Producer(kafka.librdkafka() | {"linger.ms": 1_000, "enable.idempotence": True} | more)
    for i in range(first, first + n):
        producer.produce(topic, b"%d" % i + b"." * 100, b"k%d" % i, partition=0)
        if (i - first + 1) % each == 0:
            assert producer.flush(20) == 0
    assert producer.flush(20) == 0


class Blocks:
    """aiokafka's consumer with our fetcher, on one partition, without a group."""

    def __init__(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> None:
        self.consumer, self.tp = consumer, tp
        self.all: list[Fetched] = []

    @property
    def offsets(self) -> list[int]:
        return [r.offset for fetched in self.all for r in records_of(fetched)]

    @property
    def corrupt(self) -> list[tuple[int, int]]:
        parts = [part for fetched in self.all for part in fetched.parts]
        return [(part.base_offset, part.next_offset) for part in parts if isinstance(part, CorruptBatch)]

    async def until(self, what: Callable[[], Any], seconds: float = 90.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                for items in (await self.consumer.getmany(timeout_ms=200)).values():
                    self.all += items

    async def read_to(self, offset: int) -> list[int]:
        await self.until(lambda: self.all and self.all[-1].next_offset >= offset)
        return self.offsets


@contextlib.asynccontextmanager
async def blocks(kafka: KafkaSettings, topic: str, at: int = 0, **options: Any) -> AsyncIterator[Blocks]:
    given: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "fetch_max_wait_ms": 50,
        "isolation_level": "read_committed",
    }
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, **given | options)
    await consumer.start()
    try:
        give_blocks(consumer, lambda: frozenset([topic]))
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, at)
        yield Blocks(consumer, tp)
    finally:
        await consumer.stop()


@pytest.mark.parametrize("codec", CODECS)
async def test_seeks_into_the_middle_of_batches(kafka: KafkaSettings, name: str, codec: str) -> None:
    topic = make(kafka, name)
    produce(kafka, topic, 100, **{"compression.type": codec})
    async with blocks(kafka, topic) as reader:
        for at in (0, 1, 19, 20, 57, 99):
            reader.all.clear()
            reader.consumer.seek(reader.tp, at)
            assert await reader.read_to(100) == list(range(at, 100))
            parts = [part for fetched in reader.all for part in fetched.parts]
            assert all(isinstance(part, RecordBatch) and part.count == 20 for part in parts)


async def test_batches_that_are_larger_than_a_fetch_and_fetches_that_end_in_half_a_batch(
    kafka: KafkaSettings, name: str
) -> None:
    topic = make(kafka, name)
    produce(kafka, topic, 200)
    for size in (1, 3_000, 4_000):  # a batch has 2,500 bytes
        async with blocks(kafka, topic, 7, max_partition_fetch_bytes=size) as reader:
            assert await reader.read_to(200) == list(range(7, 200))
            assert len(reader.all) > 4


async def test_times_that_the_broker_gives(kafka: KafkaSettings, name: str) -> None:
    topic = make(kafka, name, message_timestamp_type="LogAppendTime")
    produce(kafka, topic, 40)
    async with blocks(kafka, topic) as reader:
        await reader.read_to(40)
        parts = [part for fetched in reader.all for part in fetched.parts]
        for part in parts:
            assert isinstance(part, RecordBatch)
            assert part.append_time is not None
            assert {r.timestamp for r in part.records()} == {part.append_time}


async def test_transactions_of_several_producers_across_fetches(kafka: KafkaSettings, name: str) -> None:
    topic = make(kafka, name)
    producers = [Producer(kafka.librdkafka() | {"transactional.id": f"{name}-{i}", "linger.ms": 0}) for i in range(3)]
    plain = Producer(kafka.librdkafka() | {"linger.ms": 0})
    for producer in producers:
        producer.init_transactions(20)
        producer.begin_transaction()
    kept: list[bytes] = []
    for turn in range(12):
        for i, producer in enumerate([*producers, plain]):
            value = b"%d-%d" % (turn, i) + b"." * 300
            producer.produce(topic, value, partition=0)
            assert producer.flush(20) == 0
            if i in (0, 3) or (i == 1 and turn >= 6):  # 0 commits all, 1 its second half, 2 nothing, 3 has none
                kept.append(value)
        if turn in (5, 11):
            producers[0].commit_transaction(20)
            if turn == 5:
                producers[1].abort_transaction(20)
                for producer in producers[:2]:
                    producer.begin_transaction()
    producers[1].commit_transaction(20)
    producers[2].abort_transaction(20)
    for size in (500, 1 << 20):  # of one batch each, or of all
        async with blocks(kafka, topic, max_partition_fetch_bytes=size) as reader:
            await reader.until(lambda: len(reader.offsets) >= len(kept))
            values = [r.value for fetched in reader.all for r in records_of(fetched)]
            assert values == kept
            end = (await reader.consumer.end_offsets([reader.tp]))[reader.tp]
            async with asyncio.timeout(20):
                while await reader.consumer.position(reader.tp) < end:
                    assert not await reader.consumer.getmany(timeout_ms=100)


async def test_a_log_that_is_cut_off_at_the_front_while_it_is_read(
    kafka: KafkaSettings, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = make(kafka, name)
    produce(kafka, topic, 200)
    async with blocks(kafka, topic, max_partition_fetch_bytes=1) as reader:
        await reader.until(lambda: len(reader.all) >= 2)
        admin = AdminClient(kafka.librdkafka())
        (deleted,) = admin.delete_records([Place(topic, 0, 150)]).values()
        deleted.result(20)
        got = await reader.read_to(200)
    assert got == sorted(set(got))
    assert set(range(150, 200)) <= set(got)
    assert not set(range(100, 150)) & set(got)  # two fetches may have been under way
    assert "is not in the log any more; reading goes on at its start" in caplog.text
    assert not any(fetched.restarted for fetched in reader.all)


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("ways", ["blocks", "plain", "both"])
async def test_a_topic_that_is_deleted_and_made_anew_under_a_reader(
    kafka: KafkaSettings, name: str, tmp_path: Path, ways: str, seen: bool
) -> None:
    """Whether its reader sees that it is gone, and has no partitions then, or finds another log in its place."""
    topic = make(kafka, name)
    produce(kafka, topic, 200)
    plain = [topic] if ways != "blocks" else []
    async with Reader(kafka, tmp_path, name, [topic] if ways != "plain" else [], plain) as reader:

        def read() -> list[list[int]]:
            blocks, events = [o for _, _, o in reader.offsets], [o for _, _, o, _ in reader.events]
            return [blocks] * (ways != "plain") + [events] * (ways != "blocks")

        async def until_read(n: int, end: int) -> None:
            await until(lambda: all(len(o) >= n for o in read()) and committed(kafka, name, topic) == [end])

        await until_read(200, 200)
        admin = AdminClient(kafka.librdkafka())
        if not seen:  # it asks for nothing meanwhile
            reader.consumer.hold(TP(topic, 0), True)
            await asyncio.sleep(0.5)
        admin.delete_topics([topic])[topic].result(20)
        if seen:
            await until(lambda: not reader.consumer.assignment())
        make(kafka, topic)
        produce(kafka, topic, 50)
        reader.consumer.hold(TP(topic, 0), False)
        await until_read(250, 50)
        produce(kafka, topic, 30, first=50)
        await until_read(280, 80)
    assert all(offsets == [*range(200), *range(80)] for offsets in read())


@pytest.fixture(scope="module")
def own() -> Any:
    """A broker that compacts at once, and whose files a test may touch."""
    compact = {
        "log.cleaner.backoff.ms": "200",
        "log.retention.check.interval.ms": "500",
        "log.segment.delete.delay.ms": "0",
    }
    with EmbeddedBroker(BrokerConfig(extra=compact)) as running:
        yield running


async def test_a_compacted_log(own: EmbeddedBroker, name: str) -> None:
    """Offsets with gaps, batches with fewer records than offsets, batches without any, segments that are gone."""
    kafka = own.settings
    topic = make(
        kafka,
        name,
        cleanup_policy="compact",
        segment_bytes=1 << 20,
        min_cleanable_dirty_ratio=0.0,
        max_compaction_lag_ms=1,
    )
    producer = Producer(
        kafka.librdkafka() | {"linger.ms": 1_000, "enable.idempotence": True, "compression.type": "zstd"}
    )
    chance = random.Random(7)
    for i in range(4_000):
        producer.produce(topic, chance.randbytes(1_400), b"k%d" % (i % 7 if i % 100 else i), partition=0)
        if i % 20 == 19:
            assert producer.flush(20) == 0
    expected: list[int] = []
    async with asyncio.timeout(60):
        while len(expected) == 0 or len(expected) > 1_500:
            await asyncio.sleep(1)
            plain = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
            await plain.start()
            tp = TopicPartition(topic, 0)
            plain.assign([tp])
            plain.seek(tp, 0)
            expected = []
            while not expected or expected[-1] < 3_999:
                expected += [r.offset for rs in (await plain.getmany(timeout_ms=500)).values() for r in rs]
            await plain.stop()
            async with blocks(kafka, topic) as reader:
                got = await reader.read_to(4_000)
    assert set(got) <= set(expected)  # the cleaner may have gone on meanwhile
    assert got == sorted(set(got))
    assert set(range(100, 4_000, 100)) <= set(got)  # the only ones of their keys
    parts = [part for fetched in reader.all for part in fetched.parts if isinstance(part, RecordBatch)]
    assert any(part.count < part.last_offset_delta + 1 for part in parts)


def batch_at(log: bytes, offset: int) -> tuple[int, int]:
    """Where the batch with an offset begins and ends in a segment's file."""
    at = 0
    while True:
        base, length = struct.unpack_from(">qi", log, at)
        (last,) = struct.unpack_from(">i", log, at + 23)
        if base <= offset <= base + last:
            return at, at + 12 + length
        at += 12 + length


def damage(own: EmbeddedBroker, topic: str, change: Callable[[bytearray, int, int], None]) -> None:
    """Changes the batch with offset 70 in a segment of a broker that does not run."""
    assert own.config.data_dir is not None
    (path,) = own.config.data_dir.glob(f"**/{topic}-0/00000000000000000000.log")
    log = bytearray(path.read_bytes())
    change(log, *batch_at(bytes(log), 70))
    path.write_bytes(log)


def checksum(log: bytearray, start: int, end: int) -> None:
    log[end - 3] ^= 0xFF


def shorter(log: bytearray, start: int, end: int) -> None:
    struct.pack_into(">i", log, start + 8, end - start - 12 - 5)


def endless(log: bytearray, start: int, end: int) -> None:
    struct.pack_into(">i", log, start + 8, 2**31 - 1)


def magic(log: bytearray, start: int, end: int) -> None:
    log[start + 16] = 7


def old_magic(log: bytearray, start: int, end: int) -> None:
    log[start + 16] = 0


def far(log: bytearray, start: int, end: int) -> None:
    struct.pack_into(">q", log, start, 1 << 60)


def zeros(log: bytearray, start: int, end: int) -> None:
    log[start:end] = bytes(end - start)


DAMAGES = {each.__name__: each for each in (checksum, shorter, endless, magic, old_magic, far, zeros)}


async def test_damage_on_the_brokers_disk(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is told once as a corrupt batch, and the partition goes on behind it."""
    own = EmbeddedBroker(data_dir=tmp_path)
    with own:
        for kind in DAMAGES:
            make(own.settings, f"{name}-{kind}")
            produce(own.settings, f"{name}-{kind}", 200, each=10)
    for kind, change in DAMAGES.items():
        damage(own, f"{name}-{kind}", change)
    with own:
        for kind in DAMAGES:
            async with blocks(own.settings, f"{name}-{kind}") as reader:
                got = await reader.read_to(200)
                assert len(reader.corrupt) == 1, kind
                ((start, behind),) = reader.corrupt
                # The broker finds batches by an index of every 4 KB: where it is lost, it is lost up to there.
                assert start == 70
                assert behind <= 80 + (30 if kind in ("endless", "old_magic", "zeros") else 0), kind
                assert got == [*range(70), *range(behind, 200)], kind
                assert f"{name}-{kind}[0]" in caplog.text
