"""Keepers: what goes into one flush, when blocks are let go, what is restored, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streamproc.columns import Texts
from streamproc.errors import BrokerError, ProducerFenced, StateError
from streamproc.log.batch_builder import Body
from streamproc.log.ports import Delivery
from streamproc.process.state import NO_TEXTS, Changes, binary, items
from streamproc.runtime.keeper import Done, Keeper, KeptTask, Result
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transport.block import Block, Fetched
from streamproc.state.head import FORMAT, Head
from streamproc.state.restore import NOTHING, Restored

BODY = Body(b"x" * 100, 1, 0, 0)


class Rows:
    """A state: a dict of rows."""

    def __init__(self, version: str = "1") -> None:
        self.rows: dict[bytes, bytes] = {}
        self.fresh: set[bytes] = set()
        self._version = version

    def put(self, key: bytes, value: bytes) -> None:
        self.rows[key] = value
        self.fresh.add(key)

    def version(self) -> str:
        return self._version

    def header(self) -> dict[str, int | None]:
        return {"rows": len(self.rows)}

    def changes(self) -> Changes:
        keys, self.fresh = sorted(self.fresh), set()
        return Changes(binary(keys), binary([self.rows[key] for key in keys]), NO_TEXTS)

    def restore(self, header: dict[str, int | None], keys: Texts, values: Texts) -> None:
        self.rows = dict(zip(items(keys), items(values), strict=True))


class Producer:
    """Remembers what it is asked for; a gate can hold a commit up, an error end it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.offset = 100  # the next one

    async def start(self) -> None:
        self.calls.append("start")

    async def begin(self) -> None:
        self.calls.append("begin")

    async def send(self, topic: str, partition: int, body: Body, done: Done | None = None) -> None:
        if done is not None:
            done(Delivery(partition, self.offset, None))
            self.offset += body.records
        self.calls.append((topic, partition, body.records))

    async def commit(self) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.calls.append("commit")

    async def close(self, timeout: float | None = None) -> None:
        self.calls.append("close")


class Changelog:
    def __init__(self, **found: Restored) -> None:
        self.found = found

    async def read(self, topic: str, partition: int, version: str) -> Restored:
        return self.found.get(topic, NOTHING)


class System:
    """A keeper of two tasks."""

    def __init__(self, *, every: float = 0.0, **found: Restored) -> None:
        self.producer, self.failures = Producer(), list[Exception]()
        self.one = KeptTask("one", "log_one", Rows(), 1 << 20)
        self.two = KeptTask("two", "log_two", Rows(), 1 << 20)
        self.keeper = Keeper(
            "events",
            3,
            [self.one, self.two],
            self.producer,
            Changelog(**found),
            WorkerMetrics(CollectorRegistry()),
            self.failures.append,
            every=every,
        )

    async def see(self, task: KeptTask, position: int, key: bytes = b"k") -> Seen:
        """One block through a task, as its runner does it."""
        await self.keeper.ready()
        seen = Seen()
        async with task.lock:
            task.state.put(key, b"%d" % position)  # type: ignore[attr-defined]
            task.saw(seen.block, position)
        seen.block.leave()
        return seen


class Seen:
    def __init__(self) -> None:
        self.finished = False
        self.block = Block("events", 3, Fetched(0, (), 1), 1, self._finish)

    def _finish(self) -> None:
        self.finished = True


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def flushes(producer: Producer) -> list[list[Any]]:
    """What was committed, transaction by transaction."""
    found: list[list[Any]] = []
    for call in producer.calls:
        if call == "begin":
            found.append([])
        elif isinstance(call, tuple):
            found[-1].append(call)
    return found[: producer.calls.count("commit")]


def test_a_block_is_finished_when_its_state_is_kept_and_not_before() -> None:
    async def test() -> None:
        system = System()
        system.producer.gate.clear()
        seen = await system.see(system.one, 5)
        await until(lambda: "begin" in system.producer.calls)
        assert not seen.finished
        system.producer.gate.set()
        await until(lambda: seen.finished)
        assert flushes(system.producer) == [[("log_one", 3, 2)]]  # a row and the head
        await system.keeper.close(flush=True)

    run(test)


