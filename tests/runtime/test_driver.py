"""What becomes of fetches and commits inside one consumer that was never started."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import faust
import pytest
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP

from streamproc.log.batches import RawRecord
from streamproc.runtime.transport import driver
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.driver import BlockSchema, ConsumerThread
from tests.log.wire import batch, rows

HERE = TP("t", 0)


@pytest.fixture
async def consumer() -> AsyncIterator[Any]:
    app = faust.App("driver", broker="streamproc://localhost:1", web_enabled=False, loghandlers=[])
    app.consumer._thread._consumer = None
    yield app.consumer
    app.consumer._thread.thread_loop.close()  # a thread that never starts has its loop all the same


def read_by(consumer: Any, *, blocks: int = 0, plain: int = 0) -> None:
    topics = [consumer.app.topic("t", schema=BlockSchema()) for _ in range(blocks)]
    topics += [consumer.app.topic("t") for _ in range(plain)]
    consumer.app.topics._tp_index[HERE] = set(topics)


def fetched(n: int = 3, first: int = 0) -> Fetched:
    return Fetched(first, [batch(rows([b"v"] * n), base=first)], first + n)


def kinds(consumer: Any, item: Any) -> list[str]:
    return [type(each).__name__ for _, each in consumer.scheduler.iterate({HERE: [item]})]


def test_each_kind_of_reader_gets_its_kind(consumer: Any) -> None:
    read_by(consumer, blocks=2)
    assert kinds(consumer, fetched()) == ["Fetched"]
    read_by(consumer, blocks=1, plain=1)
    assert kinds(consumer, fetched()) == ["RawRecord"] * 3 + ["Fetched"]
    read_by(consumer, plain=1)  # the fetch was under way when the reader of blocks went
    assert kinds(consumer, fetched()) == ["RawRecord"] * 3
    read_by(consumer)
    assert kinds(consumer, object()) == ["object"]


def test_a_record_becomes_a_message(consumer: Any) -> None:
    message = consumer._to_message(HERE, RawRecord(7, 1_500, b"k", None, (("h", b"1"),)))
    assert (message.tp, message.offset, message.timestamp) == (HERE, 7, 1.5)
    assert (message.key, message.value, message.headers) == (b"k", None, (("h", b"1"),))
    assert (message.serialized_key_size, message.serialized_value_size) == (1, 0)


def test_a_block_is_committed_when_all_its_readers_are_done(consumer: Any) -> None:
    read_by(consumer, blocks=2)
    message = consumer._to_message(HERE, fetched(3, 10))
    assert message.offset == 12
    consumer._unacked_messages.add(message)
    assert consumer.ledger.in_work() == 1
    message.value.release()
    assert consumer._new_offset(HERE) is None
    message.value.release()
    assert (consumer._new_offset(HERE), consumer.ledger.in_work()) == (13, 0)
    assert message.acked
    assert message not in consumer._unacked_messages
    assert list(consumer._filter_tps_with_pending_acks()) == [HERE]
    assert list(consumer._filter_tps_with_pending_acks({"t"})) == [HERE]
    assert list(consumer._filter_tps_with_pending_acks({"u"})) == []


def test_a_message_that_is_gone_leaves_its_block_to_be_finished(consumer: Any) -> None:
    read_by(consumer, blocks=1)
    message = consumer._to_message(HERE, fetched())
    block = message.value
    consumer._unacked_messages.add(message)
    del message
    gc.collect()
    assert not consumer._unacked_messages
    assert consumer.ledger.in_work() == 1
    block.release()
    assert consumer._new_offset(HERE) == 3


def test_the_slower_of_two_ways_is_what_counts(consumer: Any) -> None:
    read_by(consumer, blocks=1, plain=1)
    block = consumer._to_message(HERE, fetched()).value
    consumer._acked[HERE] += [0, 1]
    assert consumer._new_offset(HERE) is None
    block.release()
    assert consumer._new_offset(HERE) == 2
    assert consumer._new_offset(HERE) == 2
    consumer._acked[HERE].append(2)
    consumer._committed_offset[HERE] = 2
    assert consumer._new_offset(HERE) == 3


async def test_a_commit_that_failed_is_tried_again(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    async def commit(offsets: Any) -> bool:
        taken.append(offsets)
        return len(taken) > 1

    read_by(consumer, blocks=1)
    monkeypatch.setattr(consumer, "_commit", commit)
    monkeypatch.setattr(consumer, "assignment", lambda: {HERE})
    monkeypatch.setattr(type(consumer.app.producer), "flush", lambda _: asyncio.sleep(0))
    consumer._to_message(HERE, fetched()).value.release()
    assert [await consumer.force_commit() for _ in range(3)] == [False, True, False]
    assert taken == [{HERE: 3}, {HERE: 3}]


async def test_a_commit_does_not_wait_for_ever(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_COMMIT", 0.01)
    monkeypatch.setattr(faust_driver.AIOKafkaConsumerThread, "_commit", lambda *_: asyncio.Event().wait())
    assert isinstance(consumer._thread, ConsumerThread)
    assert await consumer._thread._commit({HERE: 3}) is False


async def test_a_fetch_cancelled_at_the_stop_does_not_end_it_early(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Client:
        async def close(self) -> None:
            closed.append("client")

    class Stopping:
        _client = Client()

        async def stop(self) -> None:
            raise asyncio.CancelledError

    monkeypatch.setattr(consumer._thread, "_consumer", Stopping())
    await consumer._thread.on_thread_stop()
    assert closed == ["client"]
