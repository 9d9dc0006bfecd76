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
    Quote,
    Quoted,
    Telemetry,
    TelemetryWindow,
    Trade,
    TradeCount,
    TradeWindow,
)
from streamproc.define.aggregates import count, maximum, mean, minimum, total
from streamproc.define.app import App
from streamproc.define.flow import Flow
from streamproc.define.windows import hopping, session, tumbling
from streamproc.stream import Stream

LARGE = 1500.0  # orders that come to more are reported: about one in ten
NEAR, GRACE = "1s", "1s"  # of joins
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


def sessions(source: str, name: str) -> App:
    """A symbol's trades until none comes for five seconds."""
    return _sessions(App(name, flush=None), source)


def _sessions(app: App, source: str) -> App:
    trades = app.topic(source, Trade, key="symbol", time="ts")
    trades.window(session("5s"), grace="5s", idle=None).agg(
        f"{app.name}-out", TradeWindow, n=count(), sum=total("price"), max=maximum("price"), mean=mean("price")
    )
    return app


def near(source: str, name: str) -> App:
    """Each trade with all quotes of its symbol that are at most a second away. ``source`` is both topics."""
    app, trades, quotes = _joined(source, name)
    trades.join(quotes, within=NEAR, grace=GRACE, idle=None).to(f"{name}-out", Quoted)
    return app


def latest(source: str, name: str) -> App:
    """Each trade with its symbol's last quote before it."""
    app, trades, quotes = _joined(source, name)
    trades.as_of(quotes, grace=GRACE, idle=None).to(f"{name}-out", Quoted)
    return app


def _joined(source: str, name: str) -> tuple[App, Flow, Flow]:
    app = App(name, flush=None)
    left, right = source.split(",")
    trades = app.topic(left, Trade, key="symbol", time="ts").select("symbol", "ts", "price")
    return app, trades, app.topic(right, Quote, key="symbol", time="ts").select("symbol", "ts", "bid")


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


def kept_windows(source: str, name: str) -> App:
    """One window of thirty days: a row of state for each symbol."""
    app = App(name)
    trades = app.topic(source, Trade, key="symbol", time="ts")
    trades.window(tumbling("30d"), idle=None).agg(
        f"{name}-out", TradeWindow, n=count(), sum=total("price"), max=maximum("price"), mean=mean("price")
    )
    return app


def kept_table(source: str, name: str) -> App:
    """How many trades each symbol had, in a table; told from its second on."""
    app = App(name)
    trades = app.topic(source, Trade, key="symbol", time="ts")
    told = app.channel(f"{name}-out", TradeCount, key="symbol", time="at")
    numbers = app.table("numbers", default=int)

    @app.agent(trades, sink=told)
    async def number(stream: Stream[Trade]) -> AsyncIterator[TradeCount]:
        async for batch in stream.batches():
            for symbol, at in zip(batch["symbol"].to_list(), batch["ts"].to_list(), strict=True):
                nth = numbers[symbol] = numbers[symbol] + 1
                if nth > 1:
                    yield TradeCount(symbol, at, nth)

    return app


def coming_windows(source: str, name: str) -> App:
    """Hopping windows, kept; of symbols that come and go."""
    return _windows(App(name), source)


def coming_sessions(source: str, name: str) -> App:
    """Sessions, kept; of the same."""
    return _sessions(App(name), source)


def coming_table(source: str, name: str) -> App:
    """Each symbol's last price, for a minute; told when it has risen by half a point."""
    app = App(name)
    trades = app.topic(source, Trade, key="symbol", time="ts")
    told = app.channel(f"{name}-out", TradeCount, key="symbol", time="at")
    prices = app.table("prices", default=float, ttl="60s")

    @app.agent(trades, sink=told)
    async def price(stream: Stream[Trade]) -> AsyncIterator[TradeCount]:
        async for batch in stream.batches():
            rows = zip(batch["symbol"].to_list(), batch["ts"].to_list(), batch["price"].to_list(), strict=True)
            for symbol, at, now in rows:
                if now - prices[symbol] > 100.5:
                    yield TradeCount(symbol, at, 1)
                prices[symbol] = now

    return app


TOPOLOGIES: dict[str, Callable[[str, str], App]] = {
    "windows": windows,
    "exact-windows": exact_windows,
    "sessions": sessions,
    "near": near,
    "latest": latest,
    "counts": counts,
    "kept-windows": kept_windows,
    "kept-table": kept_table,
    "coming-windows": coming_windows,
    "coming-sessions": coming_sessions,
    "coming-table": coming_table,
    "wide": wide,
    "rows": rows,
    "one": one,
}


def build(topology: str, source: str, name: str) -> App:
    """A topology that reads topic ``source``, or two with a comma between them. Its group is ``name``, and its other
    topics' names begin with that.
    """
    return TOPOLOGIES[topology](source, name)
