from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import Record
from streamproc.columns import Columns, Texts
from streamproc.define.fields import fields
from streamproc.define.steps import FlatMap, Map, Select, Step, Where, WithColumns
from streamproc.errors import DefinitionError, InvalidRecord
from streamproc.process import queries
from streamproc.process.steps import Ran, StepsRunner


class Row(Record):
    name: str
    n: int
    x: float | None
    text: str | None = None


class Sized(Record):
    name: str
    size: int
    share: float | None = None


KNOWN = fields(Row)
Rows = list[dict[str, Any]]


def rows_of(*numbers: int) -> Rows:
    return [{"name": f"name {n}", "n": n, "x": n / 4, "text": str(n)} for n in numbers]


def columns_of(rows: Rows, form: str = "series") -> Columns:
    """Rows as columns, each as it may lie: a Series, an array where nothing is null, strings in a buffer."""
    types = {"name": pl.String, "n": pl.Int64, "x": pl.Float64, "text": pl.String}
    made: dict[str, Any] = {}
    for name, dtype in types.items():
        values = [row[name] for row in rows]
        made[name] = pl.Series(name, values, dtype=dtype)
        if form == "arrays" and None not in values:
            made[name] = Texts.of(values) if dtype == pl.String else made[name].to_numpy()
    return Columns(made, len(rows))


def listed(columns: Columns) -> list[dict[str, Any]]:
    values = {name: columns.values(name) for name in columns}
    return [{name: column[i] for name, column in values.items()} for i in range(len(columns))]


def run(steps: Sequence[Step], rows: Rows) -> Ran:
    return StepsRunner(steps, KNOWN).run(columns_of(rows))


def sources(ran: Ran) -> list[int]:
    return list(range(len(ran.columns))) if ran.rows is None else ran.rows.tolist()


def failing(ran: Ran) -> dict[int, str]:
    return {row: type(error).__name__ for row, error in ran.failed}


# An oracle: one row after the other, each step by itself.


def one_by_one(steps: Sequence[Step], rows: Rows) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    out, of, failed = [], [], []
    for i, row in enumerate(rows):
        frame = columns_of([row]).frame()
        try:
            for step in steps:
                frame = _apply(step, frame)
        except (Exception, pl.exceptions.PanicException):
            failed.append(i)
            continue
        out += frame.to_dicts()
        of += [i] * len(frame)
    return out, of, failed


def _apply(step: Step, frame: pl.DataFrame) -> pl.DataFrame:
    if isinstance(step, Where):
        return frame.filter(step.expr)
    if isinstance(step, WithColumns):
        return frame.with_columns(*step.exprs)
    if isinstance(step, Select):
        return frame.select(*step.exprs)
    made: list[Any] = []
    for row in frame.to_dicts():
        found = step.fn(step.record(**row))
        made += list(found) if isinstance(step, FlatMap) else [found]
    kept = [one for one in made if one is not None]
    types = {"name": pl.String, "size": pl.Int64, "share": pl.Float64}
    return pl.DataFrame([{name: getattr(one, name) for name in types} for one in kept], schema=types)


def sized(row: Any) -> Sized | None:
    if row.n % 7 == 3:
        raise ValueError(f"no {row.n}")
    return None if row.n % 5 == 0 else Sized(row.name, row.n, row.x)


def repeated(row: Any) -> Any:
    for i in range(row.n % 4):
        if row.n == 11 and i == 2:
            raise KeyError("the third")
        yield Sized(row.name, row.n + i, row.x)


N, X = pl.col("n"), pl.col("x")
EXPRESSED: list[Step] = [
    Where(N > 2),
    Where(X < 3),  # null counts as false
    Where(pl.col("text").cast(pl.Int64) > -5),  # raises where it is no number
    WithColumns((N * 2, (X + N).alias("y"))),
    WithColumns((pl.col("text").cast(pl.Int64).alias("number"), pl.lit("k").alias("kind"))),
    WithColumns((X.fill_null(0.5), pl.col("name").str.to_uppercase())),
    Select((pl.col("text"), N, pl.col("name"), X)),
    Select((X.alias("x"), (N % 3).alias("n"), pl.col("name").alias("text"), pl.lit("z").alias("name"))),
]
CALLED: list[Step] = [Map(Row, Sized, sized), FlatMap(Row, Sized, repeated)]
AFTER: list[Step] = [
    Where(pl.col("size") % 2 == 0),
    WithColumns((pl.col("size").cast(pl.UInt8).cast(pl.Int64).alias("byte"),)),  # raises below 0
    Select((pl.col("size"),)),
]

