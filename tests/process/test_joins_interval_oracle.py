"""Interval joins against one computation in polars, over random events, cuts, frontiers and restores."""

from __future__ import annotations

import math
import random
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.process.joins import interval as interval_operator
from streamproc.process.joins.interval import IntervalOperator
from tests.process.joins_interval_kit import (
    FOREVER,
    WAYS,
    Kept,
    Result,
    Row,
    Spot,
    definition,
    expected,
    ordered,
    results,
    small,
)
from tests.process.joins_oracle import digest, interval

ints = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)])
texts = st.sampled_from(["", "a", "ä\x00", "long " * 30])
floats = st.sampled_from([0.0, -0.0, math.nan, math.inf, 0.1, 5e-324])
blobs = st.sampled_from([b"", b"\xff\x00", b"long" * 30])
spots = st.builds(Spot, st.none() | floats, st.lists(texts, max_size=2))
more = st.dictionaries(texts, ints, max_size=2)
LEFT_VALUES, RIGHT_VALUES = (ints, texts, blobs, spots), (ints, floats, texts, st.booleans(), more)


@st.composite
def sequences(draw: st.DrawFn, kind: type) -> list[Row]:
    """By time, then by side."""
    keys = st.sampled_from([None, 0, -1, 2**63 - 1] if kind is int else [None, "", "a", "ü" * 9])
    step = st.sampled_from(draw(st.sampled_from([[0, 1], [0, 1, 3], [0, 0, 0, 10], [5, 50]])))
    nulls = draw(st.booleans())
    time = draw(st.sampled_from([0, -20, 10**12]))
    rows = []
    for _ in range(draw(st.integers(0, 50))):
        time += draw(step)
        side = draw(st.integers(0, 1))
        values = [draw(st.none() | each if nulls else each) for each in (LEFT_VALUES, RIGHT_VALUES)[side]]
        rows.append(Row(side, draw(keys), time, tuple(values)))
    return sorted(rows, key=lambda row: (row.time, row.side))


@st.composite
def bounds(draw: st.DrawFn) -> tuple[int, int]:
    low = draw(st.integers(-12, 12))
    return low, low + draw(st.sampled_from([0, 1, 5, 20]))


def frame(rows: list[Row], kind: type) -> pl.DataFrame:
    columns = [[row.side for row in rows], [row.key for row in rows], [row.time for row in rows]]
    kinds = {"side": pl.Int64, "key": pl.Int64 if kind is int else pl.String, "time": pl.Int64}
    return pl.DataFrame(columns, schema=kinds, strict=True)


def cut_anywhere(data: st.DataObject, rows: list[Row], join: Any) -> list[Result]:
    """A run with takes, frontiers, flushes and restores as they fall."""
    operator, kept = IntervalOperator(join, data.draw(st.sampled_from(WAYS))), Kept()
    kept.flush(operator)
    found: list[Result] = []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=12)))
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        before = rows[stop - 1].time if stop else -(2**62)
        after = rows[stop].time if stop < len(rows) else FOREVER
        frontier = data.draw(st.sampled_from([-(2**63), before, min(before + 7, after), after]))
        given = ordered(rows[start:stop], join, texts=operator.compiled and data.draw(st.booleans()))
        found += results(operator.take(given, frontier))
        if data.draw(st.booleans()):
            kept.flush(operator)
            if data.draw(st.booleans()):
                operator = kept.brought_back(join, data.draw(st.sampled_from(WAYS)), data.draw(st.integers(0, 9)))
    found += results(operator.take(ordered([], join), FOREVER))
    kept.flush(operator)
    assert (operator.kept, operator.chunks, kept.rows) == (0, 0, {})
    return found


@given(st.data(), bounds(), st.sampled_from(["inner", "left", "outer"]), st.sampled_from([str, int]))
@settings(max_examples=150, deadline=None)
def test_joins_equal_the_oracle_however_they_are_cut(data: st.DataObject, near: tuple[int, int], how: str, kind: type):
    rows = data.draw(sequences(kind))
    join = definition(*near, how, kind)
    want = digest(expected(rows, interval(frame(rows, kind), *near, how), join))
    for compiled in WAYS:
        assert digest(results(IntervalOperator(join, compiled).take(ordered(rows, join), FOREVER))) == want
    sizes = data.draw(st.sampled_from([None, (1, 64, 0), (3, 300, 0), (2, 2000, 2)]))
    with small(*sizes) if sizes else nullcontext():
        assert digest(cut_anywhere(data, rows, join)) == want


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("near", [(-300, 300), (-2000, -500), (0, 1500)])
def test_long_streams(compiled: bool, near: tuple[int, int]):
    """Hundreds of takes, so that rows are merged, moved, dropped and brought back many times; keys come and go."""
    chance = random.Random(near[0])
    join = definition(*near, "outer", int, {"s": str}, {"n": int})
    rows: list[Row] = []
    for at in range(4000):
        key = at // 400 * 10 + chance.randrange(20)
        side = chance.randrange(2)
        values: tuple[Any, ...] = (chance.choice([None, "ä", "text" * 4]),) if side == 0 else (at,)
        rows.append(Row(side, key if chance.random() < 0.97 else None, at * 10, values))
    want = digest(expected(rows, interval(frame(rows, int), *near, "outer"), join))
    operator, kept, found = IntervalOperator(join, compiled), Kept(), []
    with small(50, 3000, 3), patch.object(interval_operator, "_MANY_KEYS", 10):
        start = 0
        while start < len(rows):
            stop = min(start + chance.choice([1, 3, 10, 60]), len(rows))
            found += results(operator.take(ordered(rows[start:stop], join, texts=compiled), rows[stop - 1].time + 10))
            if chance.random() < 0.1:
                kept.flush(operator)
                if chance.random() < 0.5:
                    operator = kept.brought_back(join, compiled, start)
            start = stop
    found += results(operator.take(ordered([], join), FOREVER))
    assert digest(found) == want
