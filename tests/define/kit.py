"""Record types to define topologies with."""

from __future__ import annotations

from streamproc import App, Record, Topic


class Thing(Record):
    id: str
    unit: str
    ts: int
    n: int
    x: float
    maybe: float | None
    on: bool


class ThingSum(Record):
    unit: str
    start: int
    end: int
    n: int
    x: float


def things(app: App, name: str = "things") -> Topic:
    return app.topic(name, Thing, key="unit", time="ts", id="id")
