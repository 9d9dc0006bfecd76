from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import Batch, Record
from streamproc.batch import column_types, frame_of, records_of
from streamproc.columns import Columns, Texts, values_in
from streamproc.errors import InvalidRecord


class Mixed(Record):
    text: str
    n: int
    x: float
    on: bool
    raw: bytes
    maybe: int | None
    many: list[int]


class Word(Record):
    text: str
    n: int


ROWS = [
    Mixed("a", 1, 0.5, True, b"\x00", None, []),
    Mixed("ä", -(2**63), float("inf"), False, b"", 2**63 - 1, [1, 2]),
    Mixed("", 0, -0.0, True, b"\xff", 0, [3]),
]


@pytest.fixture(params=["records", "columns", "both"])
def batch(request: pytest.FixtureRequest) -> Batch:
    """The same rows in each form."""
    offsets = np.array([3, 5, 8], np.int64)  # a compacted topic has gaps
    forms: dict[str, Any] = {"records": {"records": ROWS}, "columns": {"frame": frame_of(ROWS, Mixed)}}
    forms["both"] = forms["records"] | forms["columns"]
    return Batch("t", 2, Mixed, offsets, offsets * 100, **forms[request.param])


def test_both_forms_hold_the_same(batch: Batch):
    assert list(batch.records()) == ROWS
    assert batch.columns == ["text", "n", "x", "on", "raw", "maybe", "many"]
    assert batch["n"].to_list() == [1, -(2**63), 0]
    assert batch["maybe"].to_list() == [None, 2**63 - 1, 0]
    assert batch["many"].to_list() == [[], [1, 2], [3]]
    assert len(batch) == 3
    assert repr(batch) == "Batch(t[2] 3..8, 3 x Mixed)"


def test_columns_have_the_types_of_their_fields(batch: Batch):
    assert dict(batch.frame.schema) == column_types(Mixed)
    assert [batch[name].dtype for name in batch.columns] == list(column_types(Mixed).values())


@given(st.lists(st.builds(Mixed, st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.booleans(), st.binary(), st.none() | st.integers(-(2**63), 2**63 - 1), st.lists(st.integers()))))  # fmt: skip
def test_columns_become_the_records_again(rows: list[Mixed]):
    assert records_of(Columns.of(frame_of(rows, Mixed)), Mixed) == rows


def test_take_keeps_what_belongs_to_a_row(batch: Batch):
    part = batch.take(np.array([0, 2]))
    assert list(part.records()) == [ROWS[0], ROWS[2]]
    assert (part.offsets.tolist(), part.timestamps.tolist()) == ([3, 8], [300, 800])
    assert (part.topic, part.partition, part.record) == ("t", 2, Mixed)
    assert part["n"].to_list() == [1, 0]
    assert len(part.take(np.array([], np.int64)).records()) == 0


@pytest.mark.parametrize(
    ("start", "stop", "rows"), [(0, 3, [0, 1, 2]), (1, 2, [1]), (1, 99, [1, 2]), (3, 9, []), (2, 1, [])]
)
def test_slice(batch: Batch, start: int, stop: int, rows: list[int]):
    part = batch.slice(start, stop)
    assert list(part.records()) == [ROWS[i] for i in rows]
    assert part.offsets.tolist() == [(3, 5, 8)[i] for i in rows]
    assert part["n"].to_list() == [ROWS[i].n for i in rows]


@pytest.mark.parametrize(
    "mask",
    [
        pl.Series([True, False, True]),
        pl.Series([True, None, True]),
        pl.col("n") >= 0,
        np.array([True, False, True]),
    ],
    ids=["series", "with null", "expression", "array"],
)
def test_where(batch: Batch, mask: Any):
    assert list(batch.where(mask).records()) == [ROWS[0], ROWS[2]]


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (pl.Series([1, 0, 1]), "3 of Int64"),
        (pl.Series([True]), "1 of Boolean"),
        (pl.col("n"), "3 of Int64"),
    ],
)
def test_what_is_no_mask(batch: Batch, mask: Any, found: str):
    with pytest.raises(InvalidRecord) as caught:
        batch.where(mask)
    assert str(caught.value) == f"where: expected a boolean per row (3); got {found}"