def test_a_block_whose_rows_waited_for_other_sources_is_finished_when_none_does_any_more() -> None:
    async def test() -> None:
        system = System()
        await system.keeper.ready()
        seen = Seen()
        async with system.one.lock:
            system.one.saw(seen.block, 0)  # read again from there
            system.one.note_waiting()
        seen.block.leave()
        await until(lambda: len(flushes(system.producer)) == 1)
        assert not seen.finished
        async with system.one.lock:
            system.one.positions["events"] = 1  # by the clock: no event, and no result
            system.one.note_waiting()
        await until(lambda: seen.finished)
        await system.keeper.close(flush=True)

    run(test)


def test_results_that_are_held_and_the_state_go_in_one_transaction_before_everything_later() -> None:
    async def test() -> None:
        system = System()
        await system.keeper.ready()
        async with system.one.lock:
            system.one.hold(Result("out", 1, BODY))
            system.one.state.put(b"k", b"v")  # type: ignore[attr-defined]
            system.one.saw(Seen().block, 1)
        await until(lambda: len(flushes(system.producer)) == 1)
        assert flushes(system.producer) == [[("out", 1, 1), ("log_one", 3, 2)]]
        await system.keeper.close(flush=True)

    run(test)


def test_a_batch_in_work_is_waited_for_so_that_state_and_position_belong_together() -> None:
    async def test() -> None:
        system = System()
        await system.keeper.ready()
        async with system.one.lock:
            system.one.hold(Result("out", 0, BODY))
            await asyncio.sleep(0.02)
            assert "begin" not in system.producer.calls
            system.one.state.put(b"k", b"v")  # type: ignore[attr-defined]
            system.one.saw(Seen().block, 9)
        await until(lambda: len(flushes(system.producer)) == 1)
        assert flushes(system.producer) == [[("out", 0, 1), ("log_one", 3, 2)]]
        await system.keeper.close(flush=True)

    run(test)


def test_a_flush_waits_for_results_that_were_sent_ahead_of_it_only() -> None:
    async def test() -> None:
        system = System()
        await system.keeper.ready()
        async with system.one.lock:
            before = system.one.ahead
            before.sent()
            system.one.saw(Seen().block, 1)
        await until(lambda: system.one.ahead is not before)
        async with system.one.lock:
            system.one.ahead.sent()  # of the next flush
        assert "begin" not in system.producer.calls
        before.settled()
        await until(lambda: len(flushes(system.producer)) == 1)
        system.one.ahead.settled()
        await system.keeper.close(flush=True)

    run(test)


def test_only_tasks_that_changed_are_flushed() -> None:
    async def test() -> None:
        system = System()
        seen = [await system.see(system.two, 1)]
        await until(lambda: seen[0].finished)
        assert flushes(system.producer) == [[("log_two", 3, 2)]]
        await asyncio.sleep(0.02)
        assert len(flushes(system.producer)) == 1
        await system.keeper.close(flush=True)

    run(test)


def test_what_changes_soon_after_a_flush_waits_for_the_next_one_and_closing_does_not() -> None:
    async def test() -> None:
        system = System(every=60.0)
        first = await system.see(system.one, 1)
        await until(lambda: first.finished)
        second = await system.see(system.one, 2)
        await asyncio.sleep(0.02)
        assert not second.finished
        await system.keeper.close(flush=True)
        assert second.finished
        assert len(flushes(system.producer)) == 2

    run(test)


def test_state_is_restored_before_anything_is_processed() -> None:
    async def test() -> None:
        head = Head(FORMAT, "1", {"events": 77}, {"rows": 1}, {})
        system = System(log_one=Restored(head, binary([b"a"]), binary([b"1"]), 9))
        await system.keeper.ready()
        assert system.producer.calls == ["start"]
        assert (system.one.positions, system.one.state.rows) == ({"events": 77}, {b"a": b"1"})  # type: ignore[attr-defined]
        assert (system.two.positions, system.two.state.rows) == ({}, {})  # type: ignore[attr-defined]
        await system.keeper.close(flush=True)

    run(test)


