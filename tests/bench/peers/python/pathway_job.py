"""The jobs in Pathway. It has one watermark for all partitions, and gives JSON; of counts it gives every change."""

from __future__ import annotations

import os
import threading
from typing import Any

import meter
import pathway as pw

TAIL = 3.0  # seconds for the last results: it does not say when they are out
read = meter.reader()


@pw.udf(deterministic=True)
def decode(value: bytes) -> tuple[str, int, float]:
    meter.begin()
    trade = read(value)
    return trade["symbol"], trade["ts"], trade["price"]


def end() -> None:
    meter.done()
    os._exit(0)


def seen(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
    if is_addition and row["n"] > meter.seen() and meter.tick(row["n"] - meter.seen()):
        threading.Timer(TAIL, end).start()


settings = {"bootstrap.servers": meter.BOOTSTRAP, "group.id": meter.SINK, "auto.offset.reset": "earliest"}
raw = pw.io.kafka.read(settings, topic=meter.SOURCE, format="raw", autocommit_duration_ms=100)
decoded = raw.select(trade=decode(pw.this.data))
trades = decoded.select(symbol=pw.this.trade[0], ts=pw.this.trade[1], price=pw.this.trade[2])
if meter.WINDOWS:
    windows = trades.windowby(
        trades.ts,
        window=pw.temporal.sliding(hop=10_000, duration=60_000),
        instance=trades.symbol,
        behavior=pw.temporal.exactly_once_behavior(shift=5000),
    )
    results = windows.reduce(
        symbol=pw.this._pw_instance,
        start=pw.this._pw_window_start,
        n=pw.reducers.count(),
        sum=pw.reducers.sum(pw.this.price),
        max=pw.reducers.max(pw.this.price),
        mean=pw.reducers.avg(pw.this.price),
    )
else:
    grouped = trades.groupby(trades.symbol)
    results = grouped.reduce(symbol=pw.this.symbol, at=pw.reducers.max(pw.this.ts), n=pw.reducers.count())
sink = {"bootstrap.servers": meter.BOOTSTRAP, "linger.ms": "20", "compression.type": "lz4"}
pw.io.kafka.write(results, sink, topic_name=meter.SINK, format="json")
pw.io.subscribe(trades.reduce(n=pw.reducers.count()), seen)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
