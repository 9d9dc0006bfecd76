"""The jobs in plain Faust, event by event. Windows are its own hopping table's: they expire by the wall clock, and
their callback comes for one partition of four, so few results come, if any.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import faust
import meter

read = meter.reader()
app = faust.App(
    meter.SINK,
    broker=f"aiokafka://{meter.BOOTSTRAP}",
    datadir=meter.FOLDER,
    key_serializer="raw",
    value_serializer="raw",
    topic_partitions=4,
    topic_disable_leader=True,
    topic_replication_factor=1,
    web_enabled=False,
    stream_buffer_maxsize=16384,
    consumer_auto_offset_reset="earliest",
    producer_linger=0.02,
    producer_compression_type="lz4",
)
source = app.topic(meter.SOURCE, key_type=bytes, value_type=bytes)
sink = app.topic(meter.SINK, key_type=bytes, value_type=bytes)
told: dict[str, float] = {}


async def closed(key: tuple[str, tuple[float, float]], sums: list[Any]) -> None:
    symbol, (start, _) = key
    n, total, greatest = sums
    await sink.send(key=symbol.encode(), value=meter.window(int(start * 1000), n, total, greatest, total / n))


async def end() -> None:
    await app.producer.flush()
    meter.done()
    os._exit(0)


async def windows(stream: Any) -> None:
    async for event in stream.events():
        trade = read(event.value)
        cell, price = sums[trade["symbol"]], trade["price"]
        n, total, greatest = cell.value()
        sums[trade["symbol"]] = [n + 1, total + price, max(greatest, price)]
        if meter.tick():
            await end()


async def counts(stream: Any) -> None:
    async for event in stream.events():
        trade = read(event.value)
        symbol = trade["symbol"]
        numbers[symbol] += 1
        now = time.monotonic()
        if now - told.get(symbol, 0.0) >= meter.EVERY:
            told[symbol] = now
            await sink.send(key=symbol.encode(), value=meter.count(trade["ts"], numbers[symbol]))
        if meter.tick():
            await end()


def event_time(event: Any) -> float:
    return float(read(event.value)["ts"]) / 1000


if meter.WINDOWS:
    table = app.Table("sums", default=lambda: [0, 0.0, -1e300], partitions=4, on_window_close=closed)
    sums = table.hopping(60.0, 10.0, expires=5.0).relative_to(event_time)
    app.agent(source, name="windows")(windows)
else:
    numbers = app.Table("numbers", default=int, partitions=4)
    app.agent(source, name="counts")(counts)
sys.argv = [sys.argv[0], "worker", "-l", "error", "--without-web"]
app.main()
