"""Windows against the plainest computation, over random events, windows and cuts."""

from __future__ import annotations

import math
import random
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.define.windows import AlignedWindow
from streamproc.process import dense, engine, keys
from tests.process.kit import ENGINES, NumberedSample, Sample, aggregation, bits, close, expected, run, using

floats = st.one_of(
    st.floats(-1e9, 1e9), st.integers(-5, 5).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
)
ints = st.integers(-(2**40), 2**40) | st.sampled_from([2**62, -(2**62), 2**63 - 1, -(2**63), 2**31, -(2**31) - 1])


@st.composite
def windows(draw: st.DrawFn) -> AlignedWindow:
    size = draw(st.integers(1, 60))
    scale = draw(st.sampled_from([1, 7, 1000]))
    return AlignedWindow(size * scale, draw(st.integers(1, size)) * scale)


@st.composite
def events(draw: st.DrawFn, window: AlignedWindow, numbered: bool) -> list[Any]:
    """Rising on the whole, out of order by up to about two windows; now and then a leap."""
    n = draw(st.integers(1, 120))
    pace = draw(st.sampled_from([0, 1, window.step, window.size]))
    disorder = draw(st.sampled_from([0, 1, window.step, 2 * window.size]))
    leaps = draw(st.dictionaries(st.integers(0, n), st.integers(1, 5 * window.size), max_size=2))
    now = draw(st.integers(-3 * window.size, 3 * window.size))
    rows: list[Any] = []
    for at in range(n):
        now += leaps.get(at, 0) + draw(st.integers(0, pace))
        ts = now - draw(st.integers(0, disorder))
        values = (ts, draw(ints), draw(floats), draw(st.none() | ints), draw(st.none() | floats))
        key = draw(st.integers(-6, 6))
        rows.append(NumberedSample(key, *values) if numbered else Sample(f"unit-{key}", *values))
    return rows


@given(st.data(), windows(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_equal_the_oracle_however_they_are_cut(data: st.DataObject, window: AlignedWindow, numbered: bool):
    grace = data.draw(st.sampled_from([0, 1, window.step, 2 * window.size]))
    rows = data.draw(events(window, numbered))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=12)))
    definition = aggregation(window, grace=grace / 1000, numbered=numbered)
    want = expected(rows, window, grace)
    with using("dense"):
        whole = run(definition, rows)
    assert whole.late == want.late
    assert whole.causes == want.causes
    assert [(r.unit, r.start, r.end) for r in whole.results] == [(r.unit, r.start, r.end) for r in want.results]
    # The oracle adds floats in event order, a task in event order inside each pane and then pane by pane: both are
    # off by at most (n - 1) / 2^53 of the sum of magnitudes (Higham, Accuracy and Stability, 4.2), here 120 * 1e9.
    slack = 2 * len(rows) * 2.0**-53 * len(rows) * 1e9
    for got, exact in zip(whole.results, want.results, strict=True):
        assert close(got, exact, slack), (got, exact)
    # Between engines and cuts there is no tolerance. Every way through the code at this size: columnar codes, keys
    # forgotten, windows given out few at a time.
    with ExitStack() as stack:
        stack.enter_context(patch.object(keys, "_FEW", data.draw(st.sampled_from([2, 32]))))
        stack.enter_context(patch.object(engine, "_MANY_KEYS", 3))
        stack.enter_context(patch.object(dense, "_CELLS", 8))
        for way in ENGINES:
            if way == "compiled":
                stack.enter_context(patch("streamproc.process.cells._AT_ONCE", 3))
            for parts in ((), cuts, range(1, len(rows))):
                with using(way):
                    other = run(definition, rows, parts)
                assert [bits(r) for r in other.results] == [bits(r) for r in whole.results], way
                assert (other.causes, other.late) == (whole.causes, whole.late), way


@pytest.mark.parametrize("keys_", [7, 3000])
@pytest.mark.parametrize("numbered", [False, True])
def test_engines_agree_on_long_streams(keys_: int, numbered: bool):
    """With thousands of keys that come and go, late events and nulls, cut anywhere; enough for every array to grow."""
    chance = random.Random(keys_)
    rows: list[Any] = []
    for at in range(6_000):
        key = at // 20 + chance.randrange(keys_)
        ts = at * 10 - chance.choice((0, 0, 0, 100, 3000, 30_000))
        some = chance.random() < 0.7
        values = (
            ts,
            chance.randrange(-(2**63), 2**63),
            chance.uniform(-1e9, 1e9),
            at if some else None,
            None if some else 0.1,
        )
        rows.append(NumberedSample(key, *values) if numbered else Sample(f"unit-{key}", *values))
    definition = aggregation(AlignedWindow(5000, 1000), grace=2, numbered=numbered)
    cuts = sorted(chance.sample(range(1, len(rows)), 20))
    with using("dense"):
        want = run(definition, rows)
    assert len(want.late) > 500
    with patch.object(engine, "_MANY_KEYS", 500):
        for way in ENGINES:
            for parts in ((), cuts):
                with using(way):
                    got = run(definition, rows, parts)
                assert [bits(r) for r in got.results] == [bits(r) for r in want.results], way
                assert (got.causes, got.late) == (want.causes, want.late), way
