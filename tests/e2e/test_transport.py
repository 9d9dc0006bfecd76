"""A real Faust app over ``streamproc://`` on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from faust.types import TP

from streamproc.log.broker import EmbeddedBroker
from streamproc.runtime.transport.block import Block
from streamproc.settings import KafkaSettings
from tests.e2e.faust_kit import Reader, committed, make_topic, until

pytestmark = pytest.mark.e2e


def produce(
    kafka: KafkaSettings, topic: str, n: int, *, first: int = 0, size: int = 20, partitions: int = 1, **more: Any
) -> None:
    """``n`` records in few batches, evenly over the partitions."""
    producer = Producer(kafka.librdkafka() | {"linger.ms": 20} | more)
    for i in range(first, first + n):
        producer.produce(topic, b"%d" % i + b"." * size, b"k%d" % i, partition=i % partitions)
    assert producer.flush(20) == 0


def all_of(topic: str, n: int, partitions: int = 1) -> Counter[tuple[str, int, int]]:
    return Counter((topic, i % partitions, i // partitions) for i in range(n))


async def test_one_message_per_block_whoever_wrote_it(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    topic = await make_topic(kafka, name, 2)
    n = 0
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        produce(kafka, topic, 400, first=n, partitions=2, **{"compression.type": codec})
        n += 400
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type=codec, linger_ms=5)
        await producer.start()
        sent = [await producer.send(topic, b"v" * 50, partition=i % 2) for i in range(400)]
        await asyncio.gather(*sent)
        await producer.stop()
        n += 400
    async with Reader(kafka, tmp_path, name, [topic]) as reader:
        await until(lambda: len(reader.offsets) >= n)
        assert Counter(reader.offsets) == all_of(topic, n, 2)
        assert len(reader.seen) < n / 20
        for partition in (0, 1):
            assert [o for _, p, o in reader.offsets if p == partition] == list(range(n // 2))
        await until(lambda: committed(kafka, name, topic, 2) == [n // 2, n // 2])
        produce(kafka, topic, 1, partitions=2)
        await until(lambda: len(reader.offsets) == n + 1)
    assert committed(kafka, name, topic, 2) == [n // 2 + 1, n // 2]


async def test_a_block_in_work_keeps_back_the_commit_and_a_crash_reads_it_again(
    kafka: KafkaSettings, name: str, tmp_path: Path
) -> None:
    topic = await make_topic(kafka, name)
    program = [sys.executable, "-m", "tests.e2e.faust_kit", kafka.bootstrap, str(tmp_path), name, topic]

    async def run(hold: int) -> tuple[asyncio.subprocess.Process, Any]:
        process = await asyncio.create_subprocess_exec(*program, str(hold), stdout=asyncio.subprocess.PIPE)
        return process, process.stdout

    process, lines = await run(150)
    read: list[int] = []
    try:
        for first in (0, 100, 200, 300):  # one block each, since each is read before the next is sent
            produce(kafka, topic, 100, first=first)
            while not read or read[-1] < first + 99:
                read += json.loads(await asyncio.wait_for(lines.readline(), 30))
        assert read == list(range(400))
        await until(lambda: committed(kafka, name, topic)[0] > 0)
        at = committed(kafka, name, topic)[0]
        assert 0 < at <= 150
        for _ in range(5):
            await asyncio.sleep(0.1)  # commits go on every tenth of a second
            assert committed(kafka, name, topic)[0] <= 150
        at = committed(kafka, name, topic)[0]
    finally:
        process.kill()
        await process.wait()
    process, lines = await run(-1)
    try:
        again: list[int] = []
        while not again or again[-1] < 399:
            again += json.loads(await asyncio.wait_for(lines.readline(), 40))
        assert again == list(range(at, 400))
        await until(lambda: committed(kafka, name, topic) == [400])
    finally:
        process.kill()
        await process.wait()


async def test_a_slow_agent_holds_up_the_fetching(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    topic = await make_topic(kafka, name)
    for i in range(30):
        produce(kafka, topic, 40, first=i * 40, size=400, **{"linger.ms": 0, "batch.size": 8_000})
    most = 0

    async def slowly(block: Block) -> None:
        nonlocal most
        await asyncio.sleep(0.03)
        most = max(most, reader.consumer.ledger.unprocessed(TP(topic, 0)))

    reader = Reader(
        kafka, tmp_path, name, [topic], take=slowly, consumer_max_fetch_size=16_000, broker_commit_interval=0.02
    )
    async with reader:
        await until(lambda: len(reader.offsets) >= 1_200)
    assert len(reader.seen) >= 30  # so there was more to fetch than was let in
    assert most <= 8
    assert committed(kafka, name, topic) == [1_200]


async def test_a_second_worker_joins_and_leaves(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    topic = await make_topic(kafka, name, 4)
    sent, stop = 0, asyncio.Event()

    async def feed() -> None:
        nonlocal sent
        while not stop.is_set():
            await asyncio.to_thread(produce, kafka, topic, 40, first=sent, partitions=4, **{"linger.ms": 1})
            sent += 40

    async def some_time(block: Block) -> None:
        await asyncio.sleep(random.uniform(0, 0.02))

    feeding = asyncio.create_task(feed())
    first = Reader(kafka, tmp_path / "1", name, [topic], take=some_time)
    second = Reader(kafka, tmp_path / "2", name, [topic], take=some_time)
    async with first:
        await until(lambda: len(first.offsets) > 200)
        async with second:
            await until(lambda: len(second.offsets) > 200)
            assert {p for _, p, _ in second.offsets} != {0, 1, 2, 3}
        count = len(first.offsets)
        await until(lambda: len(first.offsets) > count + 200)
        stop.set()
        await feeding
        await until(lambda: {*first.offsets, *second.offsets} == set(all_of(topic, sent, 4)))
        # While it lives: on a slow machine it may leave before its last commit is answered.
        await until(lambda: committed(kafka, name, topic, 4) == [sent // 4] * 4)
    got = Counter(first.offsets) + Counter(second.offsets)
    assert set(got) == set(all_of(topic, sent, 4))
    # Both came and went in order: what comes again is what was in work when a commit came too late.
    assert max(got.values()) <= 3
    assert committed(kafka, name, topic, 4) == [sent // 4] * 4


async def test_a_clean_stop_waits_for_results_under_way(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    topic = await make_topic(kafka, name)
    loop = asyncio.get_running_loop()

    def send_a_result(block: Block) -> None:
        if block.fetched.first_offset == 0:
            block.hold()
            loop.call_later(1.5, block.release)  # as the producer does when Kafka has it

    async with Reader(kafka, tmp_path, name, [topic], take=send_a_result) as reader:
        for first in (0, 100):  # the agent is done with the first block, but its result is not there yet
            produce(kafka, topic, 100, first=first)
            await until(lambda: len(reader.offsets) == first + 100)  # noqa: B023
    assert committed(kafka, name, topic) == [200]
    async with Reader(kafka, tmp_path, name, [topic]) as reader:
        produce(kafka, topic, 1)
        await until(lambda: reader.offsets)
    assert [o for _, _, o in reader.offsets] == [200]


async def test_seek(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    """What is read again counts; what was in work before is forgotten, and holds up nothing."""
    topic = await make_topic(kafka, name)
    produce(kafka, topic, 100)
    hold = True

    def take(block: Block) -> None:
        if hold:
            raise KeyError

    async with Reader(kafka, tmp_path, name, [topic], take=take) as reader:
        await until(lambda: len(reader.offsets) == 100)
        hold = False
        await reader.consumer.seek(TP(topic, 0), 40)
        await until(lambda: len(reader.offsets) == 160)
        produce(kafka, topic, 10)
        await until(lambda: len(reader.offsets) == 170)
        await until(lambda: committed(kafka, name, topic) == [110])
        for block in reader.held:  # too late
            block.release()
    assert [o for _, _, o in reader.offsets] == [*range(100), *range(40, 110)]
    assert committed(kafka, name, topic) == [110]


async def test_plain_agents_beside_blocks(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    both, other = await make_topic(kafka, f"{name}-both"), await make_topic(kafka, f"{name}-other")
    produce(kafka, both, 300)
    produce(kafka, other, 50)
    async with Reader(kafka, tmp_path, name, [both], [both, other]) as reader:
        await until(lambda: len(reader.offsets) == 300 and len(reader.events) == 350)
        produce(kafka, both, 10, first=300)
        await until(lambda: len(reader.offsets) == 310 and len(reader.events) == 360)
        assert [o for _, _, o in reader.offsets] == list(range(310))
        assert [o for t, _, o, _ in reader.events if t == both] == list(range(310))
        assert [(o, v) for t, _, o, v in reader.events if t == other] == [(i, b"%d" % i + b"." * 20) for i in range(50)]
        await until(lambda: (committed(kafka, name, both), committed(kafka, name, other)) == ([310], [50]))


async def test_the_slower_of_two_readers_decides_what_is_committed(
    kafka: KafkaSettings, name: str, tmp_path: Path
) -> None:
    topic = await make_topic(kafka, name)
    produce(kafka, topic, 100)

    def hold(block: Block) -> None:
        raise KeyError

    async with Reader(kafka, tmp_path, name, [topic], [topic], take=hold) as reader:
        await until(lambda: len(reader.offsets) == 100 and len(reader.events) == 100)
        for _ in range(4):
            await reader.consumer.commit()
            assert committed(kafka, name, topic)[0] < 1
        for block in reader.held:
            block.release()
        await until(lambda: committed(kafka, name, topic) == [100])


async def test_aborted_transactions_are_not_read(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    """Faust would read them, unless its guarantee is exactly_once."""
    topic = await make_topic(kafka, name)
    producer = Producer(kafka.librdkafka() | {"transactional.id": name, "linger.ms": 0})
    producer.init_transactions(10)
    for i, commit in enumerate((True, False, True, False)):
        producer.begin_transaction()
        for j in range(5):
            producer.produce(topic, b"%d-%d" % (i, j), partition=0)
        producer.flush(10)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)
    async with Reader(kafka, tmp_path, name, [topic]) as reader:
        await until(lambda: len(reader.offsets) == 10)
        # Markers have offsets of their own: 5, 11, 17 and 23.
        assert [o for _, _, o in reader.offsets] == [*range(5), *range(12, 17)]
        await until(lambda: committed(kafka, name, topic)[0] >= 17)


async def test_a_stop_leaves_nothing_behind(kafka: KafkaSettings, name: str, tmp_path: Path) -> None:
    topic = await make_topic(kafka, name)
    produce(kafka, topic, 100)
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    for _ in range(2):
        async with asyncio.timeout(30):
            async with Reader(kafka, tmp_path, name, [topic]) as reader:
                await until(lambda: reader.consumer.assignment())
        assert not (left := [t for t in threading.enumerate() if t not in threads]), left
        assert not (still := [t for t in asyncio.all_tasks() - tasks if not t.done()]), still


async def test_a_stop_ends_though_the_broker_is_gone(name: str, tmp_path: Path) -> None:
    with EmbeddedBroker() as own:
        topic = await make_topic(own.settings, name)
        produce(own.settings, topic, 100)
        reader = Reader(own.settings, tmp_path, name, [topic])
        await reader.app.start()
        await until(lambda: len(reader.offsets) == 100)
        await asyncio.to_thread(own.stop)
        async with asyncio.timeout(50):  # a commit is given up after a while; a thread that died unseen takes a minute
            await reader.app.stop()
