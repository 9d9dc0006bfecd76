"""Changelogs read back from a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import pytest
from confluent_kafka import Consumer, IsolationLevel
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamproc.errors import BrokerUnavailable, StateError
from streamproc.log.batch_builder import packed
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.broker.config import BrokerConfig
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.reader import ChangelogReader
from streamproc.runtime.transport.producer import BatchProducer
from streamproc.settings import KafkaSettings
from streamproc.state import topics
from streamproc.state.restore import NOTHING, Restored
from streamproc.state.rows import bodies
from tests.e2e.kit import until
from tests.state.kit import WAYS, changes, head, rows

pytestmark = pytest.mark.e2e


async def make(kafka: KafkaSettings, name: str, partitions: int = 1, **config: str) -> str:
    spec = topics.spec(name, "stage", partitions)
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(spec.name, partitions, 1, {**spec.config, **config})])
    await admin.close()
    return spec.name


class Producer(BatchProducer):
    """Its transactions have ended when it says so. Kafka says so before it has written that they have."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        super().__init__(kafka, transactional_id=name)
        self._admin = AdminClient(kafka.librdkafka())
        self._sent: set[At] = set()

    async def send(self, topic, partition, body, done=None):
        self._sent.add(At(topic, partition))
        await super().send(topic, partition, body, done)

    async def commit(self):
        await super().commit()
        await until(self._has_ended)

    async def abort(self):
        await super().abort()
        await until(self._has_ended)

    def _has_ended(self) -> bool:
        asked = {at: OffsetSpec.latest() for at in self._sent}
        stable, last = (
            {
                at: found.result(10).offset
                for at, found in self._admin.list_offsets(asked, isolation_level=level).items()
            }
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
        return stable == last


@contextlib.asynccontextmanager
async def producing(kafka: KafkaSettings, name: str) -> AsyncIterator[BatchProducer]:
    producer = Producer(kafka, name)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.close()


@contextlib.asynccontextmanager
async def reading(
    kafka: KafkaSettings, *, patience: float = 30.0, way: bool | None = None
) -> AsyncIterator[ChangelogReader]:
    reader = ChangelogReader(kafka, patience=patience, use_kernels=way)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.close()


async def send(
    producer: BatchProducer,
    topic: str,
    put: Mapping[bytes, bytes],
    gone: Sequence[bytes] = (),
    *,
    position: int = 0,
    partition: int = 0,
) -> None:
    now = int(time.time() * 1000)
    for body in bodies(changes(put, gone), head(position), now, 4_000, topic=topic):
        await producer.send(topic, partition, body)
    await producer.flush()


def lying(kafka: KafkaSettings, topic: str) -> list[bytes | None]:
    """The values that lie in partition 0, whether committed or not."""
    options = {"group.id": "r", "isolation.level": "read_uncommitted", "enable.partition.eof": True}
    consumer = Consumer(kafka.librdkafka() | options)
    consumer.assign([At(topic, 0, 0)])
    found = []
    while (message := consumer.poll(20)) is not None and message.error() is None:
        found.append(message.value())
    consumer.close()
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_committed_is_read_and_what_was_aborted_is_not(kafka, name, way):
    topic = await make(kafka, name)
    async with producing(kafka, name) as producer, reading(kafka, way=way) as reader:
        assert await reader.read(topic, 0) == NOTHING
        await producer.begin()
        await send(producer, topic, {b"%d" % i: b"first" for i in range(1_000)}, position=1)
        await producer.commit()
        one = await reader.read(topic, 0)
        assert rows(one) == {b"%d" % i: b"first" for i in range(1_000)}
        assert one.head == head(1)

        await producer.begin()
        await send(producer, topic, {b"%d" % i: b"aborted" for i in range(1_000)}, [b"7"], position=2)
        await producer.abort()
        tail = await reader.read(topic, 0, one)
        assert tail.next_offset > one.next_offset + 1_000
        assert tail == one._replace(next_offset=tail.next_offset)

        await producer.begin()
        await send(producer, topic, {b"1": b"second"}, [b"2"], position=3)
        await producer.commit()
        expected = {b"%d" % i: b"first" for i in range(1_000) if i != 2} | {b"1": b"second"}
        for known in (NOTHING, one, tail):
            found = await reader.read(topic, 0, known)
            assert rows(found) == expected
            assert found.head == head(3)


async def test_a_transaction_under_way_is_not_waited_for(kafka, name):
    topic = await make(kafka, name)
    async with producing(kafka, name) as producer, producing(kafka, f"{name}-2") as other, reading(kafka) as reader:
        await producer.begin()
        await send(producer, topic, {b"a": b"1"}, position=1)
        await producer.commit()
        await other.begin()
        await send(other, topic, {b"a": b"2"}, position=2)
        found = await reader.read(topic, 0)
        assert rows(found) == {b"a": b"1"}
        await other.commit()
        assert rows(await reader.read(topic, 0, found)) == {b"a": b"2"}


async def test_many_partitions_at_the_same_time(kafka, name):
    topic = await make(kafka, name, 8)
    expected = {p: {b"%d-%d" % (p, i): bytes(200) for i in range(500 * p)} for p in range(8)}
    async with producing(kafka, name) as producer, reading(kafka) as reader:
        await producer.begin()
        for p, put in expected.items():
            await send(producer, topic, put, position=p, partition=p)
        await producer.commit()

        async def late(p: int) -> Restored:
            await asyncio.sleep(0.005 * p)  # while the others are under way
            return await reader.read(topic, p)

        found = await asyncio.gather(*(late(p) for p in range(8)))
        again = await asyncio.gather(*(reader.read(topic, p) for p in range(8)))
        for p, restored in enumerate(found):
            assert rows(restored) == rows(again[p]) == expected[p]
            assert restored.head == head(p)
        both = asyncio.create_task(reader.read(topic, 0))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"\[0\] is being read already"):
            await reader.read(topic, 0)
        await both


