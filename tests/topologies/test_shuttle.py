"""The demonstration's topology, on the first 1,000 rows of the real data, against each library by itself."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import polars as pl
import pytest
from river import datasets

from streamproc.testing import TestDriver, split_invariant
from topologies import shuttle
from topologies.shuttle import FEATURES, Bar, Reading, Score, app, bars, events, scores, spikes

_ROWS = 1000


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    """Of three units, a tenth of a second apart, now and then out of order by up to 0.9 s: grace covers that."""
    jitter = np.random.default_rng(7).choice([0, 0, 0, 0, 400, 900], _ROWS)
    return [
        Reading(f"e{i}", f"unit-{i % 3}", i * 100 - int(jitter[i]), *(float(x[name]) for name in FEATURES))
        for i, (x, _) in enumerate(
            ({f"s{n}": value for n, value in enumerate(x.values(), 1)}, y) for x, y in islice(datasets.Shuttle(), _ROWS)
        )
    ]


@pytest.fixture(scope="module")
def driven(readings: list[Reading]) -> TestDriver:
    """After all readings, and so long a silence that every window is closed. Kept for its log."""
    with TestDriver(app) as driver:
        driver.publish(events, *readings)
        driver.advance("1m")
    return driver


def test_results_do_not_depend_on_cuts(readings: list[Reading]):
    split_invariant(app, {events: readings}, tries=3)


def test_every_reading_is_scored_as_by_river_alone(readings: list[Reading], driven: TestDriver):
    models = {f"unit-{i}": shuttle.model() for i in range(3)}
    want = {}
    for reading in readings:
        features = {name: getattr(reading, name) for name in FEATURES}
        model = models[reading.unit]
        want[reading.id] = Score(reading.id, reading.unit, reading.ts, model.score_one(features))
        model.learn_one(features)
    got = {score.event: score for score in driven.results(scores)}
    assert len(driven.results(scores)) == _ROWS
    assert got == want  # to the bit
    assert len({score.score for score in got.values()}) > 100  # it does tell them apart


def test_bars_are_those_of_polars(readings: list[Reading], driven: TestDriver):
    frame = pl.DataFrame([{"unit": r.unit, "ts": r.ts, "s1": r.s1, "s4": r.s4} for r in readings])
    windows = (
        frame.sort("ts", maintain_order=True)
        .with_columns(at=pl.from_epoch("ts", time_unit="ms"))
        .group_by_dynamic("at", every="1s", period="5s", offset="-4s", group_by="unit", closed="left")
        .agg(n=pl.len(), mean=pl.col("s1").mean(), peak=pl.col("s4").max())
        .with_columns(start=pl.col("at").dt.timestamp("ms"))
    )
    want = {(row["unit"], row["start"]): row for row in windows.iter_rows(named=True)}
    got = {(bar.unit, bar.start): bar for bar in driven.results(bars)}
    assert len(got) == len(driven.results(bars))
    assert got.keys() == want.keys()
    for key, bar in got.items():
        row = want[key]
        assert isinstance(bar, Bar)
        assert (bar.end, bar.n, bar.peak) == (bar.start + 5_000, row["n"], row["peak"])
        assert math.isclose(bar.mean, row["mean"], rel_tol=1e-12)  # polars adds in another order


def test_nothing_was_late_and_nothing_put_aside(driven: TestDriver):
    assert driven.results(app.topics["bars-late"]) == []
    assert driven.dead_letters == []


def test_spikes_are_the_readings_far_up(readings: list[Reading], driven: TestDriver):
    want = [r for r in readings if r.s1 > 100]
    assert sorted(driven.results(spikes), key=lambda r: int(r.id[1:])) == want
    assert want
