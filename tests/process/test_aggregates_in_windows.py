"""Aggregates beside the five simple ones, in aligned windows: right, and the same to the bit in every engine, however
the rows were cut.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from statistics import pvariance
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc import hopping
from streamproc.batch import Batch
from streamproc.define import aggregates as a
from streamproc.define.aggregation import Aggregation
from streamproc.process import engine as engines
from streamproc.process.aligned import AlignedEngine
from tests.process.aggregates_kit import Row, Spread, aggregation, bits

WAYS = [False, *([True] if kernels.available() else [])]
SIZE, STEP = 40, 15  # in panes of 5

ALL: dict[str, a.Aggregate] = {
    "n": a.count(),
    "mean": a.mean("f"),
    "spread": a.value_range("ni"),
    "rate": a.rate(),
    "variance": a.variance("f", ddof=0),
    "ewma": a.ewma("f", "20ms"),
    "first": a.first("s"),
    "last": a.last("ni"),
    "histogram": a.histogram("f", [0, 1]),
    "distinct": a.distinct("s"),
    "median": a.quantile("f", 0.5, k=8),
    "top": a.top_k("s", 2, size=8),
    "own": a.own(Spread, "f", "ns", type=float | None),
}


@cache
def definition(grace: int = 10) -> Aggregation:
    found = aggregation(Row, ALL, hopping(f"{SIZE}ms", f"{STEP}ms"))
    return replace(found, grace=grace, idle=None)


rows = st.lists(
    st.builds(
        Row.of,
        st.integers(0, 30),
        unit=st.sampled_from("abc"),
        ts=st.integers(0, 150),
        f=st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0])),
        ns=st.just("x"),
    ),
    max_size=40,
)


def run(found: Sequence[Row], cuts: Sequence[int], compiled: bool) -> tuple[list[Any], list[Any]]:
    """Results and failures."""
    task = AlignedEngine(definition(), compiled)
    out, refused = [], []
    for start, stop in zip([0, *cuts], [*cuts, len(found)], strict=True):
        if start == stop:
            continue
        at = np.arange(start, stop, dtype=np.int64)
        closed = task.add(Batch("rows", 0, Row, at, at, records=found[start:stop]), 0)
        names = list(closed.results)
        columns = [closed.results.values(name) for name in names]
        out += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        refused += [(failure.row + start, str(failure.error)) for failure in closed.refused]
        assert not closed.broken
    return out, refused


def windows(found: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """What each window that closes has, row by row."""
    held: dict[tuple[str, int], list[Row]] = defaultdict(list)
    now = -(1 << 60)
    for row in found:
        now = max(now, row.ts)
        for start in range((row.ts - SIZE) // STEP * STEP, row.ts + 1, STEP):
            if start <= row.ts < start + SIZE and now < start + SIZE + 10:
                held[row.unit, start].append(row)
    return {key: held for key, held in held.items() if now >= key[1] + SIZE + 10}


@given(rows, st.sets(st.integers(0, 40), max_size=5))
@settings(max_examples=20, deadline=None)
def test_right_and_the_same(found: list[Row], at: set[int]) -> None:
    found = [*found, Row.of(7, ts=230, unit="a")]
    cuts = sorted(cut for cut in at if cut < len(found))
    want, _ = run(found, [], False)
    for compiled in WAYS:
        for cut in (cuts, list(range(1, len(found))), []):
            got, refused = run(found, cut, compiled)
            assert bits(got) == bits(want)
            assert refused == []
    held = windows(found)
    assert {(row["unit"], row["start"]) for row in want} == set(held)
    assert len(want) == len(held)
    for row in want:
        check(row, held[row["unit"], row["start"]])


def check(got: dict[str, Any], held: list[Row]) -> None:
    f = [row.f for row in held]
    ints = [row.ni for row in held if row.ni is not None]
    assert got["n"] == len(held)
    assert got["rate"] == len(held) / (SIZE / 1000)
    assert got["spread"] == (float(max(ints) - min(ints)) if ints else None)
    assert got["variance"] == pytest.approx(pvariance(f), rel=1e-9, abs=1e-9)
    latest = max(row.ts for row in held)
    weights = [0.5 ** ((latest - row.ts) / 20) for row in held]
    want = math.fsum(w * x for w, x in zip(weights, f, strict=True)) / math.fsum(weights)
    assert got["ewma"] == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert got["first"] == min(held, key=lambda row: row.ts).s
    assert got["last"] == min(reversed(held), key=lambda row: -row.ts).ni
    assert got["histogram"] == [sum(x < 0 for x in f), sum(0 <= x < 1 for x in f), sum(x >= 1 for x in f)]
    words = Counter(row.s for row in held)
    assert abs(got["distinct"] - len(words)) <= 1  # two values may share a register
    if len(words) <= 8:
        assert got["top"] == dict(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:2])
    if len(f) < 8:
        assert got["median"] == sorted(f)[math.ceil(len(f) / 2) - 1]
    assert got["own"] == max(f) - min(f)


@pytest.mark.parametrize("compiled", WAYS)
def test_keys_that_come_and_go(compiled: bool) -> None:
    """Cells and codes are used again and move together: results stay those of each key alone, and memory ends."""
    found = [Row.of(n, unit=f"u{n // 3 % 40 + n // 600 * 40}", ts=n // 4, s=f"s{n}") for n in range(6000)]
    with patch.object(engines, "_MANY_KEYS", 16):
        task = AlignedEngine(definition(), compiled)
        out: dict[tuple[str, int], Any] = {}
        sizes = []
        for start in range(0, 6000, 50):
            at = np.arange(start, start + 50, dtype=np.int64)
            closed = task.add(Batch("rows", 0, Row, at, at, records=found[start : start + 50]), 0)
            for row in zip(*(closed.results.values(name) for name in closed.results), strict=True):
                out[row[0], row[1]] = dict(zip(closed.results, row, strict=True))
            sizes.append(task._panes.nbytes)
        assert task.keys < 200
    held = windows(found)
    assert set(out) == set(held)
    for key, got in out.items():
        check(got, held[key])
    assert max(sizes[60:]) <= 1.5 * max(sizes[20:60])


class Refuses(Spread):
    def add(self, value: float, note: str | None) -> None:
        if value == 13:
            raise ValueError("thirteen")
        super().add(value, note)

    def close(self) -> float | None:
        if self.seen and self.seen[-1] == 99:
            raise ValueError("ninety-nine")
        return super().close()


@pytest.mark.parametrize("compiled", WAYS)
def test_what_classes_raise_is_told_by_row(compiled: bool) -> None:
    found = aggregation(
        Row, {"n": a.count(), "x": a.own(Refuses, "f", "ns", type=float | None)}, hopping("20ms", "20ms")
    )
    task = AlignedEngine(found, compiled)
    values = [1.0, 13.0, 2.0, 13.0, 99.0, 5.0, 0.0]
    times = [0, 25, 1, 26, 27, 45, 100]
    given_ = [Row.of(1, unit="ab"[n % 2], f=f, ts=ts) for n, (f, ts) in enumerate(zip(values, times, strict=True))]
    at = np.arange(len(given_), dtype=np.int64)
    closed = task.add(Batch("rows", 0, Row, at, at, records=given_), 0)
    # Row 2 comes when its window is closed, so the rest has other numbers among those that are added.
    assert closed.late is not None
    assert closed.late.rows.tolist() == [2]
    assert [(f.row, f.name, str(f.error)) for f in closed.refused] == [(1, "x", "thirteen"), (3, "x", "thirteen")]
    got = list(zip(*(closed.results.values(name) for name in ("unit", "start", "n", "x")), strict=True))
    assert got == [("a", 0, 1, 0.0), ("b", 20, 2, None), ("a", 20, 1, None), ("b", 40, 1, 0.0)]
    assert [(f.row, str(f.error)) for f in closed.broken] == [(2, "ninety-nine")]