def test_select_and_with_columns_are_polars(batch: Batch):
    words = batch.select("text", n=pl.col("n") + 1).as_type(Word)
    assert list(words.records()) == [Word("a", 2), Word("ä", -(2**63) + 1), Word("", 1)]
    assert (words.offsets.tolist(), words.record) == ([3, 5, 8], Word)
    assert batch.with_columns(n=pl.lit(7))["n"].to_list() == [7, 7, 7]
    assert batch["n"].to_list()[0] == 1


def test_rows_cannot_be_made_or_lost_by_columns(batch: Batch):
    with pytest.raises(InvalidRecord) as caught:
        batch.select(pl.col("n").sum())
    assert str(caught.value) == "a batch of 3 rows cannot take 1: each row belongs to an event"


def test_columns_that_are_not_the_types(batch: Batch):
    with pytest.raises(InvalidRecord) as caught:
        batch.select("text").as_type(Word).records()
    assert str(caught.value) == "Word: no column n; the columns are text"
    with pytest.raises(InvalidRecord) as caught:
        batch.select("text", "n", "x", "on").as_type(Word).records()
    assert str(caught.value) == "Word has no field on, x: select the columns that it has"


def test_an_unknown_column(batch: Batch):
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nope"):
        batch["nope"]


def test_one_column_of_records_is_made_alone():
    batch = Batch("t", 0, Mixed, np.arange(3), np.arange(3), records=ROWS)
    assert batch["n"].to_list() == [1, -(2**63), 0]
    assert batch._columns is None


@pytest.mark.parametrize("times", [1, 100])
def test_a_column_as_it_lies_holds_what_its_series_does(times: int):
    """Of few records it is no Series, where they are of one plain type."""
    rows = [Mixed("ä", 7, 0.5, True, b"\xff", None, []), Mixed("", -(2**63), float("-inf"), False, b"", 3, [1])]
    batch = Batch.of("t", 0, rows * times)
    lying = {name: batch.column(name) for name in column_types(Mixed)}
    series = {name: batch[name] for name in lying}
    few = [type(lying[name]) for name in ("text", "n", "x")] == [Texts, np.ndarray, np.ndarray]
    assert few == (times == 1)
    for name, dtype in column_types(Mixed).items():
        assert values_in(lying[name]) == series[name].to_list() == batch.frame[name].to_list()
        assert series[name].dtype == dtype


def test_numbers_of_the_other_kind():
    """JSON's 1 is a fine float; a record made by hand may hold it as an int."""
    batch = Batch.of("t", 0, [Mixed("a", 1, 2, True, b"", None, [])])
    assert batch["x"].to_list() == batch.frame["x"].to_list() == values_in(batch.column("x")) == [2.0]


class TestLending:
    """A batch of the columns that are needed gets its others when it is asked for records."""

    def lean(self) -> tuple[Batch, list[int]]:
        offsets, calls = np.arange(3), list[int]()
        whole = Batch("t", 0, Mixed, offsets, offsets, records=ROWS)

        def load() -> Batch:
            calls.append(1)
            return whole

        batch = Batch("t", 0, Mixed, offsets, offsets, frame=frame_of(ROWS, Mixed).select("n"))
        batch.lend(load)
        return batch, calls

    def test_records_are_whole(self):
        batch, calls = self.lean()
        assert batch["n"].to_list() == [1, -(2**63), 0]
        assert calls == []
        assert list(batch.records()) == ROWS
        batch.records()
        assert calls == [1]

    def test_so_are_those_of_a_part_of_a_part(self):
        batch, _ = self.lean()
        part = batch.slice(1, 3).where(pl.Series([False, True]))
        assert list(part.records()) == [ROWS[2]]


def test_of():
    batch = Batch.of("t", 1, [Word("a", 1), Word("b", 2)], first_offset=7, timestamp=9)
    assert (batch.offsets.tolist(), batch.timestamps.tolist(), batch.record) == ([7, 8], [9, 9], Word)
    assert repr(Batch.of("t", 1, [])) == "Batch(t[1] empty, 0 x Record)"
