from __future__ import annotations

import math

import numpy as np
import pytest

from streamproc.process.panes import Measure, Panes, Values

SUM = Measure("sum", "x", np.float64)
MIN = Measure("min", "x", np.float64)
MAX = Measure("max", "x", np.int64)


def add(panes: Panes, rows: list[tuple[int, int, float]], keys: int, valid: list[bool] | None = None) -> None:
    """Rows of (pane, code, value)."""
    at, codes, values = (np.array(column) for column in zip(*rows, strict=True))
    panes.add(at, codes, keys, {"x": Values(values, None if valid is None else np.array(valid))})


def test_windows_are_sums_of_panes():
    panes = Panes([SUM, MIN])
    add(panes, [(0, 0, 1.0), (1, 0, 2.0), (1, 1, 5.0), (3, 0, 4.0)], keys=2)
    rows, total, least = panes.combine(np.array([0, 1, 2]), 2)
    assert rows[:, :2].tolist() == [[2, 1], [1, 1], [1, 0]]
    assert total[:, :2].tolist() == [[3.0, 5.0], [2.0, 5.0], [4.0, 0.0]]
    assert least[:, :2].tolist() == [[1.0, 5.0], [2.0, 5.0], [4.0, math.inf]]


def test_nulls_count_for_nothing_but_their_row():
    panes = Panes([SUM, Measure("n", "x", np.int64)])
    add(panes, [(0, 0, 1.0), (0, 0, 99.0)], keys=1, valid=[True, False])
    assert [array[0, 0] for array in panes.combine(np.array([0]), 1)] == [2, 1.0, 1]


def test_only_panes_with_events_take_memory():
    panes = Panes([SUM])
    for pane in (0, 10**15, -(10**15), 3):
        add(panes, [(pane, 0, 1.0), (pane + 1, 1, 1.0)], keys=2)
    assert len(panes) == 8
    assert all(array.shape[0] <= 16 for array in panes._arrays)
    add(panes, [(i * 10**12, 0, 1.0) for i in range(100)], keys=2)  # far apart in one batch, too
    assert all(array.shape[0] <= 256 for array in panes._arrays)


def test_a_window_of_a_million_panes_costs_what_its_events_do():
    panes = Panes([SUM])
    add(panes, [(0, 0, 1.0), (999_999, 0, 2.0), (1_000_000, 0, 4.0)], keys=1)
    rows, total = panes.combine(np.array([0, 1, 999_999]), 1_000_000)
    assert rows[:, 0].tolist() == [2, 2, 2]
    assert total[:, 0].tolist() == [3.0, 6.0, 6.0]


def test_dropped_panes_leave_nothing_behind():
    panes = Panes([SUM, MIN])
    add(panes, [(0, 0, 7.0), (1, 0, 8.0)], keys=1)
    panes.drop(np.array([0, 1]))
    assert len(panes) == 0
    add(panes, [(5, 0, 9.0), (6, 0, 9.5)], keys=1)  # takes their slots
    assert [array[0, 0] for array in panes.combine(np.array([4]), 3)] == [2, 18.5, 9.0]


def test_slots_are_used_again():
    panes = Panes([SUM])
    for pane in range(10_000):
        add(panes, [(pane, 0, 1.0)], keys=1)
        panes.drop(np.array([pane]))
    assert panes._arrays[0].shape[0] == 2


def test_keys_may_go():
    panes = Panes([SUM, MAX])
    add(panes, [(2, 0, 1), (2, 3, 5), (4, 3, 6), (4, 1, 7)], keys=4)
    panes.drop(np.array([2]))
    assert panes.live_codes().tolist() == [1, 3]
    panes.keep_codes(np.array([1, 3]))
    assert panes.keys == 2
    assert [array[0].tolist() for array in panes.combine(np.array([4]), 1)] == [[1, 1], [7.0, 6.0], [7, 6]]
    add(panes, [(4, 2, 9)], keys=3)  # the next code is new
    assert panes.combine(np.array([4]), 1)[0][0, :3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("rows", [1, 5000])  # few and many against the number of cells
def test_counts(rows: int):
    panes = Panes([])
    panes.add(np.zeros(rows, np.int64), np.arange(rows) % 700, 700, {})
    assert panes.combine(np.array([0]), 1)[0].sum() == rows


def test_not_a_number_and_infinity_are_values_like_any_other():
    panes = Panes([SUM, MIN])
    add(panes, [(0, 0, math.nan), (0, 1, math.inf), (0, 1, -math.inf), (0, 2, 1.0)], keys=3)
    _, total, least = panes.combine(np.array([0]), 2)
    assert [math.isnan(x) for x in total[0, :3]] == [True, True, False]
    assert math.isnan(least[0, 0])
    assert least[0, 1:3].tolist() == [-math.inf, 1.0]


def test_ints_are_exact_in_64_bits():
    panes = Panes([Measure("sum", "x", np.int64), MAX])
    add(panes, [(0, 0, 2**62), (1, 0, 2**62 - 1)], keys=1)
    assert [array[0, 0] for array in panes.combine(np.array([0]), 2)][1:] == [2**63 - 1, 2**62]
