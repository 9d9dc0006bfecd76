"""A small topology of everything, for systems that tests start: a window, agents by row, by batch and of plain Faust,
and one that raises. All its names begin with ``$STREAMPROC_TEST_NAME``, so that tests on one broker do not meet.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from streamproc import App, Batch, Record, Stream, count, hopping, maximum, mean, minimum, total

NAME = "STREAMPROC_TEST_NAME"
SIZE_MS, STEP_MS = 400, 100
BIG = 0.5


class Event(Record):
    """What clients publish."""

    id: str
    unit: str
    ts: int
    x: float
    text: str


class Counted(Record):
    """An event, and which of its unit it was."""

    event: str
    unit: str
    nth: int
    x: float


class Window(Record):
    """A unit's events of one window."""

    unit: str
    start: int
    end: int
    n: int
    sum: float
    least: float
    greatest: float
    mean: float


def build(name: str) -> App:
    """The topology, under a name."""
    app = App(name, partitions=3)
    events = app.topic(f"{name}-events", Event, key="unit", time="ts", id="id")
    counted = app.channel(f"{name}-counted", Counted, key="unit", cause="event")
    big = app.channel(f"{name}-big", Event, key="unit", time="ts", cause="id")
    survivors = app.channel(f"{name}-survivors", Event, key="unit", time="ts", cause="id")
    plain = app.channel(f"{name}-plain", Event, key="unit", time="ts", cause="id")
    counts = app.table("counts", default=int)

    events.window(hopping(f"{SIZE_MS}ms", f"{STEP_MS}ms"), grace="100ms", idle="5s").agg(
        f"{name}-windows",
        Window,
        n=count(),
        sum=total("x"),
        least=minimum("x"),
        greatest=maximum("x"),
        mean=mean("x"),
    )

    @app.agent(events, sink=counted)
    async def rows(stream: Stream[Event]) -> AsyncIterator[Counted]:
        async for event in stream:
            counts[event.unit] += 1
            yield Counted(event.id, event.unit, counts[event.unit], event.x)

    @app.agent(events, sink=big)
    async def batches(stream: Stream[Event]) -> AsyncIterator[Batch]:
        async for batch in stream.batches():
            yield batch.where(batch["x"] > BIG)

    @app.agent(events, sink=survivors)
    async def shaky(stream: Stream[Event]) -> AsyncIterator[Event]:
        async for event in stream:
            if event.text == "boom":
                raise ValueError(f"cannot bear {event.id}")
            yield event

    @app.faust
    def plainly(faust: Any) -> None:
        source = faust.topic(events.name, key_type=bytes, value_type=bytes, value_serializer="raw")
        target = faust.topic(plain.name, key_type=bytes, value_type=bytes, value_serializer="raw")

        @faust.agent(source, name=f"{name}-plainly")
        async def pass_on(stream: Any) -> None:
            async for key, value in stream.items():
                await target.send(key=key, value=value)

    return app


app = build(os.environ.get(NAME, "test"))
