"""Aggregates against the plainest computation of what they say they are.

Everything is compared exactly but what sums floats in another order than the oracle, which sums them without any error:
variance, covariance and correlation (Welford's method is off by n units in the last place of the values' squares, or
so), the decayed mean (n roundings, and a few in each decay), sums and means of floats.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc.define import aggregates as a
from streamproc.define.aggregation import Aggregation
from streamproc.process.accumulators import Accumulators
from tests.process.aggregates_kit import WINDOW, Row, Spread, add, aggregation, bits, results

WAYS = [False, *([True] if kernels.available() else [])]
U = 2.0**-53

moderate = st.one_of(st.floats(-1e6, 1e6), st.integers(-5, 5).map(float), st.floats(1e9, 1e9 + 1))
longs = st.one_of(st.integers(-9, 9), st.integers(-(1 << 63), (1 << 63) - 1))


def rows(floats: st.SearchStrategy[float] = moderate) -> st.SearchStrategy[list[Row]]:
    word = st.sampled_from(["", "a", "b", "é", "long " * 5])
    return st.lists(
        st.builds(
            Row,
            unit=st.just("u"),
            ts=st.integers(0, 3000),
            i=longs,
            f=floats,
            g=floats,
            b=st.booleans(),
            s=word,
            y=st.binary(max_size=3),
            ni=st.none() | longs,
            nf=st.none() | floats,
            ns=st.none() | word,
        ),
        min_size=1,
        max_size=50,
    )


@cache
def defined(aggregate: a.Aggregate) -> Aggregation:
    return aggregation(Row, {"x": aggregate})


def computed(aggregate: a.Aggregate, found: Sequence[Any], panes: int = 1) -> list[Any]:
    """What comes of rows, with kernels and without, in so many panes; times ascend from pane to pane, as they do."""
    given_ = sorted(found, key=lambda row: row.ts) if panes > 1 else list(found)
    definition = defined(aggregate)
    seen = []
    for compiled in WAYS:
        made = Accumulators(definition, definition.aggregates, compiled)
        made.room(panes + 1)
        cells = [n * panes // len(given_) for n in range(len(given_))]
        add(made, cells, given_)
        made.merge(np.full(panes, panes), made, np.arange(panes))
        seen.append(results(made, [panes], [len(given_)])["x"][0])
    assert all(bits(one) == bits(seen[0]) for one in seen)
    return seen[:1]


def value(aggregate: a.Aggregate, found: Sequence[Any], panes: int = 1) -> Any:
    return computed(aggregate, found, panes)[0]


def some(found: Sequence[Row], *names: str) -> list[list[Any]]:
    """The values of fields, of the rows that have all."""
    kept = [row for row in found if all(getattr(row, name) is not None for name in names)]
    return [[getattr(row, name) for row in kept] for name in names]


def is_close(found: float | None, want: Fraction | None, tolerance: float) -> None:
    if want is None:
        assert found is None
    else:
        assert found is not None
        assert abs(Fraction(found) - want) <= Fraction(tolerance)


def product(xs: Sequence[Any], ys: Sequence[Any]) -> Fraction:
    """The sum of the products of their distances from their means, exactly."""
    x_mean, y_mean = (Fraction(sum(map(Fraction, v)), len(v)) for v in (xs, ys))
    return sum(((Fraction(x) - x_mean) * (Fraction(y) - y_mean) for x, y in zip(xs, ys, strict=True)), Fraction(0))


def slack(xs: Sequence[float], ys: Sequence[float]) -> float:
    size = math.hypot(*xs) * math.hypot(*ys)  # of values whose squares are no doubles, too
    return 16 * U * len(xs) * size + 1e-300  # squares below that are no doubles


PANES = st.integers(1, 4)


@given(rows(), PANES)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("field", ["f", "nf", "ni"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_variance_and_deviation(field: str, ddof: int, found: list[Row], panes: int) -> None:
    (xs,) = some(found, field)
    xs = [float(x) for x in xs]
    want = product(xs, xs) / (len(xs) - ddof) if len(xs) > ddof else None
    variance = value(a.variance(field, ddof=ddof), found, panes)
    is_close(variance, want, slack(xs, xs) / max(len(xs) - ddof, 1))
    assert value(a.deviation(field, ddof=ddof), found, panes) == (None if variance is None else math.sqrt(variance))


@given(rows(), PANES)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("fields", [("f", "g"), ("f", "nf"), ("ni", "nf")])
def test_covariance_and_correlation(fields: tuple[str, str], found: list[Row], panes: int) -> None:
    xs, ys = ([float(x) for x in column] for column in some(found, *fields))
    for ddof in (0, 1):
        want = product(xs, ys) / (len(xs) - ddof) if len(xs) > ddof else None
        is_close(value(a.covariance(*fields, ddof=ddof), found, panes), want, slack(xs, ys) / max(len(xs) - ddof, 1))
    r = value(a.correlation(*fields), found, panes)
    if len(xs) < 2 or len(set(xs)) == 1 or len(set(ys)) == 1:
        assert r is None
    elif r is not None:  # squares of distances may be too small for doubles
        assert -1 <= r <= 1
        x, y = math.sqrt(product(xs, xs)), math.sqrt(product(ys, ys))
        if min(x * x / slack(xs, xs), y * y / slack(ys, ys)) > 1e3:
            off = slack(xs, ys) / (x * y) + slack(xs, xs) / (x * x) + slack(ys, ys) / (y * y)
            is_close(r, Fraction(product(xs, ys)) / Fraction(x) / Fraction(y), 2 * off)


def test_moments_of_values_far_from_zero() -> None:
    found = [Row.of(n, f=1e9 + x, g=-1e9 - 2 * x) for n, x in enumerate((4, 7, 13, 16))]
    assert value(a.variance("f"), found, 2) == 30
    assert value(a.covariance("f", "g"), found, 2) == -60
    assert value(a.correlation("f", "g"), found, 2) == pytest.approx(-1, abs=1e-15)


@given(rows(), PANES, st.integers(1, 2000))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("field", ["f", "nf", "ni"])
def test_decayed_mean(field: str, found: list[Row], panes: int, half_life: int) -> None:
    kept = [(row.ts, float(getattr(row, field))) for row in found if getattr(row, field) is not None]
    got = value(a.ewma(field, f"{half_life}ms"), found, panes)
    if not kept:
        assert got is None
        return
    latest = max(t for t, _ in kept)
    weights = [2.0 ** (-(latest - t) / half_life) for t, _ in kept]
    want = sum(Fraction(w) * Fraction(x) for w, (_, x) in zip(weights, kept, strict=True)) / sum(map(Fraction, weights))
    share = math.fsum(w * abs(x) for w, (_, x) in zip(weights, kept, strict=True)) / math.fsum(weights)
    is_close(got, want, share * 16 * U * (len(kept) + 8))


@pytest.mark.parametrize("age", [0, 1, 999, 1000, 1001, 12_345, 700_000, 1_074_000, 1_075_000, 1 << 60])
def test_a_decay_is_right_to_a_few_units_in_the_last_place(age: int) -> None:
    old, new = Row.of(1, ts=0, f=1e300), Row.of(2, ts=age, f=0.0)
    weight = 2.0 ** (-age / 1000)
    assert value(a.ewma("f", "1s"), [old, new]) == pytest.approx(1e300 * (weight / (1 + weight)), rel=4e-15, abs=0)


@given(rows(st.floats()), PANES, st.sampled_from([2, 5, 4000]))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("field", ["i", "f", "b", "s", "y", "ni", "nf", "ns"])
def test_first_and_last(field: str, found: list[Row], panes: int, times: int) -> None:
    found = [msgspec.structs.replace(row, ts=row.ts % times) for row in found]
    given_ = sorted(found, key=lambda row: row.ts) if panes > 1 else found
    first = min(given_, key=lambda row: row.ts)
    last = min(reversed(given_), key=lambda row: -row.ts)
    assert bits(value(a.first(field), found, panes)) == bits(getattr(first, field))
    assert bits(value(a.last(field), found, panes)) == bits(getattr(last, field))


@given(rows(st.floats()), PANES)
@settings(max_examples=25, deadline=None)
def test_histogram_and_occurrences(found: list[Row], panes: int) -> None:
    edges = [-2.0, 0.0, 1.5, 1e9]
    for field in ("f", "nf", "ni"):
        xs = [float(x) for x in some(found, field)[0]]
        limits = [-math.inf, *edges, math.inf]
        want = [sum(low <= x < high or x == high == math.inf for x in xs) for low, high in pairwise(limits)]
        assert value(a.histogram(field, edges), found, panes) == want
    assert value(a.occurrences("ns", ["b", "", "none such"]), found, panes) == {
        word: sum(row.ns == word for row in found) for word in ("b", "", "none such")
    }
    got = value(a.occurrences("ni", [3, -1]), found, panes)
    assert got == {str(n): sum(row.ni == n for row in found) for n in (3, -1)}
    assert list(got) == ["3", "-1"]


@given(rows(st.floats()), PANES)
@settings(max_examples=25, deadline=None)
def test_range_rate_and_what_measures_give(found: list[Row], panes: int) -> None:
    for field in ("i", "ni"):
        (xs,) = some(found, field)
        assert value(a.minimum(field), found, panes) == min(xs, default=None)
        assert value(a.maximum(field), found, panes) == max(xs, default=None)
        assert value(a.value_range(field), found, panes) == (float(max(xs) - min(xs)) if xs else None)
        whole = sum(xs)
        assert value(a.total(field), found, panes) == (whole if -(1 << 63) <= whole < 1 << 63 else None)
        if xs:
            assert value(a.mean(field), found, panes) == pytest.approx(whole / len(xs), rel=1e-12, abs=1)
        assert value(a.rate(field, per="1m"), found, panes) == pytest.approx(whole * 6.0, rel=1e-12, abs=64)
    (xs,) = some(found, "nf")
    low, high = value(a.minimum("nf"), found, panes), value(a.maximum("nf"), found, panes)
    spread = value(a.value_range("nf"), found, panes)
    if not xs:
        assert (low, high, spread) == (None, None, None)
    elif any(map(math.isnan, xs)):
        assert math.isnan(low)
        assert math.isnan(high)
        assert math.isnan(spread)
    else:
        assert (low, high) == (min(xs), max(xs))
        assert bits(spread) == bits(max(xs) - min(xs) if min(xs) < max(xs) or math.isfinite(min(xs)) else math.nan)
    assert value(a.rate(), found, panes) == len(found) / (WINDOW.size / 1000)
    assert value(a.count(), found, panes) == len(found)


SPOILED: list[tuple[float, ...]] = [(math.nan,), (1.0, math.inf), (-math.inf, 2.0), (1.0, math.nan, 3.0)]


@pytest.mark.parametrize("values", SPOILED)
@pytest.mark.parametrize("panes", [1, 2])
def test_nan_and_infinity(values: tuple[float, ...], panes: int) -> None:
    found = [Row.of(n, f=x, g=float(n * n), ts=n) for n, x in enumerate(values)]
    assert math.isnan(value(a.variance("f", ddof=0), found, panes))
    assert math.isnan(value(a.deviation("f", ddof=0), found, panes))
    assert not math.isfinite(value(a.covariance("f", "g", ddof=0), found, panes))
    if len(values) > 1:
        assert math.isnan(value(a.correlation("f", "g"), found, panes))
    assert not math.isfinite(value(a.ewma("f", "1s"), found, panes))
    real = sorted(x for x in values if not math.isnan(x))
    got = value(a.quantiles("f", [0, 0.5, 1]), found, panes)
    if real:
        assert got == [real[0], real[(len(real) - 1) // 2], real[-1]]
    else:
        assert list(map(math.isnan, got)) == [True] * 3
    assert value(a.distinct("f"), found, panes) == len(values)


def test_nothing_but_nulls() -> None:
    found = [Row.of(5 * n) for n in range(3)]
    want: list[tuple[a.Aggregate, Any]] = [
        (a.variance("nf", ddof=0), None),
        (a.deviation("nf"), None),
        (a.covariance("nf", "f"), None),
        (a.correlation("nf", "ni"), None),
        (a.ewma("nf", "1s"), None),
        (a.quantile("nf", 0.5), None),
        (a.quantiles("nf", [0.5]), None),
        (a.value_range("ni"), None),
        (a.first("ns"), None),
        (a.last("ni"), None),
        (a.distinct("ns"), 0),
        (a.top_k("ns", 3), {}),
        (a.occurrences("ns", ["a"]), {"a": 0}),
        (a.histogram("nf", [0.5]), [0, 0]),
        (a.rate("ni"), 0.0),
        (a.total("ni"), 0),
    ]
    for aggregate, result in want:
        for panes in (1, 3):
            assert value(aggregate, found, panes) == result, aggregate


def test_magnitudes_at_the_ends_of_doubles() -> None:
    found = [Row.of(1, f=1.7e308), Row.of(2, f=-1.7e308)]
    assert value(a.variance("f"), found) == math.inf  # its square is no double
    assert value(a.value_range("f"), found) == math.inf
    assert value(a.variance("f"), [Row.of(1, f=5e-324), Row.of(2, f=0.0)]) == 0.0
    found = [Row.of(1, i=(1 << 63) - 1), Row.of(2, i=-(1 << 63))]
    assert value(a.value_range("i"), found) == 2.0**64
    assert value(a.quantiles("i", [0, 1]), found) == [-(2.0**63), 2.0**63]


# Sketches.


@given(rows(st.floats()), PANES)
@settings(max_examples=25, deadline=None)
def test_small_sketches_are_exact(found: list[Row], panes: int) -> None:
    (words,), (ints,) = some(found, "ns"), some(found, "ni")
    top = Counter(words)
    want = dict(sorted(top.items(), key=lambda item: (-item[1], item[0]))[:3])
    got = value(a.top_k("ns", 3), found, panes)
    assert got == want
    assert list(got) == list(want)
    assert value(a.top_k("ni", 2), found, panes) == {
        str(n): count for n, count in sorted(Counter(ints).items(), key=lambda item: (-item[1], item[0]))[:2]
    }
    assert value(a.distinct("ns", precision=14), found, panes) == len(top)
    assert value(a.distinct("ni", precision=14), found, panes) == pytest.approx(len(set(ints)), abs=0.5)
    xs = sorted(x + 0.0 for x in (row.f for row in found) if not math.isnan(x))
    qs = [0, 0.1, 0.5, 0.75, 0.999, 1]
    got = value(a.quantiles("f", qs), found, panes)
    if xs:
        assert got == [xs[max(0, math.ceil(q * len(xs)) - 1)] for q in qs]


def numbers(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).lognormal(0, 2, count)


def built(aggregate: a.Aggregate, column: dict[str, Any], cells: int = 1) -> Accumulators:
    """Of columns in as many panes, joined in cell 0."""
    definition = aggregation(Row, {"x": aggregate})
    made = Accumulators(definition, definition.aggregates, kernels.available())
    made.room(cells + 1)
    (values,) = column.values()
    where = np.sort(np.arange(len(values)) % cells) + 1
    for part in np.array_split(np.arange(len(values)), 7):
        made.add(where[part], part, {name: data[part] for name, data in column.items()})
    made.merge(np.zeros(cells, np.int64), made, np.arange(1, cells + 1))
    return made


@pytest.mark.parametrize("cells", [1, 12])
@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_quantiles_are_within_their_error(order: str, cells: int) -> None:
    data = numbers(200_000, 1)
    data = {"random": data, "ascending": np.sort(data), "descending": np.sort(data)[::-1].copy()}[order]
    qs = [0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1]
    made = built(a.quantiles("f", qs), {"f": data}, cells)
    (got,) = results(made, [0])["x"]
    ranks = np.searchsorted(np.sort(data), got, side="right") / len(data)
    assert np.abs(ranks - qs).max() <= 0.0133
    assert got[0] == data.min()
    assert got[-1] == data.max()
    assert got == sorted(got)
    assert made.nbytes < 40_000 * (cells + 1)


def test_quantiles_hold_on_average_over_many_sketches() -> None:
    """The median's rank of a hundred sketches: no bias, and the error that KLL promises 99 times of 100."""
    off = []
    for seed in range(100):
        data = numbers(20_000, seed)
        (got,) = results(built(a.quantile("f", 0.5), {"f": data}), [0])["x"]
        off.append(np.searchsorted(np.sort(data), got, side="right") / len(data) - 0.5)
    assert abs(np.mean(off)) < 0.002
    assert sum(abs(x) > 0.0133 for x in off) <= 1


