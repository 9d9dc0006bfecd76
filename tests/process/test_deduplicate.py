from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.columns import Columns, Texts
from streamproc.define.fields import Field
from streamproc.define.operators import Deduplicate
from streamproc.define.pipeline import Input, Pipeline
from streamproc.process import deduplicate, keys
from streamproc.process.deduplicate import DeduplicateOperator
from streamproc.process.state import items

WAYS = [False, True] if compiled.available() else [False]
way = pytest.mark.parametrize("fast", WAYS, ids=["plain", "compiled"][: len(WAYS)])
kinds = pytest.mark.parametrize("kind", [str, int])
Row = tuple[int | None, int]  # id, event time


def operator(kind: type, within: int, fast: bool, name: str = "id") -> DeduplicateOperator:
    known = {name: Field(name, kind, True)}
    topic: Any = None
    source = Input(topic, (), known, name, None)
    return DeduplicateOperator(Pipeline("once", (source,), Deduplicate(name, within), known, (), (), (None,)), fast)


def columns_of(ids: list[Any], kind: type, form: str) -> Columns:
    ids = [None if one is None else kind(one) for one in ids]
    column: Any = pl.Series(ids, dtype=pl.String if kind is str else pl.Int64)
    if form == "arrays" and kind is int and None not in ids:
        column = column.to_numpy()
    if form == "arrays" and kind is str:
        column = Texts.of([one or "" for one in ids])
        column.sizes = np.where([one is None for one in ids], -1, column.sizes)
    return Columns({"id": column}, len(ids))


def take(state: DeduplicateOperator, rows: list[Row], kind: type = int, form: str = "series") -> list[int]:
    columns = columns_of([one for one, _ in rows], kind, form)
    return state.take(columns, np.array([time for _, time in rows], np.int64)).tolist()


def one_by_one(rows: list[Row], within: int) -> list[int]:
    """What its docstring says, in a dictionary."""
    passed: dict[int, int] = {}
    found, seen = [], None
    for i, (one, time) in enumerate(rows):
        seen = time if seen is None else max(seen, time)
        passed = {key: then for key, then in passed.items() if seen <= then + within}
        if one is None or one not in passed:
            found.append(i)
        if one is not None:
            passed.setdefault(one, time)
    return found