async def test_a_large_one_comes_in_many_fetches_and_the_loop_goes_on(kafka, name):
    topic = await make(kafka, name)
    async with producing(kafka, name) as producer, reading(kafka) as reader:
        await producer.begin()
        for at in range(3):
            put = {b"%d" % i: random.randbytes(4_000) for i in range(1_000)}
            await send(producer, topic, put, position=at)
        await producer.commit()
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        found = await reader.read(topic, 0)
        turning.cancel()
        assert rows(found) == put
        assert turns > 20


async def test_a_snapshot_that_does_not_go_with_the_log_is_not_used(kafka, name, caplog):
    topic = await make(kafka, name, **{"cleanup.policy": "compact,delete"})  # or Kafka would not delete records
    async with producing(kafka, name) as producer, reading(kafka) as reader:
        await producer.begin()
        await send(producer, topic, {b"a": b"1"}, position=1)
        await producer.commit()
        found = await reader.read(topic, 0)
        ahead = Restored(head(9), changes({b"z": b"9"}).keys, changes({b"z": b"9"}).values, 1_000)
        with caplog.at_level(logging.WARNING, "streamproc.worker"):
            again = await reader.read(topic, 0, ahead)
        assert rows(again) == {b"a": b"1"}
        assert again.head == head(1)
        said = f"{topic}[0]: its snapshot goes up to offset 1000, and the changelog from 0 to 3: it is read whole"
        assert said in caplog.messages

        await producer.begin()
        await send(producer, topic, {b"b": b"2"}, position=2)
        await producer.commit()
        admin = AdminClient(kafka.librdkafka())
        for future in admin.delete_records([At(topic, 0, found.next_offset)]).values():
            await asyncio.to_thread(future.result, 10)
        assert rows(await reader.read(topic, 0, found)) == {b"a": b"1", b"b": b"2"}
        assert rows(await reader.read(topic, 0, found._replace(next_offset=1))) == {b"b": b"2"}
        assert rows(await reader.read(topic, 0)) == {b"b": b"2"}


