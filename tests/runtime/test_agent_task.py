"""Agents over one partition: whole results or none, and one bad event costs nobody else anything."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
import pytest

from streamproc import App, Batch, Stream
from streamproc.columns import Causes
from streamproc.define.agent import Agent
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import InvalidRecord, StreamprocError
from streamproc.runtime.agent_task import AgentStopped, AgentTask
from tests.runtime.kit import ListOutlet, Ping, Pong, agent, pings, running


async def double(stream: Stream[Ping]) -> AsyncIterator[Pong]:
    """Two results for each event."""
    async for ping in stream:
        yield Pong(ping.key, ping.n)
        yield Pong(ping.key, ping.n * 2)


class Picky:
    """Two results for each event; raises between them at the numbers given. Counts how often it was started."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.starts, self.seen = bad, 0, []

    async def rows(self, stream: Stream[Ping]) -> AsyncIterator[Pong]:
        self.starts += 1
        async for ping in stream:
            self.seen.append(ping.n)
            yield Pong(ping.key, ping.n, "first")
            if ping.n in self.bad:
                raise ValueError(f"no {ping.n} please")
            yield Pong(ping.key, ping.n, "second")

    async def columns(self, stream: Stream[Ping]) -> AsyncIterator[Batch]:
        self.starts += 1
        async for batch in stream.batches():
            self.seen.append(len(batch))
            if batch["n"].is_in(self.bad).any():
                raise ValueError("something in there")
            yield batch.with_columns(note=batch["key"])


