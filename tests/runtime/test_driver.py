"""What becomes of fetches and commits inside one consumer that was never started."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP

from streamproc.log.batches import RawRecord
from streamproc.runtime.transport import driver
from streamproc.runtime.transport import thread as consumer_thread
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.driver import BlockSchema
from streamproc.runtime.transport.thread import ConsumerThread
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


async def test_a_partition_is_held_back_and_taken_in_again(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = AIOKafkaConsumer(bootstrap_servers="localhost:1")
    inner.assign([TopicPartition(*HERE)])
    inner._subscription.subscription.assignment.state_value(TopicPartition(*HERE)).reset_to(0)
    consumer._thread._consumer = inner
    at_once = SimpleNamespace(call_soon_threadsafe=lambda change, *args: change(*args))
    with monkeypatch.context() as patch:
        patch.setattr(consumer._thread, "thread_loop", at_once)
        consumer.hold(HERE, True)
        assert inner.paused() == {HERE}
        consumer.hold(HERE, False)
        assert inner.paused() == set()
    await inner.stop()


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
    message.value.leave()
    assert (consumer._new_offset(HERE), consumer.ledger.unprocessed(HERE)) == (None, 1)
    message.value.leave()
    assert (consumer._new_offset(HERE), consumer.ledger.unprocessed(HERE)) == (13, 0)
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
    assert consumer.ledger.unprocessed(HERE) == 1
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
    monkeypatch.setattr(consumer_thread, "_COMMIT", 0.01)
    monkeypatch.setattr(faust_driver.AIOKafkaConsumerThread, "_commit", lambda *_: asyncio.Event().wait())
    assert isinstance(consumer._thread, ConsumerThread)
    monkeypatch.setattr(consumer._thread, "_consumer", SimpleNamespace(_coordinator=SimpleNamespace(between=False)))
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


# Delivered without a task where nothing has to be waited for.


async def wait_for(consumer: Any, delivery: Any, called_off: asyncio.Event) -> Any:
    return await consumer.wait_first(delivery, called_off.wait())


async def test_what_can_be_delivered_at_once_makes_no_task(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deliver() -> str:
        return "done"

    monkeypatch.setattr(asyncio, "ensure_future", None)
    result = await wait_for(consumer, deliver(), asyncio.Event())
    assert (result.results, result.stopped) == (["done"], False)


async def test_no_time_is_slept_without_a_task(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "another's")
    monkeypatch.setattr(asyncio, "wait_for", None)
    await consumer.sleep(0)
    assert turns == ["another's"]
    monkeypatch.undo()
    sleeping = asyncio.create_task(consumer.sleep(60))
    await asyncio.sleep(0)
    consumer._stopped.set()
    await sleeping


async def test_what_has_to_wait_is_delivered_then(consumer: Any) -> None:
    gate, steps = asyncio.Event(), list[str]()

    async def deliver() -> str:
        steps.append("begun")
        await gate.wait()
        await asyncio.sleep(0)
        steps.append("done")
        return "done"

    waiting = asyncio.create_task(wait_for(consumer, deliver(), asyncio.Event()))
    await asyncio.sleep(0.01)
    assert steps == ["begun"]
    gate.set()
    assert (await waiting).results == ["done"]
    assert steps == ["begun", "done"]


@pytest.mark.parametrize("spins", [False, True])
async def test_a_delivery_that_is_called_off_is_cancelled(consumer: Any, spins: bool) -> None:
    ends, called_off = list[str](), asyncio.Event()

    async def deliver() -> None:
        try:
            while spins:  # noqa: ASYNC110  it waits for no future
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    waiting = asyncio.create_task(wait_for(consumer, deliver(), called_off))
    await asyncio.sleep(0.01)
    called_off.set()
    await waiting
    await asyncio.sleep(0.01)
    assert ends == ["cancelled"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_of_a_delivery_comes_out(consumer: Any, waits: bool) -> None:
    async def deliver() -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        await wait_for(consumer, deliver(), asyncio.Event())


async def test_an_error_may_be_caught_inside_a_delivery(consumer: Any) -> None:
    failing = asyncio.get_running_loop().create_future()

    async def deliver() -> str:
        try:
            await failing
        except OSError:
            await asyncio.sleep(0)
            return "caught"
        return "not"

    waiting = asyncio.create_task(wait_for(consumer, deliver(), asyncio.Event()))
    await asyncio.sleep(0)
    failing.set_exception(OSError())
    assert (await waiting).results == ["caught"]


# What the consumer's thread hands over.


class Fetches:
    """In the place of aiokafka's consumer: gives what lies in ``ready``, and lets waiters know."""

    def __init__(self) -> None:
        self.ready: dict[Any, Any] = {}
        self.waiters: list[asyncio.Future[None]] = []
        self._fetcher = self
        self._subscription = type("Subscriptions", (), {"reassignment_in_progress": False})()

    _closed = False

    @property
    def _records(self) -> Any:
        return self.ready

    def _create_fetch_waiter(self) -> asyncio.Future[None]:
        self.waiters.append(asyncio.get_running_loop().create_future())
        return self.waiters[-1]


