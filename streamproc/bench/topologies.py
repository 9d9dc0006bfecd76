"""The jobs as topologies, written as users would write them. Each round has names of its own. State is in memory, as
that of the other engines is, unless a job is about state.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import polars as pl

from streamproc.bench.records import (
    LargeOrder,
    Order,
    Ping,
    Telemetry,
    TelemetryWindow,
    Trade,
    TradeCount,
    TradeWindow,
)
from streamproc.define.aggregates import count, maximum, mean, minimum, total
from streamproc.define.app import App
from streamproc.define.windows import hopping
from streamproc.stream import Stream

LARGE = 1500.0  # orders that come to more are reported: about one in ten
EVERY = 0.1  # seconds between two counts of a symbol


def windows(source: str, name: str) -> App:
    """Hopping windows of 60 s every 10 s per symbol: count, sum, greatest, mean. Only event time closes them."""
    return _windows(App(name, flush=None), source)


def exact_windows(source: str, name: str) -> App:
    """The same, with state and results kept in one transaction."""
    return _windows(App(name, guarantee="exactly_once"), source)


def _windows(app: App, source: str) -> App:
    name = app.name
    trades = app.topic(source, Trade, key="symbol", time="ts")
    trades.window(hopping("60s", "10s"), grace="5s", idle=None).agg(
        f"{name}-out", TradeWindow, n=count(), sum=total("price"), max=maximum("price"), mean=mean("price")
    )
    return app


def counts(source: str, name: str) -> App:
    """The running count of each symbol, told at most ten times a second."""
    app = App(name, flush=None)
    trades = app.topic(source, Trade, key="symbol", time="ts")
    told = app.channel(f"{name}-out", TradeCount, key="symbol", time="at")
    numbers = app.table("numbers", default=int)
    last = app.table("last", default=float)

    @app.agent(trades, sink=told)
    async def tell(stream: Stream[Trade]) -> AsyncIterator[TradeCount]:
        async for batch in stream.batches():
            symbols = pl.DataFrame([batch["symbol"], batch["ts"]]).group_by("symbol").agg(pl.len(), pl.last("ts"))
            now = time.monotonic()
            for symbol, n, at in symbols.iter_rows():
                numbers[symbol] += n
                if now - last[symbol] >= EVERY:
                    last[symbol] = now
                    yield TradeCount(symbol, at, numbers[symbol])

    return app


def wide(source: str, name: str) -> App:
    """Hopping windows over five of thirty fields, one of them nullable."""
    app = App(name, flush=None)
    readings = app.topic(source, Telemetry, key="vehicle", time="ts")
    readings.window(hopping("60s", "10s"), grace="5s", idle=None).agg(
        f"{name}-out", TelemetryWindow, n=count(), speed=mean("speed"), rpm=maximum("rpm"), fuel=minimum("fuel")
    )
    return app


def rows(source: str, name: str) -> App:
    """Every order is looked at as an object; one in ten is passed on."""
    app = App(name, flush=None)
    orders = app.topic(source, Order, key="customer", time="ts")
    large = app.channel(f"{name}-out", LargeOrder, key="id", time="ts", cause="id")

    @app.agent(orders, sink=large)
    async def pick(stream: Stream[Order]) -> AsyncIterator[LargeOrder]:
        async for order in stream:
            comes_to = 0.0
            for line in order.lines:
                comes_to += line.count * line.price
            if comes_to > LARGE:
                yield LargeOrder(order.id, order.ts, comes_to)

    return app


def one(source: str, name: str) -> App:
    """Every event has a result."""
    app = App(name, flush=None)
    pings = app.topic(source, Ping, key="id", time="ts")
    pongs = app.channel(f"{name}-out", Ping, key="id", time="ts", cause="id")

    @app.agent(pings, sink=pongs)
    async def answer(stream: Stream[Ping]) -> AsyncIterator[Ping]:
        async for ping in stream:
            yield Ping(ping.id, ping.ts, ping.value * 2)

    return app


TOPOLOGIES: dict[str, Callable[[str, str], App]] = {
    "windows": windows,
    "exact-windows": exact_windows,
    "counts": counts,
    "wide": wide,
    "rows": rows,
    "one": one,
}


def build(topology: str, source: str, name: str) -> App:
    """A topology that reads topic ``source``. Its group is ``name``, and its other topics' names begin with that."""
    return TOPOLOGIES[topology](source, name)
