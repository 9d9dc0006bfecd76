"""Predictive maintenance on real sensor readings: windows, and an incremental model per unit.

The readings are those of River's bundled Shuttle data set. ``make demo`` runs this on all 49,097 of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from river import anomaly, compose, preprocessing

from streamproc import App, Batch, Record, Stream, count, hopping, maximum, mean

FEATURES = tuple(f"s{i}" for i in range(1, 10))


class Reading(Record):
    """One reading of a unit's nine sensors."""

    id: str
    unit: str
    ts: int
    s1: float
    s2: float
    s3: float
    s4: float
    s5: float
    s6: float
    s7: float
    s8: float
    s9: float


class Bar(Record):
    """What a unit's sensors did in one window."""

    unit: str
    start: int
    end: int
    n: int
    mean: float
    peak: float


class Score(Record):
    """How unusual one reading is for its unit."""

    event: str
    unit: str
    ts: int
    score: float


def model() -> compose.Pipeline:
    """Half-space trees want features between 0 and 1. Seeded, so that a replay gives the same scores."""
    return preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=7)


app = App("shuttle")
events = app.topic("readings", Reading, key="unit", time="ts", id="id")
bars = events.window(hopping("5s", "1s"), grace="1s", idle="1s").agg(
    "bars", Bar, n=count(), mean=mean("s1"), peak=maximum("s4")
)
scores = app.channel("scores", Score, key="unit", time="ts", cause="event")
spikes = app.channel("spikes", Reading, key="unit", time="ts", cause="id")
models = app.table("hst", default=model, volatile=True)


@app.agent(events, sink=scores)
async def score(stream: Stream[Reading]) -> AsyncIterator[Score]:
    """Scores each reading by what its unit has shown before, then learns from it."""
    async for event in stream:
        features = {name: getattr(event, name) for name in FEATURES}
        unit = models[event.unit]
        yield Score(event.id, event.unit, event.ts, unit.score_one(features))
        unit.learn_one(features)


@app.agent(events, sink=spikes)
async def spike(stream: Stream[Reading]) -> AsyncIterator[Batch]:
    """Passes on readings whose first sensor is far up; by columns, whatever the rate."""
    async for batch in stream.batches():
        yield batch.where(batch["s1"] > 100)