def test_state_of_another_version_is_refused() -> None:
    async def test() -> None:
        system = System(log_two=Restored(Head(FORMAT, "0", {"events": 77}, {}, {}), NO_TEXTS, NO_TEXTS, 9))
        said = "the state of 'two' in topic log_two was written by another version of it: expected 1; found 0"
        with pytest.raises(StateError, match=said):
            await system.keeper.ready()
        await until(lambda: bool(system.failures))
        assert isinstance(system.failures[0], StateError)
        await system.keeper.close(flush=True)
        assert flushes(system.producer) == []

    run(test)


@pytest.mark.parametrize(
    ("then", "now", "position"), [("a", "a", 77), ("a", "b", None), ("a", None, 77), (None, "b", 77)]
)
def test_offsets_of_a_source_that_was_made_anew_do_not_count(
    then: str | None, now: str | None, position: int | None
) -> None:
    async def test() -> None:
        task = KeptTask("one", "log", Rows(), 1 << 20, {"events": now})
        head = Head(FORMAT, "1", {"events": 77}, {}, {} if then is None else {"sources": {"events": then}})
        task.restore(Restored(head, binary([b"a"]), binary([b"1"]), 9))
        assert task.positions.get("events") == position
        assert task.state.rows == {b"a": b"1"}  # type: ignore[attr-defined]

    run(test)


def test_too_many_results_that_wait_hold_the_next_batch_up() -> None:
    async def test() -> None:
        system = System(every=60.0)
        first = await system.see(system.one, 1)
        await until(lambda: first.finished)
        system.producer.gate.clear()
        async with system.one.lock:
            system.one.hold(Result("out", 0, Body(b"x" * (20 << 20), 1, 0, 0)))
        waiting = asyncio.create_task(system.keeper.ready())
        await until(lambda: system.producer.calls[-1] == ("log_one", 3, 1))  # it is flushed at once
        assert not waiting.done()
        system.producer.gate.set()
        await waiting
        await system.keeper.close(flush=True)

    run(test)


def test_a_flush_that_fails_fails_the_worker_and_finishes_nothing() -> None:
    async def test() -> None:
        system = System()
        system.producer.error = BrokerError("fenced")
        seen = await system.see(system.one, 1)
        await until(lambda: bool(system.failures))
        assert str(system.failures[0]) == "fenced"
        assert not seen.finished
        await system.keeper.close(flush=False)

    run(test)


def test_a_task_that_broke_off_inside_a_batch_is_not_kept() -> None:
    async def test() -> None:
        system = System(every=60.0)
        first = await system.see(system.one, 1)
        await until(lambda: first.finished)
        await system.see(system.one, 2)
        async with system.one.lock:
            system.one.state.put(b"half", b"")  # type: ignore[attr-defined]
            system.one.spoil()
        await system.keeper.close(flush=True)
        assert len(flushes(system.producer)) == 1

    run(test)


def test_after_the_clock_has_moved_a_state_results_are_held_until_that_is_kept() -> None:
    async def test() -> None:
        system = System()
        await system.keeper.ready()
        async with system.one.lock:
            system.one.clock()
        await asyncio.sleep(0.02)
        assert flushes(system.producer) == []  # nobody needs to know yet
        assert system.one.holds
        system.producer.gate.clear()
        await system.see(system.one, 1)
        await until(lambda: system.producer.calls[-1] == ("log_one", 3, 2))
        assert system.one.holds  # it is not kept yet
        system.producer.gate.set()
        await until(lambda: not system.one.holds)
        await system.keeper.close(flush=True)

    run(test)


def test_a_keeper_that_is_fenced_off_fails_the_worker_only_if_the_partition_stays() -> None:
    async def test() -> None:
        system = System()
        system.producer.error = ProducerFenced("another one")
        assert not system.two.holds
        seen = await system.see(system.one, 1)
        await until(lambda: system.one.holds)
        assert system.two.holds  # also of those of which nothing was in the flush
        again = await system.see(system.two, 2)
        await asyncio.sleep(0.05)
        await system.keeper.close(flush=False)
        assert system.failures == []
        assert not seen.finished
        assert not again.finished
        assert not system.two.changed

    run(test)


def test_closing_without_a_flush_keeps_nothing() -> None:
    async def test() -> None:
        system = System(every=60.0)
        first = await system.see(system.one, 1)
        await until(lambda: first.finished)
        second = await system.see(system.one, 2)
        await system.keeper.close(flush=False)
        assert not second.finished
        assert len(flushes(system.producer)) == 1

    run(test)
