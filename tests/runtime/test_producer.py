"""Record batches through aiokafka's sender to a real Kafka."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as At

from streamproc.errors import BrokerError, BrokerUnavailable, ProducerFenced
from streamproc.log import batch_builder
from streamproc.log.batch_builder import Body, packed
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import Delivery, TopicSpec
from streamproc.runtime.transport import sender
from streamproc.runtime.transport.producer import BatchProducer
from streamproc.runtime.transport.sender import Parcel
from streamproc.settings import KafkaSettings
from tests.e2e.kit import everything, until

pytestmark = pytest.mark.e2e


async def make(kafka: KafkaSettings, name: str, partitions: int = 1, **config: str) -> str:
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, partitions, config={"retention.ms": "-1", **config})])
    await admin.close()
    return name


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[BatchProducer]:
    made = BatchProducer(kafka)
    await made.start()
    yield made
    await made.close()


def body(*values: bytes) -> Body:
    """Stamped with the present: of a producer whose records are older than a day a broker that starts knows nothing,
    and takes a batch twice.
    """
    (one,) = packed([int(time.time() * 1000)] * len(values), [b"k"] * len(values), list(values))
    return one


def numbered(n: int, first: int = 0) -> Body:
    return body(*(b"%d" % i for i in range(first, first + n)))


def seen(kafka: KafkaSettings, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """What a reader, of committed transactions or of all, sees of partition 0."""
    consumer = Consumer(
        kafka.librdkafka() | {"group.id": "r", "isolation.level": isolation, "enable.partition.eof": True}
    )
    consumer.assign([At(topic, 0, 0)])
    found: list[bytes] = []
    while (message := consumer.poll(20)) is not None and message.error() is None:
        found.append(message.value() or b"")
    consumer.close()
    return found


async def test_each_body_is_told_where_it_lies(kafka, producer, name):
    topic = await make(kafka, name, 2)
    told: list[tuple[int, Delivery]] = []
    for i in range(40):
        await producer.send(topic, i % 2, numbered(1 + i % 5, 100 * i), lambda d, i=i: told.append((i, d)))
    await producer.flush()
    found = {(raw.partition, raw.offset): raw for raw in everything(kafka, topic)}
    assert len(found) == sum(1 + i % 5 for i in range(40))
    assert [i for i, _ in sorted(told)] == list(range(40))
    for i, delivery in told:
        assert delivery.error is None
        assert delivery.partition == i % 2
        for place in range(1 + i % 5):
            assert found[i % 2, delivery.offset + place].value == b"%d" % (100 * i + place)


async def test_what_waits_goes_together(kafka, producer, name):
    """While a request is under way, small bodies become one batch; large ones stay by themselves."""
    topic = await make(kafka, name)
    parcels: list[Parcel] = []
    append = producer._sender.accumulator._append_batch
    producer._sender.accumulator._append_batch = lambda parcel, tp: (parcels.append(parcel), append(parcel, tp))[1]
    for i in range(300):
        await producer.send(topic, 0, numbered(1, i))
    await producer.flush()
    assert [raw.value for raw in everything(kafka, topic)] == [b"%d" % i for i in range(300)]
    assert sum(parcel.record_count() for parcel in parcels) == 300
    assert len(parcels) < 30
    parcels.clear()
    for _ in range(10):
        await producer.send(topic, 0, body(bytes(60_000)))
    await producer.flush()
    assert [parcel.record_count() for parcel in parcels] == [1] * 10


async def test_order_is_kept_over_many_requests(kafka, producer, name):
    topic = await make(kafka, name)
    for i in range(50):
        for j in range(20):
            await producer.send(topic, 0, numbered(3, (i * 20 + j) * 3))
        await asyncio.sleep(0.002)
    await producer.flush()
    assert [int(raw.value or b"") for raw in everything(kafka, topic)] == list(range(3000))


async def test_it_is_bounded_and_waits(kafka, name):
    topic = await make(kafka, name)
    producer = BatchProducer(kafka, max_bytes=200_000)
    await producer.start()
    most = 0
    for i in range(40):
        await producer.send(topic, 0, body(bytes(50_000) + b"%d" % i))
        most = max(most, producer._bytes)
        assert sum(batch._builder.bytes for batch in list(producer._sender.outstanding)) <= 200_000
    assert 100_000 < most <= 200_000
    await producer.send(topic, 0, body(bytes(300_000)))  # one larger than all room is taken alone
    await producer.close()
    assert producer._bytes == 0
    assert len(everything(kafka, topic)) == 41


async def test_sequence_numbers_go_on_behind_the_last_one(kafka, producer, name):
    """After 2**31 records of a partition, which a busy one sees within the hour."""
    topic = await make(kafka, name)
    producer._sender.client._txn_manager._sequence_numbers[TopicPartition(topic, 0)] = 2**31 - 5
    errors = []
    for i in range(4):
        await producer.send(topic, 0, numbered(3, 3 * i), lambda d: errors.append(d.error))
        await producer.flush()
    assert errors == [None] * 4
    assert [raw.value for raw in everything(kafka, topic)] == [b"%d" % i for i in range(12)]


async def test_after_a_refusal_nothing_more_is_sent(kafka, name):
    topic = await make(kafka, name, **{"max.message.bytes": "1000"})
    producer = BatchProducer(kafka, join_bytes=0)  # each body is a batch
    await producer.start()
    told: list[Any] = []
    await producer.send(topic, 0, body(b"small"), lambda d: told.append(d.error))
    await producer.flush()
    noise = random.Random(1).randbytes(5_000)
    await producer.send(topic, 0, body(noise), lambda d: told.append(d.error))
    for _ in range(3):
        await producer.send(topic, 0, body(b"behind it"), lambda d: told.append(d.error))
    end = time.monotonic() + 20
    while producer._sender.fatal is None and time.monotonic() < end:
        time.sleep(0.001)  # noqa: ASYNC251  the loop has not been told yet
    assert producer.fatal is None
    await producer.send(topic, 0, body(b"later"), lambda d: told.append(d.error))
    await asyncio.wait_for(producer.flush(), 20)
    assert told[0] is None
    assert len(told) == 6
    assert all(isinstance(error, BrokerError) for error in told[1:])
    assert all("MessageSizeTooLarge" in str(error) for error in told[1:])  # the broker was not asked about the others
    assert "MessageSizeTooLarge" in str(producer.fatal)
    assert producer.problem == producer.fatal
    with pytest.raises(BrokerError, match="MessageSizeTooLarge"):
        await producer.send(topic, 0, body(b"small"))
    assert [raw.value for raw in everything(kafka, topic)] == [b"small"]
    await producer.close()


async def test_a_partition_that_is_not_there(kafka, producer, name):
    topic = await make(kafka, name)
    with pytest.raises(BrokerError, match=f"topic '{topic}' has no partition 1"):
        await producer.send(topic, 1, numbered(1))


async def test_nobody_there(unused_tcp_port):
    before = threads()
    producer = BatchProducer(KafkaSettings(f"127.0.0.1:{unused_tcp_port}"))
    assert threads() == before + 1
    with pytest.raises(BrokerUnavailable, match=f"no Kafka at 127.0.0.1:{unused_tcp_port}"):
        await producer.start()
    assert threads() == before
    await producer.close()


def threads() -> int:
    return sum(thread.name == "batch-producer" for thread in threading.enumerate())


async def test_batches_are_built_in_a_thread_and_told_of_on_the_loop(kafka, producer, name, monkeypatch):
    built, told = set[str](), set[int]()

    def build(*args: Any, **settings: Any) -> bytes:
        built.add(threading.current_thread().name)
        return batch_builder.build(*args, **settings)

    monkeypatch.setattr(sender, "build", build)
    topic = await make(kafka, name)
    for i in range(20):
        await producer.send(topic, 0, numbered(1, i), lambda _: told.add(threading.get_ident()))
    await producer.flush()
    assert built == {"batch-producer"}
    assert told == {threading.get_ident()}


async def test_batches_are_sent_while_the_loop_is_busy(kafka, producer, name):
    """Nothing is told of meanwhile, but Kafka has them."""
    topic = await make(kafka, name)
    told: list[Delivery] = []
    await producer.send(topic, 0, numbered(1), told.append)
    await producer.flush()
    told.clear()
    await producer.send(topic, 0, numbered(3, 1), told.append)
    end = time.monotonic() + 20
    while len(found := everything(kafka, topic)) < 4 and time.monotonic() < end:  # the loop has no turn in it
        time.sleep(0.01)  # noqa: ASYNC251  on purpose
    assert [raw.value for raw in found] == [b"0", b"1", b"2", b"3"]
    assert told == []
    await producer.flush()
    assert [(d.partition, d.offset, d.error) for d in told] == [(0, 1, None)]


async def test_closed_is_closed(kafka, producer, name):
    topic = await make(kafka, name)
    await producer.send(topic, 0, numbered(5))
    await producer.close()
    await producer.close()
    assert len(everything(kafka, topic)) == 5
    with pytest.raises(RuntimeError, match="closed"):
        await producer.send(topic, 0, numbered(1))
    assert not producer._sender._thread.is_alive()
    assert producer._sender.loop.is_closed()


async def transactional(kafka: KafkaSettings, name: str) -> BatchProducer:
    producer = BatchProducer(kafka, transactional_id=name)
    await producer.start()
    return producer


async def test_transactions_are_seen_whole_or_not_at_all(kafka, name):
    topic = await make(kafka, name)
    producer = await transactional(kafka, name)
    for i, end in enumerate((producer.commit, producer.abort, producer.commit, producer.abort, producer.commit)):
        await producer.begin()
        for j in range(3):
            await producer.send(topic, 0, numbered(4, 100 * i + 4 * j))
            await asyncio.sleep(0.005 * (j == 1))
        await end()
    await producer.begin()
    await producer.commit()  # of nothing
    wanted = [b"%d" % (100 * i + j) for i in (0, 2, 4) for j in range(12)]
    await until(lambda: seen(kafka, topic) == wanted)  # the marker of a transaction's end is soon there
    assert len(seen(kafka, topic, "read_uncommitted")) == len(wanted) + 24
    with pytest.raises(RuntimeError, match="outside of a transaction"):
        await producer.send(topic, 0, numbered(1))
    await producer.close()


async def test_a_second_one_of_the_same_id_fences_the_first(kafka, name):
    topic = await make(kafka, name)
    first = await transactional(kafka, name)
    await first.begin()
    await first.send(topic, 0, numbered(3))
    await first.flush()
    second = await transactional(kafka, name)
    with pytest.raises(ProducerFenced):
        await first.send(topic, 0, numbered(3, 3))
        await first.commit()
    await second.begin()
    await second.send(topic, 0, numbered(2, 10))
    await second.commit()
    await until(lambda: seen(kafka, topic) == [b"10", b"11"])
    await first.close()
    await second.close()


async def test_a_broker_that_goes_away_loses_nothing(tmp_path, name):
    """Killed twice, with batches under way and waiting: nothing is lost, doubled or out of order."""
    with EmbeddedBroker(data_dir=tmp_path / "data") as own:
        topic = await make(own.settings, name, 2)
        producer = BatchProducer(own.settings, max_bytes=1 << 20)
        await producer.start()
        sent, told = itertools.count(), []
        stop = asyncio.Event()

        async def send() -> None:
            while not stop.is_set():
                i = next(sent)
                await producer.send(topic, i % 2, numbered(2, 2 * i), lambda d: told.append(d.error))
                await asyncio.sleep(0.001)

        sending = asyncio.create_task(send())
        for _ in range(2):
            await until(lambda: len(told) >= 100)
            await asyncio.to_thread(own.kill)
            await until(lambda: producer.problem is not None)  # it is tried again
            assert "wait for Kafka" in str(producer.problem)
            await asyncio.to_thread(own.start)
            told.clear()
        await until(lambda: len(told) >= 100)
        stop.set()
        await sending
        await asyncio.wait_for(producer.flush(), 60)
        assert producer.problem is None
        await producer.close()
        n = next(sent)
        assert set(told) == {None}
        for partition in (0, 1):
            values = [int(raw.value or b"") for raw in everything(own.settings, topic) if raw.partition == partition]
            assert values == [2 * i + j for i in range(partition, n, 2) for j in (0, 1)]


async def test_closing_is_bounded_when_nobody_answers(tmp_path, name):
    with EmbeddedBroker(data_dir=tmp_path / "data") as own:
        topic = await make(own.settings, name)
        producer = BatchProducer(own.settings, close_timeout=0.5)
        await producer.start()
        await producer.send(topic, 0, numbered(1))
        await producer.flush()
        await asyncio.to_thread(own.kill)
        told: list[Any] = []
        await producer.send(topic, 0, numbered(1), lambda d: told.append(d.error))
        await asyncio.wait_for(producer.close(), 15)
        assert isinstance(told[0], BrokerUnavailable)
        assert len(told) == 1
