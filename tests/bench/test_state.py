"""Recovery, memory and flushes: what is reckoned of a run, without a run."""

from __future__ import annotations

import polars as pl
import pytest

from streamproc.bench.inputs import COME_AND_GO, HOUR, INPUTS, START
from streamproc.bench.latency import Latencies
from streamproc.bench.loop import Flushes
from streamproc.bench.memory import closers
from streamproc.bench.recovery import PROBES, WAYS, Recovery, counted, probes
from streamproc.bench.report import latency_table
from streamproc.bench.restart import Restarted
from streamproc.bench.topologies import TOPOLOGIES


def test_flushes_of_a_span_and_their_quantiles() -> None:
    before = Flushes((0.01, 0.02, float("inf")), (5, 5, 5))
    after = Flushes((0.01, 0.02, float("inf")), (5, 105, 105))
    assert after.since(before) == Flushes((0.01, 0.02, float("inf")), (0, 100, 100))
    assert after.since(before).quantile(0.5) == pytest.approx(0.015)
    assert after.since(before).quantile(0.99) == pytest.approx(0.0199)
    assert Flushes((0.01, float("inf")), (0, 10)).quantile(0.5) == 0.01  # of what is beyond, nothing is known
    assert after.since(after).total == 0


def test_flushes_are_a_line_of_the_table() -> None:
    found = Latencies("loop", flushes=[(1.0, 9.0), (3.0, 5.0), (2.0, 7.0)])
    for way in ("bare", "streamproc"):
        found.add(way, [0.001, 0.002])
    assert latency_table(found).splitlines()[-1] == "| flush | 2.00 | 7.00 |"
    assert "flush p50 2.00 ms, p99 7.00 ms" in found.told()


def test_probes_are_second_trades_of_symbols_that_are_there() -> None:
    rows = 1000
    symbols = {row["symbol"] for row in INPUTS["trades-distinct"].rows(rows)}
    assert len(symbols) == rows
    first, later = list(probes(rows)), list(probes(rows, 1000))
    assert {row["symbol"] for row in first} <= symbols
    assert len({row["symbol"] for row in first}) == PROBES
    events = pl.DataFrame([*INPUTS["trades-distinct"].rows(rows), *first, *later])
    assert events["ts"].is_sorted()
    assert counted(events)["n"].to_list() == [2] * PROBES + [3] * PROBES


def test_recovery_figures_are_medians() -> None:
    found = Recovery("windows, changelog", 10)
    found.found = [Restarted(first=0.1, processing=p, cpu=0.2) for p in (3.0, 1.0, 2.0)]
    assert found.median("processing") == 2.0
    assert {topology for topology, _ in WAYS.values()} <= TOPOLOGIES.keys()


def test_keys_come_and_go_within_the_hour() -> None:
    rows = pl.DataFrame([*INPUTS[COME_AND_GO].rows(120_000)])
    assert rows["ts"].is_sorted()
    assert rows["ts"].max() - START < HOUR  # type: ignore[operator]
    spans = rows.group_by("symbol").agg(span=pl.max("ts") - pl.min("ts"))
    assert len(spans) > 40_000
    assert spans["span"].max() <= 30_000  # type: ignore[operator]
    assert min(row["ts"] for row in closers()) > START + HOUR
