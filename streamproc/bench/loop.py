"""Closed loop: from publishing an event to its result, on one WebSocket connection, beside the bare two-hop floor.

Both ways share gateway, broker and client, and take turns. The floor's consumer copies bytes; the platform's worker
decodes each event, keeps its windows, scores it with an incremental model that then learns, and encodes the result.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

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


async def closed_loop(url: str, rounds: int, seconds: float, tell: Callable[[str], None]) -> Latencies:
    """Rounds of so many seconds on each way; the topology must be running behind the gateway at ``url``.

    Raises:
        StreamprocError: a result did not come.
    """
    found = Latencies("loop")
    events = itertools.cycle(shuttle("loop"))
    async with Client(url, name="bench") as client:
        for turn in range(rounds + 1):
            for way in WAYS:
                run = (Reading(f"{turn}-{way}-{e.id}", e.data, None, e.time) for e in events)
                took = await _round(client, way, run, seconds if turn else min(seconds, _WARM))
                if turn:
                    found.add(way, took)
            if turn:
                tell(found.told())
    return found


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
