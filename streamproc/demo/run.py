"""Runs the demonstration against a gateway: publishers, subscribers, and the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from streamproc.client import Client, Gap, Subscription
from streamproc.define.windows import AlignedWindow
from streamproc.demo.account import Books, Received
from streamproc.demo.datasets import Reading
from streamproc.demo.publish import Published, publish

PUBLISHERS = 4
LISTENERS = 2  # besides the publishers, who listen for their own events' scores
_PATIENCE = 30.0  # seconds without any result before we stop waiting for the rest


class Demo:
    """One run.

    Args:
        url: the gateway's.
        window: that of the topology's bars.
        readings: all of them; each unit's go through one publisher, in order.
        rate: events per second, over all publishers; 0 for as fast as they are acknowledged.
    """

    def __init__(self, url: str, window: AlignedWindow, readings: list[Reading], rate: float) -> None:
        self.url, self.readings, self.rate = url, readings, rate
        self.books = Books(window)
        self.accounts = [Published() for _ in range(PUBLISHERS)]
        self.seconds = 0.0  # from the first event to the last answer
        self.waiting_for = ""  # what, when everything is sent
        self.last_bars: dict[str, dict[str, object]] = {}
        self._last_result = time.perf_counter()

    @property
    def sent(self) -> int:
        return sum(account.sent for account in self.accounts)

    @property
    def acked(self) -> int:
        return sum(account.acked for account in self.accounts)

    @property
    def refused(self) -> int:
        return sum(account.refused for account in self.accounts)

    async def run(self) -> None:
        """Publishes everything, and waits until every result is there, or nothing has come for long."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(Client(self.url, name=f"publisher-{i}")) for i in range(PUBLISHERS)
            ]
            listener = await stack.enter_async_context(Client(self.url, name="listener"))
            tasks = []
            for client, account in zip(clients, self.accounts, strict=True):
                tasks.append(await self._listen(stack, client, "scores", self._scores(account)))
            for _ in range(LISTENERS):
                other = await stack.enter_async_context(Client(self.url, name="listener"))
                tasks.append(await self._listen(stack, other, "scores", self._scores(None)))
            tasks.append(await self._listen(stack, listener, "bars", self._bars))
            tasks.append(await self._listen(stack, listener, "spikes", self._spikes))
            try:
                await self._publish(clients)
                await self._settle(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, clients: list[Client]) -> None:
        began = time.perf_counter()
        jobs = zip(clients, self._shares(), self.accounts, strict=True)
        rate = self.rate / PUBLISHERS
        await asyncio.gather(*(publish(client, "readings", share, rate, account) for client, share, account in jobs))
        self.seconds = time.perf_counter() - began

    def _shares(self) -> list[list[Reading]]:
        shares: list[list[Reading]] = [[] for _ in range(PUBLISHERS)]
        for reading in self.readings:
            shares[int(reading.data["unit"].rpartition("-")[2]) % PUBLISHERS].append(reading)
        return shares

    async def _listen(
        self, stack: AsyncExitStack, client: Client, channel: str, take: Callable[[Subscription], Awaitable[None]]
    ) -> asyncio.Task[None]:
        subscription = await stack.enter_async_context(client.subscribe(channel))

        async def listen() -> None:
            await take(subscription)

        return asyncio.create_task(listen(), name=f"{client.name} {channel}")

    def _scores(self, own: Published | None) -> Callable[[Subscription], Awaitable[None]]:
        received = Received()
        self.books.score_subscribers.append(received)
        first = len(self.books.score_subscribers) == 1
        decode = msgspec.json.Decoder(dict[str, object]).decode

        async def take(subscription: Subscription) -> None:
            async for message in subscription:
                if isinstance(message, Gap):
                    received.left_out += message.lost
                    continue
                now = self._last_result = time.perf_counter()
                cause = message.cause or ""
                received.ids[cause] += 1
                if own is not None and (sent := own.sent_at.get(cause)) is not None:
                    self.books.latencies.append(now - sent)
                if first:
                    self.books.scores[cause] = float(decode(message.data)["score"])  # type: ignore[arg-type]

        return take

    async def _bars(self, subscription: Subscription) -> None:
        async for message in subscription:
            if isinstance(message, Gap):
                self.books.bars_left_out += message.lost
                continue
            self._last_result = time.perf_counter()
            bar = msgspec.json.decode(message.data)
            at = (bar["unit"], bar["start"])
            self.books.bars_doubled += at in self.books.bars
            self.books.bars[at] = self.last_bars[bar["unit"]] = bar

    async def _spikes(self, subscription: Subscription) -> None:
        async for message in subscription:
            if isinstance(message, Gap):
                self.books.spikes.left_out += message.lost
                continue
            self._last_result = time.perf_counter()
            self.books.spikes.ids[message.cause or ""] += 1

    async def _settle(self, tasks: list[asyncio.Task[None]]) -> None:
        """Waits for the results of what was acknowledged: scores at once, the last windows when their time is over."""
        acked: set[str] = set().union(*(account.ids for account in self.accounts))
        self.books.readings = {r.id: r.data for r in self.readings if r.id in acked}
        bars, spikes = len(self.books.expected_bars()), len(self.books.expected_spikes())
        self._last_result = time.perf_counter()
        while time.perf_counter() - self._last_result < _PATIENCE:
            for task in tasks:
                if task.done():
                    task.result()  # a subscription ends only by an error
            scores = min(len(received.ids) for received in self.books.score_subscribers)
            if scores >= self.acked and len(self.books.bars) >= bars and len(self.books.spikes.ids) >= spikes:
                await asyncio.sleep(0.5)  # for what should not come
                return
            self.waiting_for = (
                f"{self.acked - scores:,} scores are on their way"
                if scores < self.acked
                else f"everything is scored; {len(self.books.bars):,} of {bars:,} windows have closed"
            )
            await asyncio.sleep(0.1)
