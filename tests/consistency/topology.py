"""A topology whose results can all be computed by hand, for workers to which everything happens: windows of several
kinds, tables of agents by row and by batch, and flows. ``$STREAMPROC_TEST_NAME`` is its name,
``$STREAMPROC_TEST_GUARANTEE`` what it guarantees.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from streamproc import App, Batch, Record, Stream, count, hopping, maximum, session, total, tumbling
from tests.consistency import flows

NAME, GUARANTEE = "STREAMPROC_TEST_NAME", "STREAMPROC_TEST_GUARANTEE"
PARTITIONS = 6
SIZE_MS, STEP_MS, GRACE_MS = 1000, 500, 200
GAP_MS = 200
IDLE_MS = 1000


class Event(Record):
    """What is published. Values are multiples of 1/8, so that sums of them do not depend on their order."""

    id: str
    unit: str
    ts: int
    x: float


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
    greatest: float


class Quick(Record):
    """A unit's events of a window that the clock may close."""

    unit: str
    start: int
    end: int
    n: int


def build(name: str, guarantee: Any) -> App:
    """The topology, under a name."""
    app = App(name, partitions=PARTITIONS, guarantee=guarantee)
    events = app.topic(f"{name}-events", Event, key="unit", time="ts", id="id")
    counted = app.channel(f"{name}-counted", Counted, key="unit", cause="event")
    rising = app.channel(f"{name}-rising", Event, key="unit", time="ts", cause="id")
    counts = app.table("counts", default=int)
    highest = app.table("highest", default=float)

    sums: dict[str, Any] = {"n": count(), "sum": total("x"), "greatest": maximum("x")}
    grace = f"{GRACE_MS}ms"
    events.window(hopping(f"{SIZE_MS}ms", f"{STEP_MS}ms"), grace=grace, idle=None).agg(
        f"{name}-windows", Window, **sums
    )
    events.window(session(f"{GAP_MS}ms"), grace=grace, idle=None).agg(f"{name}-sessions", Window, **sums)
    events.window(tumbling(f"{STEP_MS}ms"), idle=f"{IDLE_MS}ms").agg(f"{name}-quick", Quick, n=count())

    @app.agent(events, sink=counted)
    async def rows(stream: Stream[Event]) -> AsyncIterator[Counted]:
        async for event in stream:
            counts[event.unit] += 1
            yield Counted(event.id, event.unit, counts[event.unit], event.x)

    @app.agent(events, sink=rising)
    async def batches(stream: Stream[Event]) -> AsyncIterator[Batch]:
        """Events that are higher than all of their unit's last hundred or so."""
        async for batch in stream.batches():
            higher = []
            for unit, x in zip(batch["unit"], batch["x"], strict=True):
                higher.append(x > highest[unit])
                highest[unit] = max(highest[unit] - 1, x)
            yield batch.where(higher)  # type: ignore[arg-type]  # a list will do

    flows.add(app, name)
    return app


app = build(os.environ.get(NAME, "test"), os.environ.get(GUARANTEE, "at_least_once"))