row = st.fixed_dictionaries(
    {
        "name": st.text(max_size=4),
        "n": st.integers(-3, 12),
        "x": st.none() | st.floats(-4, 4).map(lambda x: round(x, 2)),
        "text": st.none() | st.sampled_from(["0", "7", "-9", "seven", ""]),
    }
)
several = st.lists(st.sampled_from(EXPRESSED), max_size=4)


def _steps(draw: Callable[..., Any]) -> list[Step]:
    steps: list[Step] = draw(several)
    if draw(st.booleans()):
        # A function takes the record's fields alone.
        back = Select(tuple(pl.col(name) for name in KNOWN))
        steps = [*steps, back, draw(st.sampled_from(CALLED)), *draw(st.lists(st.sampled_from(AFTER), max_size=1))]
    return steps


@given(st.data(), st.lists(row, max_size=40), st.sampled_from(["series", "arrays"]))
@settings(deadline=None, max_examples=150)
def test_any_steps_equal_those_of_one_row_after_the_other_however_cut(data: st.DataObject, rows: Rows, form: str):
    steps = _steps(data.draw)
    runner = StepsRunner(steps, KNOWN)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    found: list[dict[str, Any]] = []
    of: list[int] = []
    failed: list[int] = []
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        ran = runner.run(columns_of(rows[start:stop], form))
        found += listed(ran.columns)
        of += [start + i for i in sources(ran)]
        failed += [start + i for i, _ in ran.failed]
    assert (found, of, failed) == one_by_one(steps, rows)


@given(st.lists(st.sampled_from([s for i, s in enumerate(EXPRESSED) if i not in (2, 4)]), max_size=5), st.lists(row))
@settings(deadline=None)
def test_expressions_equal_polars_on_the_whole_frame(steps: list[Step], rows: Rows):
    frame = columns_of(rows).frame()
    for step in steps:
        frame = _apply(step, frame)
    ran = run(steps, rows)
    assert not ran.failed
    assert ran.columns.frame().equals(frame) or (not len(frame) and ran.columns.frame().schema == frame.schema)


def test_all_rows_pass_as_they_are():
    ran = run([Where(N >= 0), WithColumns(((N + 1).alias("m"),))], rows_of(1, 2, 3))
    assert ran.rows is None
    assert ran.columns.values("m") == [2, 3, 4]


def test_a_step_does_not_see_the_rows_that_one_before_left_out():
    rows = rows_of(1, 2)
    rows[0]["text"] = "one"
    number = WithColumns((pl.col("text").cast(pl.Int64).alias("number"),))
    assert not run([Where(N > 1), number], rows).failed
    assert failing(run([number, Where(N > 1)], rows)) == {0: "InvalidOperationError"}


def test_a_step_reads_what_one_before_made():
    made = WithColumns(((N * 2).alias("twice"),))
    ran = run([made, Where(pl.col("twice") > 2), Select((pl.col("twice") + N,))], rows_of(1, 2, 3))
    assert listed(ran.columns) == [{"twice": 6}, {"twice": 9}]


def test_columns_that_no_expression_reads_go_on_as_they_lie():
    given_ = columns_of(rows_of(1, 2, 3), "arrays")
    ran = StepsRunner([Where(N > 1), WithColumns((X * 2,))], KNOWN).run(given_)
    name = ran.columns["name"]
    assert isinstance(name, Texts)
    assert name.data is given_["name"].data
    assert isinstance(ran.columns["n"], np.ndarray)
    assert listed(ran.columns) == [{"name": f"name {n}", "n": n, "x": n / 2, "text": str(n)} for n in (2, 3)]


