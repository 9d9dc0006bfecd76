"""Expressions that look at other rows are refused; those that look at one are not. Nulls are seen where they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from streamproc.define.fields import Field
from streamproc.define.probing import check_rows, may_be_null, never_null
from streamproc.errors import DefinitionError

KNOWN = {
    "n": Field("n", int, False),
    "maybe": Field("maybe", int, True),
    "x": Field("x", float, False),
    "s": Field("s", str, False),
    "note": Field("note", str, True),
    "on": Field("on", bool, False),
    "raw": Field("raw", bytes, False),
    "tags": Field("tags", list[str], False),
}
N, MAYBE, X, S, NOTE = (pl.col(name) for name in ("n", "maybe", "x", "s", "note"))


def halvings(n: int) -> int:
    found = 0
    while n > 1:
        n, found = n // 2, found + 1
    return found


ROW_BY_ROW: dict[str, pl.Expr] = {
    "arithmetic": N * 2 + MAYBE - X,
    "division": N // N,
    "comparison": (N > 3) & ~pl.col("on"),
    "literal": pl.lit(1),
    "when": pl.when(N > 3).then(X).otherwise(0),
    "fill": MAYBE.fill_null(0),
    "coalesce": pl.coalesce(MAYBE, N),
    "horizontal": pl.max_horizontal("n", "x"),
    "all_horizontal": pl.sum_horizontal(pl.selectors.numeric()),
    "text": S.str.to_uppercase() + pl.format("-{}", N),
    "parsed": S.cast(pl.Int64),
    "parsed loosely": S.cast(pl.Int64, strict=False),
    "date": S.str.to_datetime("%Y-%m-%d", strict=False).dt.epoch("ms"),
    "hour": pl.from_epoch("n", time_unit="ms").dt.hour(),
    "in": N.is_in([1, 2]),
    "replace": S.replace_strict({"a": "x"}, default="y"),
    "list": S.str.split(",").list.eval(pl.element().str.len_chars()).list.sum(),
    "struct": pl.struct("n", "s").struct.field("n"),
    "hash": S.hash() % 5,
    "log": X.log(),
    "clip": N.clip(1, 5),
    "numpy": np.sqrt(X),
    "function of a value": N.map_elements(halvings, return_dtype=pl.Int64),
    "function of columns": N.map_batches(lambda n: n + 1, return_dtype=pl.Int64),
    "function of objects": pl.col("tags").map_elements(len, return_dtype=pl.Int64),
}
OTHER_ROWS: dict[str, pl.Expr] = {
    "shift": N.shift(1),
    "diff": X.diff(),
    "mean": X - X.mean(),
    "max": pl.when(N.max() == N).then(1).otherwise(0),
    "cum_sum": N.cum_sum(),
    "over": N.sum().over("s"),
    "rank": N.rank(),
    "rolling": X.rolling_mean(3),
    "ewm": X.ewm_mean(alpha=0.5),
    "forward fill": MAYBE.fill_null(strategy="forward"),
    "forward fill of what is rare": pl.when(N > 10**12).then(1).forward_fill(),
    "interpolate": MAYBE.interpolate(),
    "sort": N.sort(),
    "reverse": N.reverse(),
    "shuffle": N.shuffle(),
    "first": N.first(),
    "len": pl.len(),
    "duplicated": S.is_duplicated(),
    "in another column": N.is_in(MAYBE.implode()),
    "format guessed of the first": S.str.to_datetime(strict=False),
    "function of columns": N.map_batches(lambda n: n.cum_sum(), return_dtype=pl.Int64),
}
OTHER_LENGTH: dict[str, pl.Expr] = {
    "filter": N.filter(N > 3),
    "explode": S.str.split(",").explode(),
    "unique": N.unique(),
    "drop_nulls": MAYBE.drop_nulls(),
    "head": N.head(3),
    "index": pl.int_range(pl.len()),
}


@pytest.mark.parametrize("expr", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_row_by_row(expr: pl.Expr):
    check_rows(expr, KNOWN, "here")


@pytest.mark.parametrize("expr", OTHER_ROWS.values(), ids=OTHER_ROWS)
def test_what_looks_at_other_rows(expr: pl.Expr):
    with pytest.raises(DefinitionError, match=r"^here: .* looks at other rows, so what it gives would depend on how"):
        check_rows(expr, KNOWN, "here")


@pytest.mark.parametrize("expr", OTHER_LENGTH.values(), ids=OTHER_LENGTH)
def test_more_or_fewer_values_than_rows(expr: pl.Expr):
    with pytest.raises(DefinitionError, match=r"^here: expected an expression that gives one value for each row; got"):
        check_rows(expr, KNOWN, "here")


class TestTryingAlone:
    """Where polars says nothing, or too little, the rows that are tried say it."""

    @pytest.mark.parametrize("name", ["shift", "mean", "cum_sum", "over", "forward fill", "max", "len", "first"])
    def test_sees_it(self, monkeypatch: pytest.MonkeyPatch, name: str):
        monkeypatch.setattr("streamproc.define.probing._said", lambda expr: (True, False))
        with pytest.raises(DefinitionError):
            check_rows(OTHER_ROWS[name], KNOWN, "here")

    def test_rows_that_raise_are_left_out(self):
        def odd(n: int) -> int:
            if n % 2:
                raise ValueError(n)
            return n

        expr = N.map_elements(odd, return_dtype=pl.Int64)
        check_rows(expr, KNOWN, "here")
        assert not may_be_null(expr, KNOWN)

    def test_where_all_raise_nothing_is_said(self):
        def never(_: Any) -> int:
            raise ValueError

        expr = MAYBE.map_elements(never, return_dtype=pl.Int64, skip_nulls=False)
        check_rows(expr, KNOWN, "here")
        assert may_be_null(expr, KNOWN)  # as what it reads may be
        assert not may_be_null(N.map_elements(never, return_dtype=pl.Int64), KNOWN)


class TestNulls:
    @pytest.mark.parametrize(
        "expr",
        [
            MAYBE,
            MAYBE + N,
            NOTE.str.len_chars(),
            pl.when(N > 3).then(N),
            S.cast(pl.Int64, strict=False),
            pl.coalesce(MAYBE, pl.when(X > 2).then(1)),
        ],
        ids=str,
    )
    def test_may_come(self, expr: pl.Expr):
        assert may_be_null(expr, KNOWN)

    @pytest.mark.parametrize(
        "expr",
        [
            N + 1,
            N // pl.col("n"),
            X.log(),
            MAYBE.fill_null(0),
            MAYBE.is_null(),
            pl.coalesce(MAYBE, N),
            pl.max_horizontal("maybe", "n"),
            pl.when(MAYBE.is_not_null()).then(MAYBE).otherwise(0),
            S.cast(pl.Int64),
        ],
        ids=str,
    )
    def test_do_not_come(self, expr: pl.Expr):
        assert not may_be_null(expr, KNOWN)

    @pytest.mark.parametrize(
        ("expr", "names"),
        [
            (MAYBE.is_not_null(), {"maybe"}),
            (MAYBE > 10**12, {"maybe"}),  # true of none that is tried; of null it cannot be
            (MAYBE.is_not_null() & NOTE.is_not_null(), {"maybe", "note"}),
            (MAYBE.is_not_null() | (N > 3), set()),
            (MAYBE.is_null(), set()),
            (N > 3, set()),
            (pl.coalesce(MAYBE, N) > 3, set()),
        ],
        ids=["not null", "greater", "both not null", "or", "null", "another", "coalesce"],
    )
    def test_kept_out_by_a_condition(self, expr: pl.Expr, names: set[str]):
        assert never_null(expr, KNOWN).keys() == names


def test_functions_are_not_called_with_what_is_null_where_nothing_may_be():
    seen: list[Any] = []
    function: Callable[[Any], int] = lambda n: seen.append(n) or 1  # type: ignore[func-returns-value]  # noqa: E731
    check_rows(N.map_elements(function, return_dtype=pl.Int64, skip_nulls=False), KNOWN, "here")
    assert seen
    assert None not in seen