@pytest.mark.parametrize("precision", [4, 8, 12, 16])
@pytest.mark.parametrize("count", [10, 1000, 50_000, 300_000])
def test_distinct_is_within_its_error(precision: int, count: int) -> None:
    ids = np.random.default_rng(count).integers(-(1 << 62), 1 << 62, count)
    data = np.concatenate([ids, ids[::2]])
    for cells in (1, 5):
        (got,) = results(built(a.distinct("i", precision=precision), {"i": data}, cells), [0])["x"]
        assert abs(got - count) <= max(1, 3.5 * 1.04 / math.sqrt(1 << precision) * count)


def test_distinct_depends_on_nothing_but_which_values_came() -> None:
    ids = np.random.default_rng(3).integers(0, 900, 5000)
    one, other = built(a.distinct("i"), {"i": ids}, 1), built(a.distinct("i"), {"i": np.unique(ids)[::-1].copy()}, 9)
    assert one.pack(np.array([0])).values() == other.pack(np.array([0])).values()


@pytest.mark.parametrize("cells", [1, 20])
def test_top_k_is_within_its_error(cells: int) -> None:
    ids = np.random.default_rng(5).zipf(1.2, 100_000) % 20_000
    true = Counter(ids.tolist())
    size = 64
    made = built(a.top_k("i", 32, size=size), {"i": ids}, cells)
    (got,) = results(made, [0])["x"]
    for text, count in got.items():
        assert true[int(text)] - len(ids) / size <= count <= true[int(text)]
    for value_, count in true.items():
        if count > 2 * len(ids) / size:
            assert str(value_) in got
    assert len(made._parts["top", "i", size].held[0]) <= size  # type: ignore[attr-defined]