@pytest.mark.parametrize("count", [1, 3])
def test_literals_alone(count: int):
    ran = run([Select((pl.lit(7, dtype=pl.Int64).alias("seven"),))], rows_of(*range(count)))
    assert listed(ran.columns) == [{"seven": 7}] * count


def test_no_rows():
    for step in [*EXPRESSED, *CALLED]:
        ran = run([step], [])
        assert len(ran.columns) == 0
        assert not ran.failed
        assert ran.columns.frame().columns == run([step], rows_of(1)).columns.frame().columns


def test_all_rows_raise():
    rows = [{**row, "text": "no number"} for row in rows_of(*range(9))]
    ran = run([WithColumns((pl.col("text").cast(pl.Int64).alias("number"),))], rows)
    assert failing(ran) == dict.fromkeys(range(9), "InvalidOperationError")
    assert len(ran.columns) == 0
    assert list(ran.columns) == [*KNOWN, "number"]
    assert sources(ran) == []


def test_a_row_that_raises_is_found_by_halving(monkeypatch: pytest.MonkeyPatch):
    calls = []
    collect = queries.Query._collect
    monkeypatch.setattr(queries.Query, "_collect", lambda *args: (calls.append(1), collect(*args))[1])
    rows = rows_of(*range(1024))
    rows[700]["text"] = "no number"
    ran = run([Where(pl.col("text").cast(pl.Int64) >= 0)], rows)
    assert failing(ran) == {700: "InvalidOperationError"}
    assert len(ran.columns) == 1023
    assert len(calls) <= 1 + 2 * 10


def test_a_panic_of_polars_is_one_rows_failure():
    rows = rows_of(0, 1, 2)
    rows[1]["n"] = 10**17  # ms; polars panics where it writes that year
    year = N.cast(pl.Datetime("ms")).dt.strftime("%Y").alias("year")
    ran = run([WithColumns((year,))], rows)
    assert ran.columns.values("year") == ["1970", "1970"]
    assert sources(ran) == [0, 2]
    ((at, error),) = ran.failed
    assert at == 1
    assert isinstance(error, InvalidRecord)
    assert "panicked" in str(error)


def test_an_interrupt_is_no_rows_failure():
    def stop(_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Map(Row, Sized, stop)], rows_of(1))


# Functions.


def test_a_function_leaves_out_gives_or_raises():
    ran = run([Map(Row, Sized, sized)], rows_of(1, 3, 5, 6))
    assert listed(ran.columns) == [{"name": f"name {n}", "size": n, "share": n / 4} for n in (1, 6)]
    assert sources(ran) == [0, 3]
    ((at, error),) = ran.failed
    assert at == 1
    assert str(error) == "no 3"
    assert error.__traceback__ is not None


def test_a_row_one_of_whose_results_raises_gives_none():
    def both(row: Row) -> list[Sized]:
        return [Sized(row.name, row.n), Sized(row.name, -row.n)]

    small = WithColumns((pl.col("size").cast(pl.UInt8).cast(pl.Int64).alias("byte"),))
    ran = run([FlatMap(Row, Sized, both), small], rows_of(0, 5, 0))
    assert sources(ran) == [0, 0, 2, 2]
    assert failing(ran) == {1: "InvalidOperationError"}
    ran = run([FlatMap(Row, Sized, repeated)], rows_of(3, 11))
    assert sources(ran) == [0, 0, 0]
    assert failing(ran) == {1: "KeyError"}


