from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from streamproc import compiled
from streamproc.process import panes as module
from streamproc.process.dense import DensePanes
from streamproc.process.measures import ROWS, Array, Measure, Values
from streamproc.process.panes import AdaptivePanes, Panes
from streamproc.process.sparse import SparsePanes

SUM = Measure("sum", "x", np.float64)
MIN = Measure("min", "x", np.float64)
MAX = Measure("max", "y", np.int64)
Make = Callable[[list[Measure]], Panes]


def dense(measures: list[Measure]) -> Panes:
    return AdaptivePanes([ROWS, *measures], 1)


def sparse(measures: list[Measure]) -> Panes:
    made = AdaptivePanes([ROWS, *measures], 1)
    made.form = SparsePanes(made.measures, 1)
    return made


def cells(measures: list[Measure]) -> Panes:
    from streamproc.process.cells import CellPanes

    return CellPanes([ROWS, *measures], 1)


WAYS = [dense, sparse, cells] if compiled.available() else [dense, sparse]


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest) -> Any:
    with patch.object(AdaptivePanes, "_choose", lambda *_: None):
        yield request.param


def add(panes: Panes, rows: list[tuple[int, int, float]], keys: int, valid: list[bool] | None = None) -> None:
    """Rows of (pane, code, value): of field x as a float, of field y as an int."""
    at, codes, data = (np.array(column) for column in zip(*rows, strict=True))
    where = None if valid is None else np.array(valid)
    longs = np.nan_to_num(data, posinf=0, neginf=0).astype(np.int64)
    panes.add(at, codes, keys, {"x": Values(data.astype(np.float64), where), "y": Values(longs, where)})


def held(panes: Panes, first: int, count: int) -> list[tuple[Any, ...]]:
    """One window's (code, measures …)."""
    found = panes.combine(np.array([first]), count)
    return list(zip(found.code.tolist(), *(array.tolist() for array in found.measures), strict=True))


def test_windows_are_sums_of_panes(make: Make):
    panes = make([SUM, MIN])
    add(panes, [(0, 0, 1.0), (1, 0, 2.0), (1, 1, 5.0), (3, 0, 4.0)], keys=2)
    found = panes.combine(np.array([0, 1, 2]), 2)
    assert found.window.tolist() == [0, 0, 1, 1, 2]
    assert found.code.tolist() == [0, 1, 0, 1, 0]
    assert [array.tolist() for array in found.measures] == [[2, 1, 1, 1, 1], [3, 5, 2, 5, 4], [1, 5, 2, 5, 4]]


def test_keys_come_by_their_first_pane_and_then_in_order_of_coming(make: Make):
    panes = make([SUM])
    add(panes, [(5, 0, 0), (4, 3, 0), (5, 2, 0), (4, 1, 0), (5, 3, 0)], keys=4)
    add(panes, [(4, 0, 0), (3, 2, 0)], keys=4)
    assert [code for code, *_ in held(panes, 3, 3)] == [2, 3, 1, 0]
    assert [code for code, *_ in held(panes, 5, 1)] == [0, 2, 3]


def test_nulls_count_for_nothing_but_their_row(make: Make):
    panes = make([SUM, Measure("n", "x", np.int64)])
    add(panes, [(0, 0, 1.0), (0, 0, 99.0)], keys=1, valid=[True, False])
    assert held(panes, 0, 1) == [(0, 2, 1.0, 1)]


def test_only_panes_with_events_take_memory(make: Make):
    panes = make([SUM])
    for pane in (0, 10**15, -(10**15), 3):
        add(panes, [(pane, 0, 1.0), (pane + 1, 1, 1.0)], keys=2)
    assert len(panes) == 8
    add(panes, [(i * 10**12, 0, 1.0) for i in range(100)], keys=2)  # far apart in one batch, too
    assert len(panes) == 107
    assert panes.live()[[0, 1, -2, -1]].tolist() == [-(10**15), 1 - 10**15, 10**15, 10**15 + 1]
    assert panes.nbytes < 50_000


def test_a_window_of_a_million_panes_costs_what_its_events_do(make: Make):
    panes = make([SUM])
    add(panes, [(0, 0, 1.0), (999_999, 0, 2.0), (1_000_000, 0, 4.0)], keys=1)
    found = panes.combine(np.array([0, 1, 999_999]), 1_000_000)
    assert [array.tolist() for array in found.measures] == [[2, 2, 2], [3.0, 6.0, 6.0]]


def test_dropped_panes_leave_nothing_behind(make: Make):
    panes = make([SUM, MIN])
    add(panes, [(0, 0, 7.0), (1, 0, 8.0), (9, 0, 1.0)], keys=1)
    panes.drop(np.array([0, 1]))
    assert len(panes) == 1
    add(panes, [(5, 0, 9.0), (6, 0, 9.5), (0, 0, 3.0)], keys=1)  # takes their places
    assert held(panes, 4, 3) == [(0, 2, 18.5, 9.0)]
    assert held(panes, 0, 1) == [(0, 1, 3.0, 3.0)]
    panes.drop(panes.live())
    assert (len(panes), panes.work) == (0, 0)


