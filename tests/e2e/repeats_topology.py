"""Two stages, the second over the results of the first, for workers that are killed between results and their state:
counts per second, and an agent that adds these up. ``$STREAMPROC_TEST_NAME`` is its name.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from streamproc import App, Record, Stream, count, tumbling

NAME = "STREAMPROC_TEST_NAME"


class Event(Record):
    """What is published."""

    id: str
    unit: str
    ts: int
    x: float
    text: str


class Second(Record):
    """How many events a unit had in a second."""

    unit: str
    start: int
    end: int
    n: int


class Sum(Record):
    """How many it had up to the end of a second."""

    unit: str
    end: int
    sum: int


def build(name: str) -> App:
    """The topology, under a name. State is kept so seldom that many results go ahead of it."""
    app = App(name, partitions=2, flush="2s")
    events = app.topic(f"{name}-events", Event, key="unit", time="ts", id="id")
    seconds = events.window(tumbling("1s"), idle=None).agg(f"{name}-seconds", Second, n=count())
    sums = app.channel(f"{name}-sums", Sum, key="unit")
    counted = app.table("counted", default=int)

    @app.agent(seconds, sink=sums)
    async def add(stream: Stream[Second]) -> AsyncIterator[Sum]:
        async for second in stream:
            counted[second.unit] += second.n
            yield Sum(second.unit, second.end, counted[second.unit])

    return app


app = build(os.environ.get(NAME, "test"))