def test_count_min_is_within_its_error_and_read_by_datasketches() -> None:
    import datasketches

    words = [f"w{n}" for n in np.random.default_rng(6).zipf(1.3, 20_000) % 3000]
    found = [Row.of(n, s=word) for n, word in enumerate(words)]
    sketch = datasketches.count_min_sketch.deserialize(value(a.count_min("s"), found, 3))
    true = Counter(words)
    assert sketch.total_weight == len(words)
    over = [sketch.get_estimate(word) - count for word, count in true.items()]
    assert min(over) >= 0
    assert sum(x > 0.01 * len(words) for x in over) <= 0.01 * len(over)


def test_count_min_adds_up_what_came_at_once_as_if_it_came_one_by_one() -> None:
    import datasketches

    found = [Row.of(n, s=f"{n * n % 7}") for n in range(200)]
    ones = datasketches.count_min_sketch(5, 272)
    for row in found:
        ones.update(row.s)
    assert value(a.count_min("s"), found) == ones.serialize()


# Classes of one's own.


class Picky:
    """Raises where it is told to."""

    def __init__(self) -> None:
        self.total = 0.0

    def add(self, f: float, s: str) -> None:
        if s == "bad":
            raise ValueError(f"cannot take {f}")
        self.total += f

    def merge(self, other: Picky) -> None:
        if self.total < 0 or other.total < 0:
            raise ValueError("below zero")
        self.total += other.total

    def close(self) -> float:
        if self.total > 1e6:
            raise OverflowError("too much")
        return "no number" if self.total == 77 else self.total  # type: ignore[return-value]


