"""Closed loop: from publishing an event to its result, on one WebSocket connection, beside the bare two-hop floor.

Both ways share gateway, broker and client, and take turns. The floor's consumer copies bytes; the platform's worker
decodes each event, keeps its windows, scores it with an incremental model that then learns, and encodes the result.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from streamproc.bench.latency import Latencies
from streamproc.client import Client, Gap, Subscription
from streamproc.demo.datasets import Reading, shuttle
from streamproc.demo.publish import Published, publish
from streamproc.errors import StreamprocError

TOPOLOGY = "streamproc.bench.loop_topology:app"
WAYS = {"bare": ("bare", "echo"), "streamproc": ("readings", "scores")}
RATE = 200.0  # events per second
_WARM = 3.0  # seconds that do not count
_PATIENCE = 10.0  # seconds for the last results


async def closed_loop(
    job: str, url: str, worker: str, rounds: int, seconds: float, tell: Callable[[str], None]
) -> Latencies:
    """Rounds of so many seconds on each way; the topology must be running behind the gateway at ``url``, by the worker
    whose pages are at ``worker``.

    Raises:
        StreamprocError: a result did not come.
    """
    found = Latencies(job)
    events = itertools.cycle(shuttle("loop"))
    async with Client(url, name="bench") as client:
        for turn in range(rounds + 1):
            flushes = await asyncio.to_thread(Flushes.of, worker)
            for way in WAYS:
                run = (Reading(f"{turn}-{way}-{e.id}", e.data, None, e.time) for e in events)
                took = await _round(client, way, run, seconds if turn else min(seconds, _WARM))
                if turn:
                    found.add(way, took)
            if turn:
                since = (await asyncio.to_thread(Flushes.of, worker)).since(flushes)
                if since.total:
                    found.flushes.append((since.quantile(0.5) * 1000, since.quantile(0.99) * 1000))
                tell(found.told())
    return found


class Flushes(NamedTuple):
    """How long state took to be kept, from a worker's metrics: how many flushes took up to so many seconds."""

    upto: tuple[float, ...]
    counts: tuple[int, ...]  # of all that took no longer

    @classmethod
    def of(cls, url: str) -> Flushes:
        """As they are now, of all topics."""
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        counts: Counter[float] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "streamproc_worker_flush_seconds_bucket":
                    counts[float(sample.labels["le"])] += int(sample.value)
        return cls(tuple(sorted(counts)), tuple(counts[upto] for upto in sorted(counts)))

    @property
    def total(self) -> int:
        return self.counts[-1] if self.counts else 0

    def since(self, before: Flushes) -> Flushes:
        """Those that came after ``before``."""
        earlier = dict(zip(before.upto, before.counts, strict=True))
        return Flushes(self.upto, tuple(n - earlier.get(u, 0) for u, n in zip(self.upto, self.counts, strict=True)))

    def quantile(self, q: float) -> float:
        """Seconds, by a straight line between a bucket's ends."""
        wanted, low, below = q * self.total, 0.0, 0
        for upto, count in zip(self.upto, self.counts, strict=True):
            if count >= wanted and count > below:
                return low if math.isinf(upto) else low + (upto - low) * (wanted - below) / (count - below)
            low, below = upto, count
        return low


async def _round(client: Client, way: str, events: Iterator[Reading], seconds: float) -> list[float]:
    """Latencies of one turn, in seconds; every event must have come back."""
    topic, channel = WAYS[way]
    account, latencies = Published(), list[float]()
    async with client.subscribe(channel) as results:
        count = int(RATE * seconds)
        listener = asyncio.create_task(_listen(results, account, count, latencies))
        try:
            await publish(client, topic, itertools.islice(events, count), RATE, account)
            await asyncio.wait([listener], timeout=_PATIENCE)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
    if len(latencies) != count:
        raise StreamprocError(f"loop, {way}: {count} events, {len(latencies)} results")
    return latencies


async def _listen(subscription: Subscription, account: Published, count: int, latencies: list[float]) -> None:
    """Returns when there are ``count``."""
    async for message in subscription:
        if isinstance(message, Gap):
            raise StreamprocError(f"loop: the gateway left out {message.lost} results")
        sent = account.sent_at.get(message.cause or "")
        if sent is not None:
            latencies.append(time.perf_counter() - sent)
        if len(latencies) == count:
            return
