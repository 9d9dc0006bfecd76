"""What becomes of an event that raises, by the agent's policy: aside, again, or the worker's end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamproc import App, Batch, Stream
from streamproc.define.errors import Policy, Retry, retry
from streamproc.errors import DefinitionError
from streamproc.runtime.agent_task import AgentStopped, AgentTask
from streamproc.testing import TestDriver, split_invariant
from tests.runtime.kit import ListOutlet, Ping, Pong, pings

THRICE = retry(3, backoff="10s", most="25s")


class Waits:
    """In place of sleeping: keeps how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    function: Callable[..., Any], policy: Policy, *, app: App | None = None
) -> AsyncIterator[tuple[AgentTask, ListOutlet, Waits]]:
    """A task that runs ``function``, and never really waits between tries."""
    app = app or App("test")
    source, sink = app.topic("pings", Ping, key="key"), app.topic("pongs", Pong, key="key")
    app.agent(source, sink=sink, name="play", on_error=policy)(function)
    outlet, waits = ListOutlet(), Waits()
    task = AgentTask(app.agents["play"], outlet)  # type: ignore[arg-type]
    task.pause = waits
    try:
        yield task, outlet, waits
    finally:
        await task.stop()


class Shaky:
    """Raises on some numbers, on each so many times. Keeps what it saw."""

    def __init__(self, **times: int) -> None:
        self.left = {int(n.removeprefix("n")): count for n, count in times.items()}
        self.seen: list[Any] = []
        self.starts = 0

    def look(self, n: int) -> None:
        if self.left.get(n, 0):
            self.left[n] -= 1
            raise ValueError(f"no {n} please")

    async def rows(self, stream: Stream[Ping]) -> AsyncIterator[Pong]:
        self.starts += 1
        async for ping in stream:
            self.seen.append(ping.n)
            yield Pong(ping.key, ping.n, "first")
            self.look(ping.n)
            yield Pong(ping.key, ping.n, "second")

    async def columns(self, stream: Stream[Ping]) -> AsyncIterator[Batch]:
        self.starts += 1
        async for batch in stream.batches():
            self.seen.append(batch["n"].to_list())
            for n in batch["n"]:
                self.look(n)
            yield batch.with_columns(note=batch["key"])


class TestDefinitions:
    def test_retry(self) -> None:
        assert retry() == Retry(3, 1000, 30_000, "dead_letter")
        assert retry(1, backoff="1s", most="1s", then="stop") == Retry(1, 1000, 1000, "stop")
        assert str(retry()) == "retry(times=3, backoff=1s, most=30s, then=dead_letter)"

    def test_waits_double_up_to_the_longest_less_up_to_a_half(self) -> None:
        policy = retry(9, backoff="1s", most="10s")
        assert [policy.wait(n, 1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]
        assert [policy.wait(n, 0.0) for n in range(1, 7)] == [0.5, 1, 2, 4, 5, 5]
        assert policy.wait(10**6, 1.0) == 10

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"times": 0}, "retry: expected times to be a whole number above zero; got 0"),
            ({"times": True}, "retry: expected times to be a whole number above zero; got True"),
            ({"backoff": "1m"}, "retry: expected most to be at least the backoff, 1m; got 30s"),
            ({"then": "skip"}, 'retry: expected then to be "dead_letter" or "stop"; got \'skip\''),
            ({"then": ["stop"]}, 'retry: expected then to be "dead_letter" or "stop"; got [\'stop\']'),
        ],
    )
    def test_wrong_ones(self, wrong: Any, said: str) -> None:
        with pytest.raises(DefinitionError) as caught:
            retry(**wrong)
        assert str(caught.value) == said

    @pytest.mark.parametrize("policy", ["skip", None, retry, 3, []])
    def test_what_is_no_policy(self, policy: Any) -> None:
        app = App("test")
        with pytest.raises(DefinitionError) as caught:
            app.agent(app.topic("pings", Ping, key="key"), sink=app.topic("pongs", Pong), on_error=policy)(Shaky().rows)
        assert str(caught.value) == (
            f'agent \'rows\': expected on_error to be "dead_letter", "stop" or retry(…); got {policy!r}'
        )