class PickyColumns(Picky):
    def add_columns(self, f: Any, s: Any) -> None:
        for value_, word in zip(f, s, strict=True):
            self.add(value_, word)


def picky(maker: type[Any], compiled: bool = False) -> Accumulators:
    definition = aggregation(Row, {"x": a.own(maker, "f", "s", type=float), "n": a.total("f")})
    made = Accumulators(definition, definition.aggregates, compiled)
    made.room(4)
    return made


def some_rows(*values: tuple[float, str]) -> list[Row]:
    return [Row.of(n, f=f, s=s) for n, (f, s) in enumerate(values)]


def test_an_event_that_add_refuses_counts_in_the_others() -> None:
    made = picky(Picky)
    add(made, [0, 0, 1], some_rows((1, "a"), (2, "bad"), (4, "bad")))
    add(made, [0], some_rows((8, "a")))
    failures = made.failures()
    assert [(failure.row, str(failure)) for failure in failures] == [
        (1, "x: ValueError: cannot take 2.0"),
        (2, "x: ValueError: cannot take 4.0"),
    ]
    assert made.failures() == []
    assert results(made, [0, 1]) == {"x": [9.0, 0.0], "n": [11.0, 4.0]}
    assert made.unclosed == []


def test_rows_have_the_numbers_that_they_are_given() -> None:
    made = picky(Picky)
    found = some_rows((2, "bad"), (4, "bad"))
    columns = {"f": np.array([row.f for row in found]), "s": pl.Series(["bad", "bad"])}
    made.add(np.zeros(2, np.int64), np.zeros(2, np.int64), columns, 70)
    made.add(np.zeros(2, np.int64), np.zeros(2, np.int64), columns, np.array([9, 5]))
    assert [failure.row for failure in made.failures()] == [5, 9, 70, 71]


