"""Aggregates in windows of every kind: definitions and rows."""

from __future__ import annotations

from typing import Any

import msgspec

from streamproc import App, counting, everything, hopping, session, sliding, tumbling, updates
from streamproc import compiled as kernels
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation, result_field
from tests.process.aggregates_kit import Row, Written

WAYS = [False, True] if kernels.available() else [False]
WINDOWS = [
    tumbling("40ms"),
    hopping("40ms", "15ms"),
    session("20ms"),
    sliding("25ms"),
    counting(5),
    counting(6, 4),
    everything(each=4),
    everything(every="30ms"),
    counting(2, 1, ttl="16ms"),
    everything(each=2, ttl="16ms"),
    everything(every="10ms", ttl="16ms"),
]


def sink_of(aggregates: dict[str, Aggregate], window: Any) -> type[Written]:
    types: list[tuple[str, Any]] = [("unit", str), ("start", int), ("end", int)]
    for name, aggregate in aggregates.items():
        field = result_field("", name, aggregate, Row, window)
        types.append((name, field.type | None if field.nullable else field.type))
    return msgspec.defstruct("Out", types, bases=(Written,), kw_only=False)


def aggregation_of(
    record: Any,
    aggregates: dict[str, Aggregate],
    window: Any,
    *,
    grace: int = 0,
    every: int | None = None,
    idle: float | None = None,
) -> Aggregation:
    app = App("everywhere")
    source = app.topic("rows", Row, key="unit", time="ts", partitions=1)
    emit = None if every is None else updates(every / 1000)
    source.window(window, grace=grace / 1000, emit=emit, idle=idle).agg("out", record, **aggregates)
    found = app.agents["out"]
    assert isinstance(found, Aggregation)
    return found


def some_rows(n: int = 60) -> list[Row]:
    """Out of order, of three keys; time goes on at the end."""
    return [*(Row.of(i, ts=4 * i - i * 7 % 15) for i in range(n)), Row.of(7, unit="u0", ts=4 * n + 500)]
