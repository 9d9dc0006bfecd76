"""The tables behind compiled cells; what cells give is tested in tests/process/test_panes.py."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from streamproc.process.cells import CellPanes
from streamproc.process.measures import ROWS, Measure, Values

SUM = Measure("sum", "x", np.int64)


def add(panes: CellPanes, times: np.ndarray, codes: np.ndarray, keys: int) -> None:
    panes.add(times, codes, keys, {"x": Values(np.arange(len(times)), None)})


def longest_run(table: np.ndarray) -> int:
    empty = np.flatnonzero(np.concatenate([[0], table, [0]]) == 0)
    return int(np.diff(empty).max())


@pytest.mark.parametrize("step", [1, 64, 2**17, 2**32, 2**40])
def test_panes_that_are_alike_do_not_crowd(step: int):
    panes = CellPanes([ROWS, SUM], 1)
    add(panes, np.arange(20_000) * step, np.zeros(20_000, np.int64), 1)
    assert len(panes) == 20_000
    assert longest_run(panes._panes) < 200


@pytest.mark.parametrize("step", [1, 64, 1024])
def test_keys_that_are_alike_do_not_crowd(step: int):
    panes = CellPanes([ROWS, SUM], 1)
    codes = np.arange(2000) * step
    for pane in range(10):
        add(panes, np.full(2000, pane), codes, int(codes[-1]) + 1)
    assert panes.work == 20_000
    assert longest_run(panes._table) < 200


def test_room_that_is_made_in_the_middle_of_a_batch():
    """Rows found before it still reach their cells."""
    panes = CellPanes([ROWS, SUM], 10)
    n = 5000
    add(panes, np.arange(n) // 7, np.arange(n) % 13, 13)
    found = panes.combine(np.array([0]), n)
    assert found.measures[1].tolist() == [sum(range(code, n, 13)) for code in found.code.tolist()]


def test_what_has_gone_does_not_fill_the_tables():
    """A thousand keys come and go with every pane, while one pane stays."""
    panes = CellPanes([ROWS, SUM], 1)
    add(panes, np.array([-1]), np.array([0]), 1)
    for pane in range(500):
        add(panes, np.full(1000, pane), np.arange(1000), 1000)
        panes.drop(np.array([pane]))
    assert (len(panes), panes.work) == (1, 1)
    assert panes.nbytes < 400_000
    assert panes.combine(np.array([-1]), 1).measures[0].tolist() == [1]


def test_memory_is_that_of_live_cells_and_keys():
    """Not of keys times panes, which would be 3 GB here."""
    panes = CellPanes([ROWS, SUM], 1)
    for pane in range(1000):
        add(panes, np.full(100, pane), np.arange(100) * 4000 + pane, 400_000)
    assert panes.work == 100_000
    assert panes.nbytes < 100_000 * 2 * 8 * 10 + 400_000 * 3 * 8 * 2


def test_codes_that_do_not_exist_are_refused():
    with pytest.raises(IndexError):
        add(CellPanes([ROWS, SUM], 1), np.zeros(1, np.int64), np.array([70]), 1)


def test_a_cell_that_is_used_again_for_another_key_is_no_longer_the_first_ones():
    panes = CellPanes([ROWS, SUM], 1)
    add(panes, np.array([-1, 0, 0]), np.array([2, 0, 1]), 3)
    panes.drop(np.array([0]))
    add(panes, np.array([1, 1]), np.array([1, 0]), 3)  # in the other order: each takes what was the other's cell
    found = panes.combine(np.array([1]), 1)
    assert [found.code.tolist(), found.measures[0].tolist()] == [[1, 0], [1, 1]]