def test_places_are_used_again(make: Make):
    panes = make([SUM])
    for pane in range(5_000):
        add(panes, [(pane, 0, 1.0), (pane + 1, 1, 1.0)], keys=2)
        panes.drop(np.array([pane]))
    assert panes.live().tolist() == [5000]
    assert panes.nbytes < 20_000


def test_room_is_given_back_after_a_rush(make: Make):
    panes = make([SUM])
    add(panes, [(i % 7, i, 1.0) for i in range(70_000)], keys=70_000)
    rush = panes.nbytes
    for pane in range(100):
        add(panes, [(pane + 7, 0, 1.0)], keys=70_000)
        if pane in panes.live():
            panes.drop(np.array([pane]))
    panes.keep_codes(panes.live_codes())
    assert panes.nbytes * 50 < rush
    assert [row[:2] for row in held(panes, 7, 200)] == [(0, 7)]


def test_keys_may_go(make: Make):
    panes = make([SUM, MAX])
    add(panes, [(2, 0, 1), (2, 3, 5), (4, 3, 6), (4, 1, 7)], keys=4)
    panes.drop(np.array([2]))
    assert panes.live_codes().tolist() == [1, 3]
    panes.keep_codes(np.array([1, 3]))
    assert held(panes, 4, 1) == [(1, 1, 6.0, 6), (0, 1, 7.0, 7)]
    add(panes, [(4, 2, 9), (4, 0, 1)], keys=3)  # the next code is new
    assert held(panes, 4, 1) == [(1, 1, 6.0, 6), (0, 2, 8.0, 7), (2, 1, 9.0, 9)]


@pytest.mark.parametrize("rows", [1, 5000])  # few and many against the number of cells
def test_counts(make: Make, rows: int):
    panes = make([])
    panes.add(np.zeros(rows, np.int64), np.arange(rows) % 700, 700, {})
    assert panes.combine(np.array([0]), 1).measures[0].sum() == rows


def test_not_a_number_and_infinity_are_values_like_any_other(make: Make):
    panes = make([SUM, MIN])
    add(panes, [(0, 0, math.nan), (0, 1, 9.0), (1, 1, -math.inf), (0, 2, 1.0), (1, 0, 1.0)], keys=3)
    (_, _, s0, m0), one, last = held(panes, 0, 2)
    assert all(map(math.isnan, (s0, m0)))
    assert (one, last) == ((1, 2, -math.inf, -math.inf), (2, 1, 1.0, 1.0))


def test_ints_are_exact_in_64_bits(make: Make):
    panes = make([Measure("sum", "x", np.int64), Measure("high", "x", np.int64), Measure("max", "x", np.int64)])
    panes.add(np.array([0, 1]), np.zeros(2, np.int64), 1, {"x": Values(np.array([2**62, 2**62 - 1]), None)})
    assert held(panes, 0, 2) == [(0, 2, 2**63 - 1, 2**31, 2**62)]


class TestChoice:
    """Without kernels, panes are dense or sparse by what comes."""

    def test_few_keys_of_many_in_each_pane(self):
        panes = AdaptivePanes([ROWS, SUM], 1)
        for pane in range(40):
            add(panes, [(pane, pane * 3000 + i, 1.0) for i in range(3000)], keys=(pane + 1) * 3000)
        assert isinstance(panes.form, SparsePanes)
        assert panes.nbytes < 40 * 3000 * 200
        found = panes.combine(np.array([0]), 40)
        assert found.code.tolist() == list(range(40 * 3000))

    def test_every_key_in_each_pane(self):
        panes = AdaptivePanes([ROWS, SUM], 1)
        for pane in range(20):
            add(panes, [(pane, i, 1.0) for i in range(10_000)], keys=10_000)
        assert isinstance(panes.form, DensePanes)

    def test_there_and_back(self):
        panes = AdaptivePanes([ROWS, SUM], 1)
        with patch.object(module, "_FEW", 100):
            add(panes, [(0, 0, 1.0), (0, 999, 2.0), (1, 5, 3.0)], keys=1000)
            assert isinstance(panes.form, SparsePanes)
            add(panes, [(pane, i, 1.0) for pane in (0, 1) for i in range(1000)], keys=1000)
            add(panes, [(0, 0, 1.0)], keys=1000)
            assert isinstance(panes.form, DensePanes)
            rows: list[Array] = panes.combine(np.array([0]), 2).measures
        assert [rows[0].sum(), rows[1].sum()] == [2004, 2007.0]
        assert panes.combine(np.array([0]), 1).code[:3].tolist() == [0, 999, 1]