class TestRetry:
    async def test_the_same_event_comes_again_in_its_place(self) -> None:
        shaky = Shaky(n2=2)
        async with running(shaky.rows, THRICE) as (task, outlet, waits):
            await task.take(pings(1, 2, 3))
        assert shaky.seen == [1, 2, 2, 2, 3]
        assert [(r.n, r.note) for r in outlet.records()] == [
            (n, note) for n in (1, 2, 3) for note in ("first", "second")
        ]
        assert outlet.put_aside == []
        assert (shaky.starts, task.retries, len(waits.seconds)) == (3, 2, 2)
        assert 0 < waits.seconds[0] <= 10
        assert waits.seconds[1] <= 20

    async def test_it_is_put_aside_when_it_raised_every_time(self, caplog: pytest.LogCaptureFixture) -> None:
        shaky = Shaky(n2=99, n4=3)
        async with running(shaky.rows, THRICE) as (task, outlet, _):
            await task.take(pings(1, 2, 3, 4, first=10))
        assert shaky.seen == [1, 2, 2, 2, 2, 3, 4, 4, 4, 4]
        assert outlet.put_aside == [11]
        letter, record = outlet.letters[0]
        assert letter.error == "ValueError: no 2 please (tried 4 times)"
        assert "in rows" in (letter.traceback or "")
        assert record == Ping("2", 2)
        said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert len(said) == task.retries == 6
        assert said[0].startswith("agent play: pings[0] offset 11 raised, try 2 of 4 follows in ")

    async def test_results_that_do_not_fit_are_an_error_like_any(self) -> None:
        tries = 0

        async def big(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            nonlocal tries
            async for ping in stream:
                tries += ping.n == 2
                yield Pong(ping.key, 2**40 if ping.n == 2 and tries < 3 else ping.n)

        async with running(big, THRICE) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 2, 3]
        assert (tries, task.retries) == (3, 2)

    async def test_what_raised_before_does_not_count_for_the_next(self) -> None:
        shaky = Shaky(n1=3, n2=3, n3=3)
        async with running(shaky.rows, THRICE) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
        assert outlet.put_aside == []
        assert len(shaky.seen) == 12

    async def test_table_writes_of_a_try_that_failed_are_undone(self) -> None:
        app = App("test")
        seen = app.table("seen", default=int)
        shaky = Shaky(n2=2)

        async def counting(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                seen["all"] += 1
                yield Pong("all", seen["all"])
                shaky.look(ping.n)

        async with running(counting, THRICE, app=app) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 2, 3]

    async def test_a_function_that_cannot_begin_meanwhile_is_tried_again_too(self) -> None:
        """Such as one that connects first, to what the event was for."""
        down = 0

        async def connects(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            nonlocal down
            if down:
                down -= 1
                raise ConnectionError("still away")
            async for ping in stream:
                if ping.n == 2 and down == 0 and not seen:
                    seen.append(2)
                    down = 2
                    raise ConnectionError("gone")
                yield Pong(ping.key, ping.n)

        seen: list[int] = []
        async with running(connects, THRICE) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
        assert [r.n for r in outlet.records()] == [1, 2, 3]
        assert task.retries == 3

    async def test_stop_does_not_wait(self) -> None:
        shaky = Shaky(n1=99)
        async with running(shaky.rows, retry(5, backoff="1h", most="1h")) as (task, outlet, _):
            task.pause = asyncio.sleep
            taking = asyncio.create_task(task.take(pings(1, 2)))
            while not task.retries:  # noqa: ASYNC110
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await task.stop()
            with pytest.raises(AgentStopped, match="was stopped"):
                await taking
        assert (outlet.sends, outlet.letters, shaky.seen) == ([], [], [1])

    async def test_others_run_while_it_waits(self) -> None:
        shaky, held = Shaky(n1=1), asyncio.Event()

        async def wait(_: float) -> None:
            await held.wait()

        async with running(shaky.rows, THRICE) as (task, outlet, _):
            task.pause = wait
            async with running(Shaky().rows, "dead_letter") as (other, others, _):
                taking = asyncio.create_task(task.take(pings(1, 2)))
                await other.take(pings(5, partition=1))
                assert [r.n for r in others.records()] == [5, 5]
                assert not taking.done()
                held.set()
                await taking
        assert [r.n for r in outlet.records()] == [1, 1, 2, 2]

    async def test_an_agent_that_times_its_asking_out_waits_on(self) -> None:
        asked = 0

        async def impatient(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            nonlocal asked
            events = aiter(stream)
            while True:
                asked += 1
                try:
                    ping = await asyncio.wait_for(anext(events), 0.005)
                except TimeoutError:
                    continue
                yield Pong(ping.key, 2**40 if asked < 4 else ping.n)

        async with running(impatient, retry(1, backoff="30ms")) as (task, outlet, _):
            task.pause = asyncio.sleep
            await task.take(pings(1))
        assert [r.n for r in outlet.records()] == [1]
        assert (task.retries, outlet.put_aside) == (1, [])


class TestBatches:
    async def test_whole_again_before_it_is_halved(self) -> None:
        shaky = Shaky(n3=2)
        async with running(shaky.columns, THRICE) as (task, outlet, waits):
            await task.take(pings(1, 2, 3, 4))
        assert shaky.seen == [[1, 2, 3, 4]] * 3
        assert [r.n for r in outlet.records()] == [1, 2, 3, 4]
        assert len(waits.seconds) == 2

    async def test_halves_are_tried_once_and_single_rows_as_often_as_events(self) -> None:
        shaky = Shaky(n3=99)
        async with running(shaky.columns, retry(2, backoff="9s")) as (task, outlet, waits):
            await task.take(pings(1, 2, 3, 4))
            await task.take(pings(5, 6, first=4))
        assert shaky.seen == [*[[1, 2, 3, 4]] * 3, [1, 2], [3, 4], *[[3]] * 3, [4], [5, 6]]
        assert [r.n for r in outlet.records()] == [1, 2, 4, 5, 6]
        assert outlet.put_aside == [2]
        assert outlet.letters[0][0].error == "ValueError: no 3 please (tried 3 times)"
        assert len(waits.seconds) == 4

    async def test_the_next_batch_is_a_whole_one_again(self) -> None:
        shaky = Shaky(n2=99, n5=1)
        async with running(shaky.columns, retry(1, backoff="9s")) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
            shaky.seen.clear()
            await task.take(pings(4, 5, 6, first=3))
        assert shaky.seen == [[4, 5, 6], [4, 5, 6]]
        assert outlet.put_aside == [1]

    async def test_after_single_events(self) -> None:
        """The one that raised comes first in the batch."""
        seen: list[Any] = []

        async def both(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            if not seen:
                async for ping in stream:
                    seen.append(ping.n)
                    if ping.n == 2:
                        raise ValueError("two")
            async for batch in stream.batches():
                seen.append(batch["n"].to_list())
                yield Pong("n", len(batch))

        async with running(both, THRICE) as (task, outlet, _):
            await task.take(pings(1, 2, 3))
        assert seen == [1, 2, [2, 3]]
        assert outlet.put_aside == []


class TestStop:
    async def stopped(self, function: Any, policy: Policy) -> tuple[str, ListOutlet, AgentTask]:
        async with running(function, policy) as (task, outlet, _):
            with pytest.raises(AgentStopped) as caught:
                await task.take(pings(1, 2, 3, first=10))
            with pytest.raises(AgentStopped):  # nothing more is taken
                await task.take(pings(4, first=13))
        assert isinstance(caught.value.__cause__, ValueError)
        return str(caught.value), outlet, task

    async def test_the_error_names_the_event_and_what_to_do(self) -> None:
        said, outlet, _ = await self.stopped(Shaky(n2=1).rows, "stop")
        assert said == (
            "agent 'play' stops at pings[0] offset 11: ValueError: no 2 please\n"
            "mend what raised and start the worker again: this event comes again, and those behind it have waited"
        )
        assert [r.n for r in outlet.records()] == [1, 1]
        assert outlet.letters == []

    async def test_after_retries(self) -> None:
        said, outlet, task = await self.stopped(Shaky(n2=9).rows, retry(2, backoff="9s", then="stop"))
        assert said.startswith("agent 'play' stops at pings[0] offset 11 (tried 3 times): ValueError")
        assert (task.retries, outlet.letters) == (2, [])

    async def test_of_a_batch_it_finds_the_event(self) -> None:
        said, outlet, _ = await self.stopped(Shaky(n3=99).columns, "stop")
        assert said.startswith("agent 'play' stops at pings[0] offset 12: ValueError")
        assert [r.n for r in outlet.records()] == [1, 2]


class TestDriving:
    """The driver skips waits."""

    def app(self, policy: Policy) -> tuple[App, Any, Any]:
        app = App("test")
        source, sink = app.topic("pings", Ping, key="key"), app.topic("pongs", Pong, key="key")
        tries = app.table("tries", default=int)
        lasting: dict[int, int] = {}

        @app.agent(source, sink=sink, on_error=policy)
        async def play(stream: Stream[Ping]) -> AsyncIterator[Pong]:
            async for ping in stream:
                tries[ping.key] += 1
                lasting[ping.n] = lasting.get(ping.n, 0) + 1
                if ping.n % 3 == 0 or (ping.n % 3 == 1 and lasting[ping.n] % 2):
                    raise ValueError(f"no {ping.n}")
                yield Pong(ping.key, ping.n, str(tries[ping.key]))

        return app, source, sink

    def test_retries(self) -> None:
        app, source, sink = self.app(retry(3, backoff="1h", most="1d"))
        with TestDriver(app) as driver:
            driver.publish(source, Ping("k", 1), Ping("k", 2), Ping("k", 3), Ping("k", 4))
            assert driver.results(sink) == [Pong("k", 1, "1"), Pong("k", 2, "2"), Pong("k", 4, "3")]
            assert [letter.error for letter in driver.dead_letters] == ["ValueError: no 3 (tried 4 times)"]
            assert driver.now == 0

    def test_stop(self) -> None:
        app, source, sink = self.app("stop")
        with TestDriver(app) as driver:
            with pytest.raises(AgentStopped, match=r"stops at pings\[\d\] offset 1: ValueError: no 3"):
                driver.publish(source, Ping("k", 2), Ping("k", 3))
            assert driver.results(sink) == [Pong("k", 2, "1")]

    def test_results_do_not_depend_on_cuts(self) -> None:
        app, source, _ = self.app(retry(1, backoff="1h", most="1d"))
        split_invariant(app, {source: [Ping(str(i % 5), i) for i in range(60)]}, tries=5)