@pytest.fixture
async def thread(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The consumer's thread, whose loop is this one."""
    made, fetches = consumer._thread, Fetches()

    async def take(*_: Any, timeout: float) -> Any:
        assert timeout == 0
        taken, fetches.ready = fetches.ready, {}
        if isinstance(taken, Exception):
            raise taken
        return taken

    monkeypatch.setattr(made, "_consumer", fetches)
    monkeypatch.setattr(made, "_fetch_records", take)
    own, made.thread_loop = made.thread_loop, asyncio.get_running_loop()
    consumer.flow_active = True
    yield made
    made.thread_loop = own
    made._consumer = None


async def test_what_is_there_is_given_at_once(thread: Any) -> None:
    thread._consumer.ready = {HERE: [1]}
    assert await thread.getmany({HERE}, 5.0) == {HERE: [1]}


@pytest.mark.parametrize("how", ["handed", "woken"])
async def test_what_comes_later_is_given_when_it_comes(thread: Any, how: str) -> None:
    asking = asyncio.create_task(thread.getmany({HERE}, 5.0))
    await asyncio.sleep(0.01)
    thread._consumer.ready = {HERE: [2]}
    if how == "handed":
        await thread._hand_over()
    else:
        thread._consumer.waiters[-1].set_result(None)
    assert await asking == {HERE: [2]}


async def test_nothing_is_taken_while_nobody_asks(thread: Any) -> None:
    thread._consumer.ready = {HERE: [3]}
    await thread._hand_over()
    asking = asyncio.create_task(thread.getmany({HERE}, 5.0))
    assert await asking == {HERE: [3]}
    thread._consumer.ready = {HERE: [4]}
    await thread._hand_over()
    thread._consumer.waiters[-1].set_result(None)
    await asyncio.sleep(0.01)
    assert thread._consumer.ready == {HERE: [4]}
    asking = asyncio.create_task(thread.getmany({HERE}, 5.0))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.sleep(0.01)
    assert await thread.getmany({HERE}, 5.0) == {HERE: [4]}


@pytest.mark.parametrize(("rows", "stands_back"), [(1, True), (1000, False)])
async def test_the_thread_stands_back_for_a_few_events(
    thread: Any, monkeypatch: pytest.MonkeyPatch, rows: int, stands_back: bool
) -> None:
    stood = []
    monkeypatch.setattr(consumer_thread, "_stand_back", lambda: stood.append(True))
    thread._consumer.ready = {HERE: [fetched(rows)]}
    assert HERE in await thread.getmany({HERE}, 5.0)
    assert bool(stood) == stands_back


async def test_a_consumer_that_is_asked_again_is_waited_for_once(thread: Any) -> None:
    for _ in range(3):
        assert await thread.getmany({HERE}, 0.01) == {}
    assert len(thread._consumer.waiters) == 1
    thread._consumer.waiters[0].set_result(None)
    asking = asyncio.create_task(thread.getmany({HERE}, 5.0))
    await asyncio.sleep(0.01)
    assert len(thread._consumer.waiters) == 2
    thread._consumer.ready = {HERE: [1]}
    thread._consumer.waiters[1].set_result(None)
    assert await asking == {HERE: [1]}


async def test_nothing_comes_of_nothing(thread: Any) -> None:
    assert await thread.getmany({HERE}, 0.01) == {}
    thread.consumer.flow_active = False  # a rebalance: Faust seeks then, and asks again
    assert await thread.getmany({HERE}, 5.0) == {}


@pytest.mark.parametrize("how", ["ready", "waiter"])
async def test_errors_of_the_fetcher_come_out(thread: Any, how: str) -> None:
    asking = asyncio.create_task(thread.getmany({HERE}, 5.0))
    await asyncio.sleep(0.01)
    if how == "ready":
        thread._consumer.ready = KeyError("no")
        await thread._hand_over()
    else:
        thread._consumer.waiters[-1].set_exception(KeyError("no"))
    with pytest.raises(KeyError, match="no"):
        await asking


async def test_during_a_reassignment_nothing_is_given(thread: Any) -> None:
    thread._consumer._subscription.reassignment_in_progress = True
    thread._consumer.ready = {HERE: [5]}
    assert await thread.getmany({HERE}, 0.01) == {}
    thread._consumer._subscription.reassignment_in_progress = False
    assert await thread.getmany({HERE}, 5.0) == {HERE: [5]}


def test_of_a_log_that_began_anew_old_offsets_are_forgotten(consumer: Any) -> None:
    read_by(consumer, blocks=1)
    consumer._to_message(HERE, fetched(3, 90)).value.release()
    assert consumer._new_offset(HERE) == 93
    consumer._committed_offset[HERE] = consumer._read_offset[HERE] = 92
    again = Fetched(0, [batch(rows([b"v"]))], 1, restarted=True)
    ((_, item),) = consumer.scheduler.iterate({HERE: [again]})
    block = consumer._to_message(HERE, item).value
    assert (consumer._new_offset(HERE), consumer._committed_offset[HERE], consumer._read_offset[HERE]) == (None,) * 3
    block.release()
    assert consumer._new_offset(HERE) == 1


@pytest.mark.parametrize("blocks", [0, 1])
def test_of_a_log_that_began_anew_old_records_count_for_nothing(consumer: Any, blocks: int) -> None:
    read_by(consumer, blocks=blocks, plain=1)
    consumer.app.topics._acking_topics.add("t")
    old = [consumer._to_message(HERE, RawRecord(at, 0, None, b"v", ())) for at in range(90, 93)]
    consumer._unacked_messages.update(old)
    consumer._committed_offset[HERE] = consumer._read_offset[HERE] = 90
    assert consumer.ack(old[1])
    items = consumer.scheduler.iterate({HERE: [Fetched(0, [batch(rows([b"v"]))], 1, restarted=True)]})
    _, record = next(items)
    assert consumer._read_offset[HERE] is None
    assert not consumer.ack(old[0])  # at work when the log began anew
    assert not consumer._unacked_messages
    new = consumer._to_message(HERE, record)
    if blocks:
        ((_, item),) = items
        consumer._to_message(HERE, item).value.release()
    assert consumer._new_offset(HERE) is None
    assert consumer.ack(new)
    assert consumer._new_offset(HERE) == 1


async def test_a_stop_waits_once_for_what_is_not_kept(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []

    async def wait(timeout: float) -> None:
        waits.append(consumer.should_stop)
        await asyncio.sleep(0.01)

    async def commit() -> None:
        pass

    monkeypatch.setattr(driver, "_DELIVERY", 0.05)
    monkeypatch.setattr(consumer, "_wait_for_ack", wait)
    monkeypatch.setattr(consumer, "commit_and_end_transactions", commit)
    entry = consumer.ledger.add(HERE, 3)
    entry.processed = True
    await consumer.wait_empty()
    await consumer.wait_empty()  # of a rebalance, which may be the next one's
    first = len(waits)
    consumer._stopped.set()
    await consumer.wait_empty()
    assert first > 1
    assert len(waits) == first
    consumer._given_up = False
    await consumer.wait_empty()  # one that nothing was waited for before
    assert waits[first:]
    assert all(waits[first:])
