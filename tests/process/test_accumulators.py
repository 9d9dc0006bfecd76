"""Aggregates by cell: equal to the bit however rows were cut, with kernels and without, and packed and unpacked in
between. That they are right is in test_aggregates.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc.columns import Texts
from streamproc.errors import StateError
from streamproc.process.accumulators import Accumulators, hashes
from tests.process.aggregates_kit import AGGREGATES, Row, accumulators, add, bits, columns, definition, results, rows

WAYS = [False, *([True] if kernels.available() else [])]
CELLS = 4


@st.composite
def cuts(draw: st.DrawFn, least: int = 0) -> tuple[list[Row], list[int], list[int]]:
    """Rows, the cell of each, and where they are cut."""
    found = draw(st.lists(rows(), min_size=least, max_size=24))
    cells = draw(st.lists(st.integers(0, CELLS - 1), min_size=len(found), max_size=len(found)))
    return found, cells, sorted(draw(st.sets(st.integers(0, len(found)), max_size=6)))


def filled(found: list[Row], cells: list[int], at: Sequence[int] = (), *, compiled: bool) -> Accumulators:
    made = accumulators(compiled)
    made.room(CELLS)
    for start, stop in zip([0, *at], [*at, len(found)], strict=True):
        add(made, cells[start:stop], found[start:stop])
    return made


def everything(made: Accumulators, cells: Sequence[int] = range(CELLS)) -> Any:
    """Results and state, to the bit."""
    return bits(results(made, cells)), made.pack(np.array(cells, np.int64)).values()


@given(cuts())
@settings(max_examples=25, deadline=None)
def test_neither_cuts_nor_kernels_make_a_difference(case: tuple[list[Row], list[int], list[int]]) -> None:
    found, cells, at = case
    want = everything(filled(found, cells, compiled=False))
    one_by_one = list(range(1, len(found)))
    for compiled in WAYS:
        for cut in (at, one_by_one, []):
            assert everything(filled(found, cells, cut, compiled=compiled)) == want


@given(cuts(), st.randoms())
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("compiled", WAYS)
def test_packed_and_unpacked_anywhere(
    compiled: bool, case: tuple[list[Row], list[int], list[int]], random: Any
) -> None:
    found, cells, at = case
    want = everything(filled(found, cells, compiled=compiled))
    made = accumulators(compiled)
    made.room(CELLS)
    for start, stop in zip([0, *at], [*at, len(found)], strict=True):
        fresh = accumulators(random.choice(WAYS))
        order = random.sample(range(CELLS), CELLS)
        fresh.room(CELLS)
        fresh.unpack(np.array(order), made.pack(np.array(order)))
        made = fresh
        add(made, cells[start:stop], found[start:stop])
    assert everything(made) == want


@given(cuts())
@settings(max_examples=25, deadline=None)
def test_merging_is_the_same_with_kernels_and_without_and_leaves_the_other_as_it_was(
    case: tuple[list[Row], list[int], list[int]],
) -> None:
    found, cells, at = case
    seen = []
    for compiled in WAYS:
        made, other = accumulators(compiled), filled(found, cells, at, compiled=compiled)
        before = everything(other)
        made.room(2)
        made.merge(np.array([0, 1, 1, 0]), other, np.arange(CELLS))
        assert everything(other) == before
        other.merge(np.array([0]), other, np.array([3]))
        seen.append((everything(made, [0, 1]), everything(other)))
        add(made, [0] * len(found), found)  # what was merged in has not become a part of the other
        assert everything(other) == seen[-1][1]
    assert all(one == seen[0] for one in seen)


@given(cuts(least=1))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("compiled", WAYS)
def test_moved_and_cleared_and_shrunk(compiled: bool, case: tuple[list[Row], list[int], list[int]]) -> None:
    found, cells, at = case
    made = filled(found, cells, at, compiled=compiled)
    state, empty = everything(made), everything(filled([], [], compiled=compiled), [0])
    made.room(10)
    made.move(np.arange(CELLS), np.array([6, 3, 9, 1]))
    assert everything(made, [6, 3, 9, 1]) == state
    for cell in (0, 2, 4, 5, 7, 8):
        assert everything(made, [cell]) == empty
    made.clear(np.array([9]))
    assert everything(made, [9]) == empty
    made.clear(np.array([6]))
    made.shrink(4)
    assert everything(made, [3, 1]) == everything(filled(found, cells, at, compiled=compiled), [1, 3])
    made.room(7)
    assert everything(made, [6]) == empty
    add(made, [6] * len(found), found)
    assert everything(made, [6]) == everything(filled(found, [0] * len(found), compiled=compiled), [0])


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("name", AGGREGATES)
def test_each_aggregate_alone_is_what_it_is_among_all(name: str, compiled: bool) -> None:
    found = [Row.of(n) for n in range(40)]
    alone = accumulators(compiled, only=[name])
    alone.room(1)
    assert alone.fields == set(AGGREGATES[name].fields)
    add(alone, [0] * 40, found)
    every = filled(found, [0] * 40, compiled=compiled)
    assert bits(results(alone, [0])[name]) == bits(results(every, [0])[name])
    again = accumulators(compiled, only=[name])
    again.room(3)
    again.unpack(np.array([2]), alone.pack(np.array([0])))
    assert bits(results(again, [2])) == bits(results(alone, [0]))


def test_state_of_other_aggregates_is_refused() -> None:
    made = filled([Row.of(1)], [0], compiled=False)
    for other in (["variance"], ["variance", "n", "top_text"], ["own"]):
        foreign = accumulators(False, only=other)
        foreign.room(1)
        add(foreign, [0], [Row.of(1)])
        with pytest.raises(StateError, match="not of these aggregates"):
            made.unpack(np.array([1]), foreign.pack(np.array([0])))
        with pytest.raises(StateError, match="not of these aggregates"):
            foreign.unpack(np.array([0]), made.pack(np.array([0])))


@pytest.mark.parametrize("kind", ["series", "arrays", "texts"])
def test_columns_of_every_form(kind: str) -> None:
    if kind == "texts" and not kernels.available():
        pytest.skip("texts come with the kernels")
    found = [Row.of(n) for n in range(100)]
    want = everything(filled(found, [n % CELLS for n in range(100)], compiled=False))
    made = accumulators(kind == "texts")
    made.room(CELLS)
    given = dict(columns(found))
    for name, column in given.items():
        if kind == "arrays" and not column.null_count() and column.dtype.is_numeric():
            given[name] = column.to_numpy()
        elif kind == "texts" and column.dtype in (pl.String, pl.Binary):
            given[name] = hashes.texts_of(column)
    times = np.array([row.ts for row in found])
    made.add(np.arange(100) % CELLS, times, given)
    assert everything(made) == want


texts = st.lists(st.none() | st.text(max_size=40) | st.text("ab", min_size=7, max_size=9), max_size=80)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_hashes_of_strings(values: list[str | None]) -> None:
    series = pl.Series(values, dtype=pl.String)
    found, there = hashes.of(series, False)
    known = {}
    for i, value in enumerate(values):
        assert (there is None or bool(there[i])) == (value is not None)
        if value is not None:
            assert known.setdefault(value, int(found[i])) == int(found[i])
    assert len(set(known.values())) == len(known)
    binary = pl.Series([None if v is None else v.encode() for v in values], dtype=pl.Binary)
    assert hashes.of(binary, False)[0].tolist() == found.tolist()
    if kernels.available():
        assert hashes.of(series, True)[0].tolist() == found.tolist()
        again = hashes.texts_of(series)
        padded = Texts(np.concatenate([[np.uint8(7)], again.data]).astype(np.uint8), again.starts + 1, again.sizes)
        assert hashes.of(padded, True)[0].tolist() == hashes.of(padded, False)[0].tolist() == found.tolist()


def test_hashes_of_numbers() -> None:
    floats = np.array([0.0, -0.0, np.nan, -np.nan, 1.0, np.inf])
    found = hashes.of(floats, False)[0].tolist()
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(set(found)) == 4
    assert floats.tobytes() == np.array([0.0, -0.0, np.nan, -np.nan, 1.0, np.inf]).tobytes()
    nulls, there = hashes.of(pl.Series([True, None, False]), False)
    assert there is not None
    assert there.tolist() == [True, False, True]
    assert nulls[0] != nulls[2]


_GOLDEN = "b0d6861ddb4c532847ccb96195ec6944d027071bc45788576893c81a97db6cbf"

_PRINT = """
from tests.process.test_accumulators import digest
print(digest(%r))
"""


def digest(compiled: bool) -> str:
    """Of state and results of 3,000 rows in three cells, two of them merged."""
    import hashlib

    found = [Row.of(n) for n in range(3000)]
    made = filled(found, [n % 3 for n in range(3000)], range(500, 3000, 500), compiled=compiled)
    made.merge(np.array([0]), made, np.array([1]))
    return hashlib.sha256(repr(everything(made)).encode()).hexdigest()


@pytest.mark.parametrize("compiled", WAYS)
def test_a_replay_in_another_process_gives_the_same_bytes(compiled: bool) -> None:
    """The digest stands for state that is in changelogs: what changes it, changes what those mean."""
    assert digest(compiled) == _GOLDEN
    other = subprocess.run(
        [sys.executable, "-c", _PRINT % compiled], capture_output=True, text=True, check=True, timeout=120
    )
    assert other.stdout.strip() == _GOLDEN


def test_definition_is_what_the_kit_says() -> None:
    assert set(definition().aggregates) == set(AGGREGATES)
