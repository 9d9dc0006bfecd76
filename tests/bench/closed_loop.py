"""Closed loop, publish to result on one WebSocket connection, beside the bare two-hop floor, in one run.

    make bench                     # or: python -m tests.bench.closed_loop --rate 200 --seconds 10 --rounds 3

Both ways share gateway, broker and client, and take turns. The floor's consumer copies bytes; the platform's worker
decodes each event, keeps its windows, scores it with an incremental model that then learns, and encodes the result.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import uvloop

from streamproc.cli.system import System
from streamproc.client import Client, Gap, Subscription
from streamproc.demo.datasets import Reading, shuttle
from streamproc.demo.publish import Published, publish

WAYS = {"bare": ("bare", "echo"), "platform": ("readings", "scores")}


async def listen(subscription: Subscription, account: Published, latencies: list[float]) -> None:
    async for message in subscription:
        assert not isinstance(message, Gap)
        sent = account.sent_at.get(message.cause or "")
        if sent is not None:
            latencies.append(time.perf_counter() - sent)


async def one_round(client: Client, way: str, events: Iterator[Reading], rate: float, seconds: float) -> list[float]:
    """Latencies of one turn, in seconds; every event must have come back."""
    topic, channel = WAYS[way]
    account, latencies = Published(), list[float]()
    async with client.subscribe(channel) as results:
        listener = asyncio.create_task(listen(results, account, latencies))
        count = int(rate * seconds)
        await publish(client, topic, itertools.islice(events, count), rate, account)
        for _ in range(100):
            if len(latencies) >= count:
                break
            await asyncio.sleep(0.1)
        listener.cancel()
    assert len(latencies) == count, f"{way}: {count} events, {len(latencies)} results"
    return latencies


async def main(rate: float, seconds: float, rounds: int) -> None:
    folder = tempfile.TemporaryDirectory(prefix="streamproc-bench-")
    system = System("tests.bench.loop_topology:app", registry=f"file:{folder.name}/registry.json")
    await system.start()
    assert system.kafka is not None
    floor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare", "bare", "echo"),
        env={**os.environ, **system.kafka.environ()},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert floor.stdout is not None
        await floor.stdout.readline()
        events = itertools.cycle(shuttle("warm"))
        medians: dict[str, list[float]] = {way: [] for way in WAYS}
        tails: dict[str, list[float]] = {way: [] for way in WAYS}
        async with Client(system.url, name="bench") as client:
            for turn in range(rounds + 1):  # the first warms everything up and does not count
                for way in WAYS:
                    run = (Reading(f"{turn}-{way}-{e.id}", e.data, None, e.time) for e in events)
                    latencies = await one_round(client, way, run, rate, seconds if turn else 3.0)
                    if turn:
                        medians[way].append(float(np.median(latencies)) * 1000)
                        tails[way].append(float(np.quantile(latencies, 0.99)) * 1000)
                        figures = f"p50 {medians[way][-1]:6.2f} ms  p99 {tails[way][-1]:7.2f} ms"
                        print(f"  round {turn} {way:9} {figures}", flush=True)
        p50 = {way: statistics.median(values) for way, values in medians.items()}
        p99 = {way: statistics.median(values) for way, values in tails.items()}
        print(f"closed loop at {rate:g} events/s, medians of {rounds} rounds of {seconds:g} s")
        for way in WAYS:
            print(f"  {way:9} p50 {p50[way]:6.2f} ms  p99 {p99[way]:7.2f} ms")
        print(f"  platform / bare: p50 {p50['platform'] / p50['bare']:.2f}, p99 {p99['platform'] / p99['bare']:.2f}")
    finally:
        floor.terminate()
        await floor.wait()
        await system.stop()
        folder.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Closed-loop latency beside the bare two-hop floor.")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    uvloop.run(main(options.rate, options.seconds, options.rounds))