class TestRows:
    async def test_results_of_an_event_go_out_together_with_its_timestamp(self):
        async with running(double) as (task, outlet):
            await task.take(pings(1, 2))
        assert outlet.sends == [
            ("pongs", [Pong("1", 1), Pong("1", 2)], [1000, 1000]),
            ("pongs", [Pong("2", 2), Pong("2", 4)], [1001, 1001]),
        ]

    async def test_every_sink_gets_them(self):
        async with running(double, sinks=2) as (task, outlet):
            await task.take(pings(1))
        assert [name for name, _, _ in outlet.sends] == ["pongs", "pongs2"]

    async def test_take_returns_when_the_last_event_is_done(self):
        held = asyncio.Event()

        async def slow(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                await held.wait()
                yield Pong(ping.key, ping.n)

        async with running(slow) as (task, outlet):
            taking = asyncio.create_task(task.take(pings(1, 2)))
            await asyncio.sleep(0.01)
            assert not taking.done()
            assert outlet.sends == []
            held.set()
            await taking
            assert len(outlet.sends) == 2

    async def test_batches_follow_each_other(self):
        async with running(double) as (task, outlet):
            for i in range(3):
                await task.take(pings(i, first=i))
            await task.take(pings())
        assert [r.n for r in outlet.records()] == [0, 0, 1, 2, 2, 4]

    async def test_events_carry_their_positions(self):
        seen: list[Any] = []

        async def look(stream: Stream[Ping]) -> None:
            async for event in stream.events():
                seen.append((event.value.n, event.topic, event.partition, event.offset, event.timestamp))  # noqa: PERF401

        async with running(look, sinks=0) as (task, _):
            await task.take(pings(7, 8, first=5, partition=3))
        assert seen == [(7, "pings", 3, 5, 1005), (8, "pings", 3, 6, 1006)]

    async def test_an_event_that_raises_is_one_dead_letter(self):
        picky = Picky(2, 3)
        async with running(picky.rows) as (task, outlet):
            await task.take(pings(1, 2, 3, 4, first=10))
        assert [(r.n, r.note) for r in outlet.records()] == [(1, "first"), (1, "second"), (4, "first"), (4, "second")]
        assert picky.seen == [1, 2, 3, 4]
        assert picky.starts == 3
        letter, record = outlet.letters[0]
        assert (letter.app, letter.stage, letter.reason) == ("test", "play", "agent_error")
        assert (letter.topic, letter.partition, letter.offset) == ("pings", 0, 11)
        assert letter.error == "ValueError: no 2 please"
        assert letter.traceback is not None
        assert "in rows" in letter.traceback
        assert record == Ping("2", 2)
        assert outlet.put_aside == [11, 12]

    async def test_the_last_event_of_a_batch_may_raise(self):
        picky = Picky(2)
        async with running(picky.rows) as (task, outlet):
            await task.take(pings(1, 2))
            await task.take(pings(3, first=2))
        assert [r.n for r in outlet.records()] == [1, 1, 3, 3]
        assert outlet.put_aside == [1]

    async def test_agents_without_results_have_dead_letters_too(self):
        async def check(stream: Stream[Ping]) -> None:
            async for ping in stream:
                assert ping.n != 2, "two"

        async with running(check, sinks=0) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert outlet.put_aside == [1]
        assert outlet.letters[0][0].error.startswith("AssertionError: two")

    async def test_a_result_of_the_wrong_type(self):
        async def wrong(stream: Stream[Ping]) -> AsyncIterator[Any]:
            async for ping in stream:
                yield Pong(ping.key, ping.n)
                yield ping if ping.n == 2 else Pong(ping.key, ping.n)

        async with running(wrong) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 1, 3, 3]
        assert outlet.letters[0][0].error == "TypeError: agent 'play' yielded Ping; its sink takes Pong"

    async def test_a_result_that_does_not_fit_its_schema(self):
        """The event is put aside whole, and the function, which did nothing wrong that it knows of, goes on."""
        picky = Picky()

        async def big(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            picky.starts += 1
            async for ping in stream:
                yield Pong(ping.key, 1)
                yield Pong(ping.key, 2**40 if ping.n == 2 else 2)

        async with running(big, sinks=2) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert [r.key for r in outlet.records()] == ["1", "1", "3", "3"]
        assert [r.key for r in outlet.records("pongs2")] == ["1", "1", "3", "3"]
        assert [(letter.reason, letter.offset, letter.traceback) for letter, _ in outlet.letters] == [
            ("invalid", 1, None)
        ]
        assert picky.starts == 1

    async def test_what_is_yielded_late_belongs_to_the_event_in_work(self):
        """An agent that gathers three events ties their results to the third."""

        async def gather(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            held: list[Ping] = []
            async for ping in stream:
                held.append(ping)
                if len(held) == 3:
                    for each in held:
                        if each.n == 50:
                            raise ValueError("fifty")
                        yield Pong(each.key, each.n)
                    held = []

        async with running(gather) as (task, outlet):
            await task.take(pings(1, 2, 3))
            await task.take(pings(4, 50, 6, 7, 8, 9, first=3))
        assert [(len(records), stamps) for _, records, stamps in outlet.sends] == [
            (3, [1002] * 3),
            (3, [1008] * 3),  # of 7, 8 and 9; 4 and 50 are gone with 6, the event in work when it raised
        ]
        assert outlet.put_aside == [5]

    async def test_futures_that_others_cancelled_are_errors_like_any(self):
        async def impatient(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                if ping.n == 2:
                    future = asyncio.get_running_loop().create_future()
                    future.cancel()
                    await future
                yield Pong(ping.key, ping.n)

        async with running(impatient) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 3]
        assert outlet.put_aside == [1]

    async def test_panics_are_errors_like_any(self):
        """What a Rust library raises is no Exception."""

        class PanicException(BaseException):
            pass

        async def panics(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                if ping.n == 2:
                    raise PanicException("index out of bounds")
                yield Pong(ping.key, ping.n)

        async with running(panics) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert outlet.put_aside == [1]

    async def test_an_agent_may_await_and_time_out(self):
        """Also while it asks for the next event."""

        async def waits(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            events = aiter(stream)
            while True:
                try:
                    ping = await asyncio.wait_for(anext(events), 0.001)
                except TimeoutError:
                    continue
                await asyncio.sleep(0.002)
                yield Pong(ping.key, ping.n)

        async with running(waits) as (task, outlet):
            for i in range(5):
                await task.take(pings(i, first=i))
                await asyncio.sleep(0.005)
        assert [r.n for r in outlet.records()] == [0, 1, 2, 3, 4]
        assert not outlet.letters


class TestBatches:
    async def test_columns_go_out_as_records_with_their_timestamps(self):
        async with running(Picky().columns) as (task, outlet):
            await task.take(pings(1, 2))
        assert outlet.sends == [("pongs", [Pong("1", 1, "1"), Pong("2", 2, "2")], [1000, 1001])]

    async def test_rows_that_raise_alone_are_the_only_dead_letters(self):
        picky = Picky(3, 4, 9)
        async with running(picky.columns) as (task, outlet):
            await task.take(pings(*range(16)))
        assert outlet.put_aside == [3, 4, 9]
        assert [record for _, record in outlet.letters] == [Ping("3", 3), Ping("4", 4), Ping("9", 9)]
        assert [r.n for r in outlet.records()] == [n for n in range(16) if n not in picky.bad]

    @pytest.mark.parametrize("bad", [0, 31_234, 49_999])
    async def test_one_bad_row_of_many_is_found_by_halves(self, bad: int):
        picky = Picky(bad)
        async with running(picky.columns) as (task, outlet):
            await task.take(pings(*range(50_000)))
        assert outlet.put_aside == [bad]
        assert [r.n for r in outlet.records()] == [n for n in range(50_000) if n != bad]
        assert len(picky.seen) <= 33  # two for each time that 50,000 halves, and the first
        assert picky.seen[0] == 50_000

    async def test_all_rows_may_be_bad(self):
        async with running(Picky(*range(100)).columns) as (task, outlet):
            await task.take(pings(*range(100)))
        assert outlet.put_aside == list(range(100))

    async def test_columns_that_are_not_the_sinks(self):
        async def wrong(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch  # has no note

        async with running(wrong) as (task, outlet):
            await task.take(pings(1))
        assert outlet.letters[0][0].error == "Pong: no column note; the columns are key, n"

    async def test_values_that_do_not_fit_cost_their_rows_only(self):
        async def big(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.select("key", n=batch["n"] * 2**30, note=batch["key"])

        async with running(big) as (task, outlet):
            await task.take(pings(0, 1, 7, -1))
        assert [r.n for r in outlet.records()] == [0, 2**30, -(2**30)]
        assert outlet.put_aside == [2]
        assert outlet.letters[0][0].reason == "invalid"

    async def test_single_records_may_come_of_a_batch(self):
        async def count(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for batch in stream.batches():
                yield Pong("n", len(batch))

        async with running(count) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert outlet.sends == [("pongs", [Pong("n", 3)], [1002])]


class TestBothWays:
    async def test_batches_after_single_events_begin_with_the_rest(self):
        seen: list[Any] = []

        async def head_and_tail(stream: Stream[Ping]) -> None:
            async for ping in stream:
                seen.append(ping.n)
                break
            async for batch in stream.batches():
                seen.append(batch["n"].to_list())  # noqa: PERF401

        async with running(head_and_tail, sinks=0) as (task, _):
            await task.take(pings(1, 2, 3))
            await task.take(pings(4, 5, first=3))
        assert seen == [1, [2, 3], [4, 5]]

    async def test_single_events_after_a_batch_begin_after_it(self):
        seen: list[Any] = []

        async def tail_and_head(stream: Stream[Ping]) -> None:
            async for batch in stream.batches():
                seen.append(batch["n"].to_list())
                break
            async for ping in stream:
                seen.append(ping.n)  # noqa: PERF401

        async with running(tail_and_head, sinks=0) as (task, _):
            await task.take(pings(1, 2))
            await task.take(pings(3, 4, first=2))
        assert seen == [[1, 2], 3, 4]


class TestLife:
    async def stopped(self, function: Any, **named: Any) -> str:
        async with running(function, **named) as (task, outlet):
            with pytest.raises(AgentStopped) as caught:
                await task.take(pings(1, 2))
            with pytest.raises(AgentStopped):  # nothing more is taken
                await task.take(pings(3, first=2))
            assert outlet.sends == []
            assert outlet.letters == []
        return str(caught.value)

    async def test_returning(self):
        async def returns(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                yield Pong(ping.key, ping.n)
                return

        assert await self.stopped(returns) == "agent 'play' returned: its loop over the stream must not end"

    async def test_raising_before_it_reads(self):
        async def raises(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            raise OSError("no model")
            yield

        assert await self.stopped(raises) == "agent 'play' raised outside any event: OSError('no model')"

    async def test_yielding_before_it_reads(self):
        async def eager(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            yield Pong("", 0)
            async for ping in stream:
                yield Pong(ping.key, ping.n)

        assert await self.stopped(eager) == ("agent 'play' yielded before it read anything: results belong to an event")

    async def test_failing_while_it_waits_is_told_at_the_next_batch(self):
        async def nervous(stream: Stream[Ping]) -> None:
            while True:
                try:
                    await asyncio.wait_for(anext(aiter(stream)), 0.001)
                except TimeoutError:
                    raise OSError("too quiet") from None

        async with running(nervous, sinks=0) as (task, _):
            await task.take(pings(1))
            await asyncio.sleep(0.02)
            with pytest.raises(AgentStopped, match="raised outside any event: OSError"):
                await task.take(pings(2, first=1))

    async def test_stop_in_the_middle(self):
        entered = asyncio.Event()

        async def stuck(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                yield Pong(ping.key, ping.n)
                entered.set()
                await asyncio.Event().wait()

        outlet = ListOutlet()
        task = AgentTask(agent(stuck), outlet)
        taking = asyncio.create_task(task.take(pings(1)))
        await entered.wait()
        await task.stop()
        with pytest.raises(AgentStopped, match="agent 'play' was stopped"):
            await taking
        assert outlet.sends == []
        await task.stop()  # again

    async def test_stop_runs_the_functions_own_cleaning(self):
        cleaned: list[str] = []

        async def tidy(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            try:
                async for ping in stream:
                    yield Pong(ping.key, ping.n)
            finally:
                cleaned.append("done")

        async with running(tidy) as (task, _):
            await task.take(pings(1))
        assert cleaned == ["done"]

    async def test_stop_wins_over_an_agent_that_catches_everything(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("streamproc.runtime.agent_task._PATIENCE", 0.01)
        caught = 0

        async def stubborn(stream: Stream[Ping]) -> None:
            nonlocal caught
            async for _ in stream:
                while caught < 3:
                    try:
                        await asyncio.Event().wait()
                    except BaseException:
                        caught += 1

        task = AgentTask(agent(stubborn, sinks=0), ListOutlet())
        taking = asyncio.create_task(task.take(pings(1)))
        await asyncio.sleep(0.01)
        await task.stop()
        assert caught == 3
        await asyncio.gather(taking, return_exceptions=True)

    async def test_stop_before_anything(self):
        await AgentTask(agent(double), ListOutlet()).stop()

    async def test_agents_that_raise_leave_nothing_open(self, caplog: pytest.LogCaptureFixture):
        with caplog.at_level(logging.DEBUG, "asyncio"):
            async with running(Picky(*range(50)).rows) as (task, _):
                await task.take(pings(*range(60)))
            gc.collect()
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]

    async def test_a_broken_outlet_stops_the_task_and_blames_no_event(self):
        broken = StreamprocError("Kafka said no")
        async with running(double) as (task, outlet):
            outlet.broken = broken
            with pytest.raises(StreamprocError) as caught:
                await task.take(pings(1, 2))
            assert caught.value is broken
            assert outlet.letters == []
            with pytest.raises(StreamprocError, match="Kafka said no"):
                await task.take(pings(3, first=2))

    async def test_a_dead_letter_that_cannot_go_out_stops_the_task(self):
        async with running(Picky(1).rows) as (task, outlet):
            outlet.broken = StreamprocError("Kafka said no")
            with pytest.raises(StreamprocError, match="Kafka said no"):
                await task.take(pings(1))

    async def test_others_run_meanwhile(self):
        """An agent that never awaits anything must not hold the loop for a whole batch."""
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        async def busy(stream: Stream[Ping]) -> None:
            async for _ in stream:
                pass

        async with running(busy, sinks=0) as (task, _):
            await task.take(pings(0))
            ticker = asyncio.create_task(tick())
            await task.take(pings(*range(50_000), first=1))
            ticker.cancel()
        assert ticks > 3


class TestDeadLetterAgents:
    async def test_a_letter_about_a_letter_is_not_sent(self, caplog: pytest.LogCaptureFixture):
        """It would come back to the agent that raised, for ever."""
        app = App("test")

        async def alert(stream: Stream[DeadLetter]) -> None:
            async for _ in stream:
                raise ValueError("nobody to tell")

        app.agent(app.dead_letters)(alert)
        definition = app.agents["alert"]
        assert isinstance(definition, Agent)
        outlet = ListOutlet()
        task = AgentTask(definition, outlet)
        letter = DeadLetter(0, "test", "x", "y", "z")
        await task.take(Batch.of(app.dead_letters.name, 0, [letter, letter], first_offset=7))
        await task.stop()
        assert outlet.letters == []
        assert [r.getMessage() for r in caplog.records] == [
            f"agent alert: dead letter {offset}: ValueError('nobody to tell')" for offset in (7, 8)
        ]


class TestTables:
    async def test_each_task_has_its_own(self):
        app = App("test")
        seen = app.table("seen", default=int)

        async def count(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                seen[ping.key] += 1
                yield Pong(ping.key, seen[ping.key], ",".join(seen))

        definition = agent(count, app=app)
        outlets = ListOutlet(), ListOutlet()
        tasks = [AgentTask(definition, outlet) for outlet in outlets]
        await asyncio.gather(tasks[0].take(pings(1, 1, 2)), tasks[1].take(pings(1, 3, partition=1)))
        await asyncio.gather(*(task.stop() for task in tasks))
        assert outlets[0].records() == [Pong("1", 1, "1"), Pong("1", 2, "1"), Pong("2", 1, "1,2")]
        assert outlets[1].records() == [Pong("1", 1, "1"), Pong("3", 1, "1,3")]

    async def test_what_an_event_did_before_it_raised_is_undone(self):
        app = App("test")
        seen = app.table("seen", default=int)

        async def count(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                seen["all"] += 1
                if ping.n == 2:
                    raise ValueError
                yield Pong("all", seen["all"])

        async with running(count, app=app) as (task, outlet):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 2]


def test_the_outlet_refuses_as_kafkas_does():
    """The tests above lean on it."""
    with pytest.raises(InvalidRecord):
        asyncio.run(ListOutlet().send(agent(double).sinks[0], [Pong("k", 2**40)], [0]))


class Ways(ListOutlet):
    """Keeps which way results went."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[tuple[str, int]] = []
        self.causes: list[Any] = []  # of each call

    async def send_columns(
        self, topic: Any, columns: Any, timestamps: Any, partitions: Any = None, causes: Any = None
    ) -> None:
        before = len(self.sends)
        await super().send_columns(topic, columns, timestamps, partitions)
        self.causes[-1:] = [told(causes)]  # in place of what the call above noted
        self.ways.append(("columns", len(columns)))
        assert len(self.sends) == before + 1

    async def send(self, topic: Any, records: Any, timestamps: Any, headers: Any = None, causes: Any = None) -> None:
        await super().send(topic, records, timestamps, headers)
        self.ways.append((topic.name, len(records)))
        self.causes.append(told(causes))


def told(causes: Causes | None) -> list[tuple[int, int]] | None:
    """Offsets and numbers."""
    return None if causes is None else list(zip(causes.offsets.tolist(), causes.numbers.tolist(), strict=True))


async def ways_of(function: Any, *batches: Batch, sinks: int = 1) -> Ways:
    outlet = Ways()
    task = AgentTask(agent(function, sinks=sinks), outlet)
    for batch in batches:
        await task.take(batch)
    await task.stop()
    return outlet


class TestWaysOut:
    """Batches go out as columns, records as records, and never in another order than they were yielded."""

    async def test_a_batch_goes_as_columns_to_every_sink(self):
        async def noted(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(note=batch["key"])

        outlet = await ways_of(noted, pings(1, 2, 3), sinks=2)
        assert outlet.ways == [("pongs", 3), ("columns", 3), ("pongs2", 3), ("columns", 3)]
        assert outlet.sends[0] == ("pongs", [Pong(str(n), n, str(n)) for n in (1, 2, 3)], [1000, 1001, 1002])

    async def test_several_batches_of_one_event_batch_go_together(self):
        async def thrice(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(note=batch["key"])
                yield batch.with_columns(note=batch["key"]).slice(1, 2).select("note", "n", "key")

        outlet = await ways_of(thrice, pings(1, 2))
        assert outlet.ways == [("pongs", 3), ("columns", 3)]
        assert [(r.n, r.note) for r in outlet.records()] == [(1, "1"), (2, "2"), (2, "2")]
        assert outlet.sends[0][2] == [1000, 1001, 1001]

    async def test_records_go_as_records(self):
        outlet = await ways_of(double, pings(1))
        assert outlet.ways == [("pongs", 2)]

    async def test_columns_of_different_types_go_as_records(self):
        """Joined, they would be made of one type, and a wrong value might pass for a right one."""

        async def two(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(note=batch["key"])
                yield batch.with_columns(note=batch["key"], n=batch["n"].cast(float))

        outlet = await ways_of(two, pings(1))
        assert outlet.ways == []
        assert outlet.put_aside == [0]

    async def test_a_row_that_does_not_fit_is_put_aside_alone(self):
        async def big(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(note=batch["key"], n=batch["n"] * 2**20)

        outlet = await ways_of(big, pings(1, 2, 2**20, 4))
        assert [r.n for r in outlet.records()] == [2**20, 2**21, 2**22]
        assert outlet.put_aside == [2]

    async def test_columns_that_are_not_the_sinks_fields(self):
        async def wrong(stream: Stream[Ping]) -> AsyncIterator[Batch]:
            async for batch in stream.batches():
                yield batch.with_columns(other=batch["n"])

        outlet = await ways_of(wrong, pings(1, 2))
        assert outlet.put_aside == [0, 1]
        assert "note" in outlet.letters[0][0].error


class TestCauses:
    """Which events results belong to: the same, however the events are cut into batches, or not said at all."""

    async def test_results_of_an_event_are_numbered(self):
        async def twice(stream):
            async for ping in stream:
                for _ in range(ping.n):
                    yield Pong(ping.key, ping.n)

        outlet = await ways_of(twice, pings(2, 0, 3, first=10), pings(1, first=20), sinks=2)
        each = [[(10, 0), (10, 1)], [(12, 0), (12, 1), (12, 2)], [(20, 0)]]
        assert outlet.causes == [causes for causes in each for _ in range(2)]

    async def test_batches_that_an_event_gives_are_its_results(self):
        async def some(stream):
            async for _ in stream:
                yield pings(1, 2, first=700).with_columns(note=pl.lit(""))
                yield pings(3, first=5).with_columns(note=pl.lit(""))

        outlet = await ways_of(some, pings(1, first=10))
        assert outlet.causes == [[(10, 0), (10, 1), (10, 2)]]

    async def test_rows_of_a_batch_keep_their_events(self):
        async def halves(stream):
            async for batch in stream.batches():
                yield batch.where(batch["n"] > 2).with_columns(note=pl.lit("high"))
                yield batch.where(batch["n"] > 1).with_columns(note=pl.lit("low"))

        outlet = await ways_of(halves, pings(1, 2, 3, 4, first=10))
        assert outlet.causes == [[(11, 0), (12, 0), (12, 1), (13, 0), (13, 1)]]
        assert [(pong.n, pong.note) for pong in outlet.records()] == [
            (2, "low"), (3, "high"), (3, "low"), (4, "high"), (4, "low")
        ]  # fmt: skip
        assert outlet.sends[0][2] == [1011, 1012, 1012, 1013, 1013]

    async def test_rows_and_records_together_are_put_in_order_too(self):
        async def mixed(stream):
            async for batch in stream.batches():
                yield batch.with_columns(note=pl.lit(""))
                yield Batch(batch.topic, batch.partition, Pong, batch.offsets[:1], batch.timestamps[:1],
                            records=[Pong("first", 0)])  # fmt: skip

        outlet = await ways_of(mixed, pings(1, 2, first=10))
        assert outlet.causes == [[(10, 0), (10, 1), (11, 0)]]
        assert [pong.key for pong in outlet.records()] == ["1", "first", "2"]

    async def test_what_belongs_to_no_event_of_the_batch_is_not_said(self):
        kept: list[Batch] = []

        async def late(stream):
            async for batch in stream.batches():
                kept.append(batch.with_columns(note=pl.lit("")))
                if len(kept) == 2:
                    yield kept[0]
                if len(kept) == 3:
                    yield Pong("k", 1)
                if len(kept) == 4:
                    yield Batch("other", 0, Pong, batch.offsets, batch.timestamps, records=[Pong("k", 1)])
                if len(kept) == 5:
                    yield Batch("pings", 1, Pong, batch.offsets, batch.timestamps, records=[Pong("k", 1)])

        outlet = await ways_of(late, *(pings(n, first=10 * n) for n in range(5)))
        assert outlet.causes == [None] * 4

    async def test_the_halves_of_a_batch_that_raised_have_the_same_causes(self):
        async def picky(stream):
            async for batch in stream.batches():
                if (batch["n"] == 3).any():
                    raise ValueError("three")
                yield batch.with_columns(note=pl.lit(""))

        outlet = await ways_of(picky, pings(1, 2, 3, 4, first=10))
        assert [place for causes in outlet.causes for place in causes] == [(10, 0), (11, 0), (13, 0)]