class Log:
    """What a changelog has."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def hear(self, state: DeduplicateOperator) -> None:
        put, values, gone = map(items, state.changes())
        assert not set(put) & set(gone)
        assert len(set(put)) == len(put)
        for key in gone:
            del self.rows[key]  # of nothing else is said that it is gone
        self.rows |= zip(put, values, strict=True)

    def restored(self, state: DeduplicateOperator, fresh: DeduplicateOperator) -> DeduplicateOperator:
        from streamproc.process.state import binary

        fresh.restore(state.header(), binary(list(self.rows)), binary(list(self.rows.values())))
        return fresh


rows = st.lists(st.tuples(st.none() | st.integers(0, 9), st.integers(0, 60)), max_size=80)


@way
@kinds
@given(st.data(), rows, st.integers(0, 20), st.sampled_from(["series", "arrays"]), st.booleans())
@settings(deadline=None, max_examples=80)
def test_it_equals_one_row_after_the_other_however_cut_and_restored(
    kind: type, fast: bool, data: st.DataObject, rows: list[Row], within: int, form: str, rising: bool
):
    rows = sorted(rows, key=lambda row: row[1]) if rising else rows
    state, log = operator(kind, within, fast), Log()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    rounds, least = data.draw(st.sampled_from([(1, 1), (4, 64)]))
    found: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplicate, "_ROUNDS", rounds)
        patch.setattr(deduplicate, "_LEAST", least)
        patch.setattr(keys, "_FEW", 1 if least == 1 else 32)
        for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            found += [start + i for i in take(state, rows[start:stop], kind, form)]
            then = data.draw(st.sampled_from(["go on", "flush", "restore", "restore elsewhere"]))
            if then != "go on":
                log.hear(state)
            if then.startswith("restore"):
                other = WAYS[-1] if then == "restore elsewhere" else fast
                state = log.restored(state, operator(kind, within, other))
    assert found == one_by_one(rows, within)


@pytest.mark.parametrize(
    ("rows", "passing"),
    [
        #  id passes at 0; ten later it is remembered still, eleven later no more.
        ([(1, 0), (1, 10), (1, 11)], [0, 2]),
        # What does not pass does not make it longer.
        ([(1, 0), (1, 6), (1, 12)], [0, 2]),
        # Another id's event moves the stream time on; then a late one passes.
        ([(1, 0), (2, 11), (1, 5)], [0, 1, 2]),
        # It is not remembered, as its own time is over.
        ([(1, 0), (2, 20), (1, 5), (1, 6)], [0, 1, 2, 3]),
        # Late, yet within.
        ([(2, 10), (1, 5), (1, 6), (2, 9)], [0, 1]),
        # Null ids pass always.
        ([(None, 0), (None, 0), (1, 0), (None, 3)], [0, 1, 2, 3]),
        # Null ids move the stream time on.
        ([(1, 0), (None, 11), (1, 0)], [0, 1, 2]),
        ([], []),
    ],
)
@way
@kinds
def test_by_hand(kind: type, fast: bool, rows: list[Row], passing: list[int]):
    assert take(operator(kind, 10, fast), rows, kind) == passing
    state = operator(kind, 10, fast)
    assert [i for i, row in enumerate(rows) for _ in take(state, [row], kind)] == passing


@way
def test_times_at_the_ends_of_64_bits(fast: bool):
    ends = [(1, -(2**63)), (1, 0), (1, 2**63 - 1), (1, 2**63 - 1), (1, -(2**63))]
    assert take(operator(int, 10, fast), ends) == [0, 1, 2]
    assert take(operator(int, 2**63 - 1, fast), ends) == [0]


@way
@kinds
def test_awkward_ids(kind: type, fast: bool):
    ids: list[Any] = ["", "\0", "ä", "a\u0308", "x" * 70_000] if kind is str else [0, -1, 2**63 - 1, -(2**63)]
    state, log = operator(kind, 10, fast), Log()
    column = Columns({"id": pl.Series(ids * 2)}, 2 * len(ids))
    assert state.take(column, np.zeros(2 * len(ids), np.int64)).tolist() == list(range(len(ids)))
    log.hear(state)
    again = log.restored(state, operator(kind, 10, fast))
    assert again.take(column, np.zeros(2 * len(ids), np.int64)).tolist() == []


@way
@kinds
def test_ids_that_are_over_are_forgotten(kind: type, fast: bool):
    """As many ids are held as come within the time, but for what waits to be looked through."""
    state, log = operator(kind, 2000, fast), Log()
    for start in range(0, 200_000, 1000):
        assert len(take(state, [(i, i) for i in range(start, start + 1000)], kind)) == 1000
        assert take(state, [(i, start) for i in range(start - 500, start + 1000, 7) if i >= 0], kind) == []
        if start % 5000 == 0:
            log.hear(state)
        assert state.ids < 12_000
        assert len(log.rows) < 12_000
    arrays = [value for value in vars(state).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 5
    assert all(len(array) <= 32_768 for array in arrays)


@way
def test_without_a_changelog_they_are_forgotten_too(fast: bool):
    state = operator(int, 2000, fast)
    for start in range(0, 100_000, 1000):
        take(state, [(i, i) for i in range(start, start + 1000)])
        assert state.ids < 8_000


@way
@kinds
def test_the_changelog_hears_of_what_is_over_and_of_what_came_again(kind: type, fast: bool):
    state, log = operator(kind, 10, fast), Log()
    old, more = [(i, 0) for i in range(100)], [(i, 100) for i in range(100, 200)]
    take(state, old, kind)
    log.hear(state)
    assert len(log.rows) == 100
    for held in (state, log.restored(state, operator(kind, 10, fast))):
        mine = Log()
        mine.rows |= log.rows
        take(held, more, kind)
        assert take(held, [(5, 100), (6, 100)], kind) == [0, 1]
        mine.hear(held)
        again = mine.restored(held, operator(kind, 10, fast))
        assert len(mine.rows) == 102
        assert again.ids == 102
        assert take(again, [(5, 110), (150, 110), (7, 110)], kind) == [2]


@way
def test_one_id_that_passes_every_second_row_of_many(fast: bool):
    rows = [(1, time) for start in range(0, 1100, 11) for time in (start, start + 10)]
    assert take(operator(int, 10, fast), rows) == list(range(0, 200, 2))


@way
def test_one_id_that_passes_at_every_row(fast: bool):
    state = operator(int, 0, fast)
    assert take(state, [(1, i) for i in range(5000)]) == list(range(5000))
    assert take(state, [(i % 2, 5000 + i) for i in range(5000)]) == list(range(5000))


def test_the_version_tells_what_ids_are():
    assert operator(int, 1, False).version() == operator(int, 2, False).version()
    assert operator(int, 1, False).version() != operator(str, 1, False).version()
    assert operator(int, 1, False).version() != operator(int, 1, False, "other").version()