def test_columns_that_are_refused_are_refused_as_one() -> None:
    made = picky(PickyColumns)
    add(made, [0, 1, 0, 1], some_rows((1, "a"), (2, "bad"), (4, "a"), (8, "a")))
    assert [failure.row for failure in made.failures()] == [1, 3]


def test_a_result_that_cannot_be_had_is_null_and_told() -> None:
    made = picky(Picky)
    add(made, [0, 1, 2, 3], some_rows((1, "a"), (2e6, "a"), (77, "a"), (-1, "a")))
    assert results(made, [0, 1, 2])["x"] == [1.0, None, None]
    assert [(f.row, f.name, type(f.error).__name__) for f in made.unclosed] == [
        (1, "x", "OverflowError"),
        (2, "x", "ValidationError"),
    ]
    assert "Expected `float`, got `str`" in str(made.unclosed[1].error)
    assert results(made, [0])["x"] == [1.0]
    assert made.unclosed == []


def test_what_failed_to_merge_stays_failed_and_can_be_kept() -> None:
    made = picky(Picky)
    add(made, [0, 1, 2], some_rows((1, "a"), (-1, "a"), (5, "a")))
    made.merge(np.array([0]), made, np.array([1]))
    assert results(made, [0, 1, 2])["x"] == [None, -1.0, 5.0]
    other = picky(Picky)
    other.unpack(np.array([0]), made.pack(np.array([0])))
    add(other, [0], some_rows((3, "a")))
    other.merge(np.array([1]), other, np.array([0]))
    assert results(other, [1])["x"] == [None]
    assert str(other.unclosed[0].error) == "ValueError: below zero"


def test_what_cannot_be_kept_any_more_is_a_result_that_fails() -> None:
    class Grows(Spread):
        def add(self, value: float, note: str | None) -> None:
            self.seen = {value}  # type: ignore[assignment]

    definition = aggregation(Row, {"x": a.own(Grows, "f", "ns", type=float | None)})
    made = Accumulators(definition, definition.aggregates, False)
    made.room(2)
    add(made, [0], [Row.of(1)])
    made.unpack(np.array([1]), made.pack(np.array([0])))
    assert results(made, [1])["x"] == [None]
    assert str(made.unclosed[0].error) == "TypeError: seen is a set, which is not kept; give the class dump and load"
