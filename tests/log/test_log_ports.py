"""What a producer and a tail promise, held against the log in memory and against Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from streamproc.errors import BrokerError, TopicError
from streamproc.log.memory import MemoryLog
from streamproc.log.partition import partition_of
from streamproc.log.ports import Delivery, Message, QueueFull, TopicSpec


class Twin:
    """One kind of log, with a way to make topics."""

    def __init__(self, log: Any, create: Callable[[str, int], Awaitable[None]]) -> None:
        self.log = log
        self.create = create


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.e2e)])
async def twin(request: pytest.FixtureRequest) -> Twin:
    if request.param == "memory":
        memory = MemoryLog()

        async def create_in_memory(topic: str, partitions: int) -> None:
            memory.create(TopicSpec(topic, partitions))

        return Twin(memory, create_in_memory)

    from confluent_kafka.admin import AdminClient, NewTopic

    from streamproc.log.kafka import KafkaLog

    settings = request.getfixturevalue("kafka")
    admin = AdminClient(settings.librdkafka())

    async def create(topic: str, partitions: int) -> None:
        futures = await asyncio.to_thread(lambda: admin.create_topics([NewTopic(topic, partitions, 1)]))
        await asyncio.wrap_future(futures[topic])

    return Twin(KafkaLog(settings, delivery_timeout=5), create)


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def producer(twin: Twin) -> AsyncIterator[Any]:
    producer = twin.log.producer()
    yield producer
    await producer.close()


async def read(tail: Any, count: int) -> list[Message]:
    messages: list[Message] = []
    async with asyncio.timeout(30):
        async for batch in tail:
            assert batch
            messages += batch
            if len(messages) >= count:
                break
    return messages


async def send(producer: Any, topic: str, value: bytes | None, **rest: Any) -> Delivery:
    future: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    producer.send(topic, value, done=future.set_result, **rest)
    async with asyncio.timeout(30):
        return await future


async def test_a_delivery_says_where_the_record_lies(twin: Twin, topic: str, producer: Any) -> None:
    await twin.create(topic, 4)
    for expected in range(3):
        delivery = await send(producer, topic, b"v", key=b"k")
        assert delivery == Delivery(partition_of(b"k", 4), expected, None)


async def test_a_tail_brings_what_was_sent_after_it_in_order(twin: Twin, topic: str, producer: Any) -> None:
    await twin.create(topic, 3)
    await send(producer, topic, b"before", key=b"k")
    tail = twin.log.tail([topic])
    await tail.ready()
    for number in range(200):
        producer.send(topic, b"%d" % number, key=b"k%d" % (number % 7), timestamp=1_700_000_000_000 + number)
    await producer.flush()
    messages = await read(tail, 200)
    await tail.close()

    assert sorted(int(m.value or b"-1") for m in messages) == list(range(200))
    for key in {m.key for m in messages}:
        mine = [m for m in messages if m.key == key]
        assert len({m.partition for m in mine}) == 1
        assert [m.value for m in mine] == sorted((m.value for m in mine), key=lambda v: int(v or b""))
    assert all(m.timestamp == 1_700_000_000_000 + int(m.value or b"") for m in messages)
    assert all(m.topic == topic for m in messages)


async def test_headers_nulls_and_partitions_go_through(twin: Twin, topic: str, producer: Any) -> None:
    await twin.create(topic, 3)
    tail = twin.log.tail([topic])
    await tail.ready()
    assert (await send(producer, topic, None, key=b"", partition=2, headers=[("a", b"1")])).partition == 2
    (message,) = await read(tail, 1)
    await tail.close()
    assert (message.partition, message.offset, message.key, message.value) == (2, 0, b"", None)
    assert list(message.headers) == [("a", b"1")]


async def test_a_topic_that_comes_later_is_read_from_its_beginning(twin: Twin, topic: str, producer: Any) -> None:
    tail = twin.log.tail([topic])
    await tail.ready()
    await twin.create(topic, 2)
    await send(producer, topic, b"first", partition=1)
    assert [m.value for m in await read(tail, 1)] == [b"first"]
    await tail.close()


async def test_a_closed_tail_ends_its_iteration(twin: Twin, topic: str) -> None:
    await twin.create(topic, 1)
    tail = twin.log.tail([topic])
    await tail.ready()
    reader = asyncio.create_task(read(tail, 1))
    await asyncio.sleep(0)
    await tail.close()
    await tail.close()
    assert await asyncio.wait_for(reader, 10) == []


async def test_a_record_for_no_partition_is_refused_and_its_neighbours_are_not(
    twin: Twin, topic: str, producer: Any
) -> None:
    await twin.create(topic, 2)
    assert (await send(producer, topic, b"good", partition=0)).error is None
    bad = await send(producer, topic, b"bad", partition=9)
    assert isinstance(bad.error, TopicError)
    assert (await send(producer, topic, b"good", partition=0)) == Delivery(0, 1, None)


async def test_a_topic_that_is_not_there_is_an_error_and_no_delivery(twin: Twin, topic: str, producer: Any) -> None:
    assert isinstance((await send(producer, topic, b"v")).error, BrokerError)


async def test_flush_returns_when_every_done_was_called(twin: Twin, topic: str, producer: Any) -> None:
    await twin.create(topic, 2)
    seen: list[Delivery] = []
    for _ in range(500):
        producer.send(topic, b"v", done=seen.append)
    await producer.flush()
    assert len(seen) == 500
    assert {d.error for d in seen} == {None}


async def test_a_full_queue_says_so_and_has_room_again(twin: Twin, topic: str) -> None:
    await twin.create(topic, 1)
    if isinstance(twin.log, MemoryLog):
        twin.log.max_messages = 10
        producer: Any = twin.log.producer()
    else:
        from streamproc.log.kafka import KafkaProducer

        producer = KafkaProducer(twin.log.settings, max_messages=10, linger_ms=50)
    done: list[Delivery] = []
    sent = held = 0
    async with asyncio.timeout(30):
        while sent < 100:
            try:
                producer.send(topic, b"v", done=done.append)
                sent += 1
            except QueueFull:
                held += 1
                await producer.room()
        await producer.close()
    assert held > 0
    assert sorted(d.offset for d in done) == list(range(100))


async def past(history: Any, topic: str, begin: dict[int, int], end: dict[int, int]) -> list[Message]:
    async with asyncio.timeout(30):
        return [message async for batch in history.read(topic, begin, end) for message in batch]


@pytest.fixture
async def history(twin: Twin) -> AsyncIterator[Any]:
    history = twin.log.history()
    yield history
    await history.close()


async def test_what_lies_behind_can_be_read_from_one_place_to_another(
    twin: Twin, topic: str, producer: Any, history: Any
) -> None:
    await twin.create(topic, 2)
    for number in range(7):
        place: dict[str, Any] = {"partition": number % 2, "timestamp": 1_700_000_000_000 + number}
        await send(producer, topic, b"%d" % number, key=b"k", headers=[("h", b"1")], **place)
    marks = await history.marks(topic)
    assert (marks.begin, marks.end) == ((0, 0), (4, 3))
    assert marks.id == (await history.marks(topic)).id
    everything = await past(history, topic, {0: 0, 1: 0}, {0: 4, 1: 3})
    assert sorted(message.value for message in everything) == [b"%d" % number for number in range(7)]
    assert [m.offset for m in everything if m.partition == 0] == [0, 1, 2, 3]
    assert everything[0].headers == (("h", b"1"),)
    some = await past(history, topic, {0: 1, 1: 3}, {0: 3, 1: 3})
    assert [(m.partition, m.offset, m.value) for m in some] == [(0, 1, b"2"), (0, 2, b"4")]
    assert await past(history, topic, {1: 2}, {1: 99}) == [m for m in everything if m.value == b"5"]
    assert await past(history, topic, {}, {}) == []
    assert await history.at(topic, 1_700_000_000_003) == (2, 1)
    assert await history.at(topic, 1_700_000_000_099) == (4, 3)


async def test_a_reading_that_is_left_early_does_not_hold_up_the_next(
    twin: Twin, topic: str, producer: Any, history: Any
) -> None:
    await twin.create(topic, 1)
    for _ in range(5):
        await send(producer, topic, b"x" * 100)
    for _ in range(6):
        reading = history.read(topic, {0: 0}, {0: 5})
        async with asyncio.timeout(30):
            assert await anext(reading)
        await reading.aclose()
    assert len(await past(history, topic, {0: 0}, {0: 5})) == 5


async def test_the_past_of_a_topic_that_is_not_there_is_an_error(twin: Twin, topic: str, history: Any) -> None:
    with pytest.raises(TopicError):
        await history.marks(topic)
    with pytest.raises(TopicError):
        await history.at(topic, 0)