async def test_what_is_no_state_is_refused_by_its_place(kafka, name):
    topic = await make(kafka, name, 2)
    now = int(time.time() * 1000)
    async with producing(kafka, name) as producer, reading(kafka) as reader:
        await producer.begin()
        for partition in range(2):
            await send(producer, topic, {b"a": b"1"}, partition=partition)
        await producer.send(topic, 1, next(packed([now], [b"user"], [b"x"])))
        await producer.commit()
        with pytest.raises(StateError, match=rf"^{topic}\[1\] offset 2: a record with the key b'user'"):
            await reader.read(topic, 1)
        assert rows(await reader.read(topic, 0)) == {b"a": b"1"}


async def test_a_topic_that_is_not_there_is_not_waited_for_for_ever(kafka, name):
    async with reading(kafka, patience=0.5) as reader:
        with pytest.raises(BrokerUnavailable, match=rf"gave nothing of {name}\[0\] from offset 0 on for 0.5 s"):
            await reader.read(name, 0)


async def test_nobody_answers():
    reader = ChangelogReader(KafkaSettings("127.0.0.1:1"), patience=1)
    with pytest.raises(BrokerUnavailable, match=r"no Kafka at 127\.0\.0\.1:1"):
        await reader.start()


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedBroker]:
    """A broker that cleans its logs at once, and that may be stopped."""
    config = BrokerConfig(extra={"log.cleaner.backoff.ms": "100", "log.segment.delete.delay.ms": "100"})
    with EmbeddedBroker(config) as broker:
        yield broker


@pytest.mark.parametrize("way", WAYS)
async def test_after_compaction(own, name, way):
    """Rows that were replaced are gone, and of rows that are no more, the tombstones too."""
    kafka = own.settings
    topic = await make(
        kafka, name, **{"segment.ms": "100", "delete.retention.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    )
    async with producing(kafka, name) as producer, reading(kafka, way=way) as reader:
        for step in range(5):
            await producer.begin()
            put = {b"%d" % i: b"%d" % step for i in range(100 * step, 1_000)}
            await send(producer, topic, put, [b"%d" % i for i in range(100 * step)], position=step)
            await (producer.abort if step == 2 else producer.commit)()

        async def more() -> None:
            """Segments end when something comes behind them."""
            while True:
                await producer.begin()
                await send(producer, topic, {b"last": b"1"}, position=9)
                await producer.commit()
                await asyncio.sleep(0.5)

        writing = asyncio.create_task(more())
        try:
            await until(lambda: writing.done() or None not in lying(kafka, topic))
            assert not writing.done()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        assert len(lying(kafka, topic)) < 1_500  # of 5,005
        async with producing(kafka, name):  # ends what was under way
            pass
        found = await reader.read(topic, 0)
        assert rows(found) == {b"%d" % i: b"4" for i in range(400, 1_000)} | {b"last": b"1"}
        assert found.head == head(9)


async def test_a_broker_that_goes_away(own, name):
    """The last test with this broker."""
    kafka = own.settings
    topic = await make(kafka, name)
    async with producing(kafka, name) as producer:
        await producer.begin()
        for at in range(8):
            await send(producer, topic, {b"%d-%d" % (at, i): random.randbytes(4_000) for i in range(400)})
        await producer.commit()
    async with reading(kafka, patience=1.5) as reader:
        fetch = reader._fetch

        async def stop_first(tp):  # type: ignore[no-untyped-def]
            fetched = await fetch(tp)
            if fetched:
                await asyncio.to_thread(own.stop)
            return fetched

        reader._fetch = stop_first  # type: ignore[method-assign]
        with pytest.raises(BrokerUnavailable, match=rf"gave nothing of {topic}\[0\] from offset [1-9]\d+ on for 1.5 s"):
            await reader.read(topic, 0)
