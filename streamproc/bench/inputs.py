"""Synthetic inputs: the same events every time, in event time's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamproc.bench.records import Order, Quote, Telemetry, Trade
from streamproc.record import Record

START = 1_700_000_000_000  # ms
EVERY = 10  # ms of event time between two events
HOUR = 3_600_000  # ms
COME_AND_GO = "trades-coming"
_CHUNK = 10_000
_SYMBOLS = 200
_VEHICLES = 500
_LIVE, _COMING = 500, 60_000  # symbols at a time, and in an hour

Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Input:
    """A topic's content.

    Args:
        record: its type.
        key: the field that is the Kafka key.
        rows: gives the first n events as Avro values by field.
        batch: how many records the producer puts into one record batch.
        headers: gives the n-th event's Kafka headers; None for no headers.
    """

    name: str
    record: type[Record]
    key: str
    rows: Callable[[int], Rows]
    batch: int = 2500
    headers: Callable[[int], Mapping[str, bytes]] | None = None


def trades(count: int, keys: int, written: str) -> Rows:
    """Trades of ``keys`` symbols, in no order; ``written`` formats a symbol's number."""
    random = np.random.default_rng(1)
    names = [written.format(n) for n in range(keys)]
    for first in range(0, count, _CHUNK):
        n = min(_CHUNK, count - first)
        columns = zip(
            random.integers(0, keys, n).tolist(),
            (100 + random.random(n)).tolist(),
            (random.random(n) * 10).tolist(),
            strict=True,
        )
        for at, (name, price, size) in enumerate(columns, first):
            yield {"symbol": names[name], "ts": START + at * EVERY, "price": price, "size": size, "venue": "X"}


def distinct(count: int) -> Rows:
    """Trades of as many symbols, one each."""
    random = np.random.default_rng(4)
    for first in range(0, count, _CHUNK):
        prices = 100 + random.random(min(_CHUNK, count - first))
        for at, price in enumerate(prices.tolist(), first):
            yield {"symbol": f"K{at:07d}", "ts": START + at * EVERY, "price": price, "size": 1.0, "venue": "X"}


def coming(count: int) -> Rows:
    """An hour of trades, whose symbols come and go: 500 at a time, each for half a minute."""
    random = np.random.default_rng(5)
    for first in range(0, count, _CHUNK):
        n = min(_CHUNK, count - first)
        live, prices = random.integers(0, _LIVE, n).tolist(), (100 + random.random(n)).tolist()
        for at, (which, price) in enumerate(zip(live, prices, strict=True), first):
            symbol, time = at * _COMING // count + which, START + at * HOUR // count
            yield {"symbol": f"K{symbol:07d}", "ts": time, "price": price, "size": 1.0, "venue": "X"}


def quotes(count: int) -> Rows:
    """What 200 symbols are bid for, in no order; between two trades each."""
    random = np.random.default_rng(6)
    for first in range(0, count, _CHUNK):
        n = min(_CHUNK, count - first)
        columns = zip(random.integers(0, _SYMBOLS, n).tolist(), (100 + random.random(n)).tolist(), strict=True)
        for at, (name, bid) in enumerate(columns, first):
            yield {"symbol": f"S{name:03d}", "ts": START + at * EVERY + EVERY // 2, "bid": bid, "ask": bid + 0.125}


def telemetry(count: int) -> Rows:
    """Readings of 500 vehicles. A seventh of the nullable fields is null."""
    random = np.random.default_rng(2)
    for at in range(count):
        n = int(random.integers(0, 1 << 62))
        x = random.random()
        yield {
            "id": f"{n:016x}",
            "vehicle": f"vehicle-{n % _VEHICLES:03d}",
            "ts": START + at * EVERY,
            "route": f"R{n % 97}",
            "driver": None if n % 7 == 0 else f"driver {n % 1009}",
            "lat": 45 + x,
            "lon": 9 - x,
            "altitude": None if n % 7 == 1 else 300 * x,
            "speed": 130 * x,
            "heading": 360 * x,
            "odometer": n % 1_000_000,
            "trip": n % 10_000,
            "fuel": None if n % 7 == 2 else 60 * x,
            "rpm": 800 + n % 6000,
            "torque": 400 * x,
            "coolant": 70 + 30 * x,
            "oil": 4 * x,
            "battery": 12 + x,
            "load": None if n % 7 == 3 else n % 30_000,
            "doors": n % 5,
            "moving": n % 2 == 0,
            "braking": n % 3 == 0,
            "lights": n % 5 == 0,
            "alarm": n % 1000 == 0,
            "region": f"region {n % 20}",
            "firmware": "2.14.0",
            "note": None if n % 7 else "nothing to report, the weather is fine",
            "signal": -(n % 120),
            "satellites": None if n % 7 == 4 else n % 24,
            "price": 1.5 + x,
        }


def orders(count: int) -> Rows:
    """Orders of one to five lines."""
    random = np.random.default_rng(3)
    for at in range(count):
        n = int(random.integers(0, 1 << 40))
        yield {
            "id": f"order-{at}",
            "ts": START + at * EVERY,
            "customer": f"customer-{n % 5000}",
            "note": None if n % 3 else "leave it at the door",
            "lines": [
                {"article": f"article-{(n >> i) % 900}", "count": 1 + (n >> i) % 9, "price": 0.25 * ((n >> i) % 400)}
                for i in range(1 + n % 5)
            ],
            "labels": {"channel": "web", "country": ("it", "de", "fr")[n % 3]},
        }


def trace(at: int) -> dict[str, bytes]:
    """A header that differs from record to record, as tracing libraries add it."""
    return {"traceparent": f"00-{at:032x}-{at % 997:016x}-01".encode()}


INPUTS = {
    given.name: given
    for given in (
        Input("trades", Trade, "symbol", lambda n: trades(n, _SYMBOLS, "S{:03d}")),
        Input("trades-small", Trade, "symbol", lambda n: trades(n, _SYMBOLS, "S{:03d}"), batch=500),
        Input("trades-million", Trade, "symbol", lambda n: trades(n, 1_000_000, "K{:07d}"), batch=5000),
        Input("trades-distinct", Trade, "symbol", distinct, batch=5000),
        Input(COME_AND_GO, Trade, "symbol", coming),
        Input("quotes", Quote, "symbol", quotes),
        Input("telemetry", Telemetry, "vehicle", telemetry),
        Input("orders", Order, "customer", orders, headers=trace),
    )
}
