"""Tables of all kinds of types, and windows, for tests of what reads them from outside. ``$STREAMPROC_TEST_NAME`` is
its name; with ``$STREAMPROC_TEST_CHANGES`` one has a change stream.
"""

from __future__ import annotations

import os

import msgspec

from streamproc import App, Record, Stream, count, total, tumbling

NAME, CHANGES = "STREAMPROC_TEST_NAME", "STREAMPROC_TEST_CHANGES"
PARTITIONS = 3


class Tick(Record):
    """What is published."""

    unit: str
    ts: int
    x: float


class Ticks(Record):
    """A unit's ticks of one window."""

    unit: str
    start: int
    end: int
    n: int
    sum: float


class CountChange(Record):
    """A change of a count."""

    key: str
    value: int | None
    written: int
    stage: str
    partition: int


class Last(msgspec.Struct, frozen=True):
    """Of a unit."""

    ts: int
    x: float


def build(name: str, *, changes: bool = False) -> App:
    """The topology, under a name."""
    app = App(name, partitions=PARTITIONS, flush="50ms")
    ticks = app.topic(f"{name}-ticks", Tick, key="unit", time="ts")
    counts = app.table("counts", default=int)
    last = app.table("last", value=Last, ttl="1h")
    pairs = app.table("pairs", key=tuple[str, int], default=list)
    app.table("unused", key=int, default=float)
    app.table("models", default=dict, volatile=True)

    if changes:
        counts.changes(f"{name}-changes", CountChange)

    ticks.window(tumbling("10s"), idle=None).agg(f"{name}-windows", Ticks, n=count(), sum=total("x"))

    @app.agent(ticks)
    async def counting(stream: Stream[Tick]) -> None:
        async for tick in stream:
            counts[tick.unit] += 1
            last[tick.unit] = Last(tick.ts, tick.x)
            if tick.x < 0:
                raise ValueError("negative")

    @app.agent(ticks)
    async def pairing(stream: Stream[Tick]) -> None:
        async for tick in stream:
            counts[tick.unit.upper()] += 2
            pairs[tick.unit, tick.ts // 1000 % 2].append(tick.x)
            if len(pairs[tick.unit, 0]) > 5:
                del pairs[tick.unit, 0]

    return app


app = build(os.environ.get(NAME, "test"), changes=CHANGES in os.environ)