def test_as_many_results_as_rows_are_not_one_each():
    assert sources(run([FlatMap(Row, Sized, repeated)], rows_of(2, 0))) == [0, 0]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Row("a", 1, 1.0), "Sized, or None; the function gave Row"),
        ("a", "gave str 'a'"),
        (Sized(None, 1), "Sized.name: expected str; got NoneType None"),  # type: ignore[arg-type]
        (Sized("a", None), "Sized.size: expected int; got NoneType"),  # type: ignore[arg-type]
        (Sized("a", 1.5), "Sized.size: expected int; got float 1.5"),  # type: ignore[arg-type]
        (Sized("a", True), "Sized.size: expected int; got bool True"),
        (Sized("a", 2**63), "does not fit 64 bits"),
        (Sized("\ud800", 1), "surrogates not allowed"),
        (Sized("a", 1, "b"), "Sized.share: expected float | None; got str 'b'"),  # type: ignore[arg-type]
        (Sized("a", 1, 10**400), "Sized.share: expected float"),
    ],
)
@pytest.mark.parametrize("kind", [Map, FlatMap])
def test_results_that_are_not_what_was_said(found: Any, said: str, kind: Any):
    def function(row: Row) -> Any:
        made = found if row.n == 2 else Sized("b", row.n)
        return made if kind is Map else [made]

    ran = run([kind(Row, Sized, function)], rows_of(1, 2, 4))
    ((at, error),) = ran.failed
    assert at == 1
    assert isinstance(error, InvalidRecord)
    assert said in str(error)
    assert ran.columns.values("size") == [1, 4]
    assert sources(ran) == [0, 2]


def test_scalars_of_numpy_and_ints_for_floats_are_taken():
    made = [Sized("a", np.int64(5), np.float32(0.5)), Sized("b", 6, 2), Sized("c", 7, None)]  # type: ignore[arg-type]
    ran = run([Map(Row, Sized, lambda row: made[row.n])], rows_of(0, 1, 2))
    assert not ran.failed
    assert ran.columns.values("size") == [5, 6, 7]
    assert ran.columns.values("share") == [0.5, 2.0, None]


def test_a_function_may_not_change_the_field_by_which_rows_lie():
    step = Map(Row, Sized, lambda row: Sized(row.name if row.n else "other", row.n), same="name")
    ran = run([step], rows_of(0, 1))
    assert sources(ran) == [1]
    assert "rekey" in str(ran.failed[0][1])


def test_nested_values_go_through_as_objects():
    class Nested(Record):
        name: str
        parts: list[int]

    class Out(Record):
        parts: dict[str, int]

    step = Map(Nested, Out, lambda row: Out({row.name: sum(row.parts)}) if row.parts else Out(None))  # type: ignore[arg-type]
    given_ = Columns({"name": pl.Series(["a", "b"]), "parts": pl.Series([[1, 2], []], dtype=pl.Object)}, 2)
    ran = StepsRunner([step, Where(pl.lit(True))], fields(Nested)).run(given_)
    assert ran.columns.values("parts") == [{"a": 3}]
    assert failing(ran) == {1: "InvalidRecord"}


# Which columns must come.


@pytest.mark.parametrize(
    ("steps", "wanted", "needed"),
    [
        ([], None, None),
        ([], {"n"}, {"n"}),
        ([Where(N > 1)], None, None),
        ([Where(N > 1)], {"x"}, {"n", "x"}),
        ([Where(N > 1), Select((X.alias("y"),))], None, {"n", "x"}),
        ([Select((X.alias("y"), pl.col("name")))], {"y"}, {"x", "name"}),
        ([WithColumns(((N + 1).alias("x"),))], {"x"}, {"n"}),
        ([WithColumns(((X + 1).alias("x"),))], {"x"}, {"x"}),
        ([Map(Row, Sized, sized)], {"size"}, None),
        ([Map(Row, Sized, sized), Select((pl.col("size"),))], None, None),
    ],
)
def test_the_fields_that_are_needed(steps: list[Step], wanted: set[str] | None, needed: set[str] | None):
    runner = StepsRunner(steps, KNOWN, wanted=wanted)
    assert runner.fields == needed
    if needed is not None:  # no more of them are asked for
        whole = columns_of(rows_of(1, 2, 3))
        some = Columns({name: whole[name] for name in needed}, 3)
        got, want = runner.run(some).columns, runner.run(whole).columns
        assert all(got.values(name) == want.values(name) for name in wanted or want)


def test_expressions_must_name_their_columns():
    with pytest.raises(DefinitionError, match="name their columns"):
        StepsRunner([Where(pl.any_horizontal(pl.col("n", "x") > 0))], KNOWN)
