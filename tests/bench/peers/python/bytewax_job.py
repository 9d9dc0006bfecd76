"""The jobs in Bytewax. Its watermark is per key and moves with the clock; at the end of its input all windows close."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import meter
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

ALIGN = datetime(2023, 11, 14, tzinfo=UTC)
BASE = int(ALIGN.timestamp() * 1000)
STEP = 10_000
read = meter.reader()


def decode(messages: list[Any]) -> list[tuple[str, tuple[int, float]]]:
    meter.tick(len(messages))
    trades = (read(message.value) for message in messages)
    return [(trade["symbol"], (trade["ts"], trade["price"])) for trade in trades]


def fold(sums: list[Any], trade: tuple[int, float]) -> list[Any]:
    price = trade[1]
    sums[0] += 1
    sums[1] += price
    if price > sums[2]:
        sums[2] = price
    return sums


def merge(one: list[Any], other: list[Any]) -> list[Any]:
    return [one[0] + other[0], one[1] + other[1], max(one[2], other[2])]


def window(found: tuple[str, tuple[int, list[Any]]]) -> KafkaSinkMessage:
    symbol, (number, (n, total, greatest)) = found
    return KafkaSinkMessage(symbol.encode(), meter.window(BASE + number * STEP, n, total, greatest, total / n))


def count(state: Any, trade: tuple[int, float]) -> tuple[Any, list[tuple[int, int]]]:
    n, last = state or (0, 0.0)
    now = time.monotonic()
    if now - last < meter.EVERY:
        return (n + 1, last), []
    return (n + 1, now), [(trade[0], n + 1)]


flow = Dataflow("trades")
source = KafkaSource([meter.BOOTSTRAP], [meter.SOURCE], tail=False, batch_size=5000)
trades = op.flat_map_batch("decode", op.input("in", flow, source), decode)
if meter.WINDOWS:
    clock = win.EventClock(lambda v: datetime.fromtimestamp(v[0] / 1000, UTC), timedelta(seconds=5))
    windower = win.SlidingWindower(timedelta(seconds=60), timedelta(milliseconds=STEP), ALIGN)
    folded = win.fold_window(
        "windows", trades, clock, windower, lambda: [0, 0.0, float("-inf")], fold, merge, ordered=False
    )
    results = op.map("out", folded.down, window)
else:
    counted = op.stateful_flat_map("count", trades, count)
    results = op.map("out", counted, lambda found: KafkaSinkMessage(found[0].encode(), meter.count(*found[1])))
config = {"linger.ms": "20", "compression.type": "lz4", "queue.buffering.max.messages": "1000000"}
op.output("sink", results, KafkaSink([meter.BOOTSTRAP], meter.SINK, add_config=config))
cli_main(flow, workers_per_process=1)
meter.done()
