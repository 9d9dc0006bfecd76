"""Interval joins by example: what matches, when results come, what is kept of rows, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamproc import App
from streamproc.batch import frame_of
from streamproc.columns import Columns
from streamproc.define.pipeline import Pipeline
from streamproc.errors import StateError
from streamproc.process.events import Events, Ordered
from streamproc.process.joins import interval_chunks, interval_matches
from streamproc.process.joins.interval import IntervalOperator
from streamproc.process.state import NO_TEXTS, binary
from tests.process.joins_interval_kit import FOREVER, WAYS, Kept, Row, definition, ordered, results
from tests.process.kit import Sample

L, R = 0, 1
PLAIN = {"n": int}


@pytest.fixture(params=WAYS, ids=lambda compiled: "compiled" if compiled else "numpy")
def way(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def plain(low: int, high: int, how: str) -> Any:
    return definition(low, high, how, str, PLAIN, PLAIN)


def rows(*given: tuple[int, str | None, int]) -> list[Row]:
    """Their ``n`` counts them."""
    return [Row(side, key, time, (n,)) for n, (side, key, time) in enumerate(given)]


def taken(operator: IntervalOperator, join: Any, given: list[Row], frontier: int) -> list[tuple[Any, Any, Any, int]]:
    """Key, left's ``n``, right's ``n`` and time of what a take gives."""
    found = results(operator.take(ordered(given, join), frontier))
    return [(r.values["k"], r.values["n"], r.values["n_right"], r.time) for r in found]


def test_both_bounds_are_within(way: bool):
    """Right from 5 before to 2 after.

    time   0  1  2  3  4  5  6  7  8
    left                  x
    right  .        .        .  x  .     all but 8 match
    """
    join = plain(-5, 2, "inner")
    given = rows((R, "a", 0), (R, "a", 3), (L, "a", 5), (R, "b", 5), (R, "a", 6), (R, "a", 7), (R, "a", 8))
    assert taken(IntervalOperator(join, way), join, given, FOREVER) == [
        ("a", 2, 0, 5),
        ("a", 2, 1, 5),
        ("a", 2, 4, 6),
        ("a", 2, 5, 7),
    ]


def test_a_row_alone_comes_when_nothing_can_match_it_any_more(way: bool):
    join = plain(-3, 10, "outer")
    operator = IntervalOperator(join, way)
    assert taken(operator, join, rows((L, "a", 0), (R, "b", 0)), 3) == []
    assert taken(operator, join, [], 4) == [("b", None, 1, 0)]  # left may be 3 later
    assert taken(operator, join, [], 10) == []
    assert taken(operator, join, [], 11) == [("a", 0, None, 0)]
    assert operator.kept == 0


def test_the_order_of_one_moment(way: bool):
    """Pairs, then what is alone: of the left, of the right."""
    join = plain(-10, 10, "outer")
    given = rows((L, "x", 0), (R, "y", 0), (L, "a", 9), (R, "a", 10), (L, "a", 10))[:4]
    operator = IntervalOperator(join, way)
    assert taken(operator, join, given, 10) == [("a", 2, 3, 10)]
    assert taken(operator, join, [], 11) == [("x", 0, None, 0), ("y", None, 1, 0)]


def test_rows_whose_matches_are_all_in_the_past_are_alone_at_once(way: bool):
    join = plain(-10, -5, "left")
    operator = IntervalOperator(join, way)
    assert taken(operator, join, rows((R, "a", 0), (L, "a", 4), (L, "a", 5)), 5) == [("a", 1, None, 4), ("a", 2, 0, 5)]
    assert operator.kept == 2  # left at 5 has come, but there may be more of that time before its own result would


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ("inner", []),
        ("left", [(None, 0, None, 0)]),
        ("outer", [(None, 0, None, 0), (None, None, 1, 0)]),
    ],
)
def test_null_matches_nothing(way: bool, how: str, want: list[Any]):
    join = plain(-1, 1, how)
    operator = IntervalOperator(join, way)
    assert taken(operator, join, rows((L, None, 0), (R, None, 0)), 1) == []
    assert operator.kept == len(want)  # what can be no result is not kept
    assert taken(operator, join, [], FOREVER) == want


@pytest.mark.parametrize("far", [2**63 - 1, 2**62, -(2**63), -(2**62)])
def test_times_at_the_edge_of_64_bits(way: bool, far: int):
    join = plain(-60_000, 60_000, "outer")
    given = sorted(rows((L, "a", 0), (R, "a", 1), (L, "b", far), (R, "a", far)), key=lambda row: row.time)
    found = taken(IntervalOperator(join, way), join, given, FOREVER)
    assert sorted((row[:3] for row in found), key=str) == [("a", 0, 1), ("a", None, 3), ("b", 2, None)]


@pytest.mark.parametrize(
    "given",
    [[(L, "a", 5), (R, "a", 4)], [(L, "a", 5), (L, "a", 4)], [(R, "a", -1)]],
    ids=["sides", "one side", "before the frontier"],
)
def test_rows_out_of_order_are_refused(way: bool, given: Any):
    join = plain(-1, 1, "inner")
    operator = IntervalOperator(join, way)
    operator.take(ordered([], join), 0)
    with pytest.raises(ValueError, match="order of their times"):
        operator.take(ordered(rows(*given), join), 10)


def test_a_hot_key_does_not_make_all_of_its_pairs_at_once(way: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interval_matches, "AT_ONCE", 1000)
    join = plain(-10, 10, "outer")
    operator = IntervalOperator(join, way)
    given = [Row(at % 2, "hot", 0, (at,)) for at in range(400)]
    given.sort(key=lambda row: row.side)
    parts = operator.parts(ordered(given, join), 1)
    assert len(next(parts)) == 1000
    with pytest.raises(RuntimeError, match="asked for"):
        operator.changes()
    with pytest.raises(RuntimeError, match="asked for"):
        operator.take(ordered([], join), 2)
    assert [len(part) for part in parts] == [1000] * 39
    operator.changes()


def test_a_row_larger_than_a_record_is_kept_in_pieces(way: bool):
    join = definition(-10, 10, "outer", str, {"s": str}, {"s": str})
    operator, kept = IntervalOperator(join, way), Kept()
    given = [Row(L, "a", 0, ("x",)), Row(L, "a", 0, ("ü" * 900_000,)), Row(L, "a", 0, ("y",))]
    operator.take(ordered(given, join), 0)
    kept.flush(operator)
    assert max(map(len, kept.rows.values())) <= 512 << 10
    assert operator.chunks == 3
    back = kept.brought_back(join, way)
    found = results(back.take(ordered([Row(R, "a", 1, ("z",))], join), FOREVER))
    assert [r.values["s"] for r in found] == [row.values[0] for row in given]
    kept.flush(back)
    assert kept.rows == {}


def test_few_rows_at_a_time_do_not_make_many_chunks(way: bool):
    join = plain(-(10**6), 10**6, "outer")
    operator, kept = IntervalOperator(join, way), Kept()
    for at in range(1000):
        operator.take(ordered([Row(at % 2, f"{at}", at, (at,))], join), at)
        kept.flush(operator)
    assert operator.kept == 1000
    assert len(kept.rows) <= 2 * (500 * 60 // interval_chunks._SMALL + 1)
    back = kept.brought_back(join, way)
    assert len(taken(back, join, [], FOREVER)) == 1000


def test_rows_that_match_later_are_told_by_flags_alone(way: bool):
    join = plain(0, 10**6, "left")
    operator, kept = IntervalOperator(join, way), Kept()
    given = [Row(L, f"{at}", 0, (at,)) for at in range(1000)]
    operator.take(ordered(given, join), 0)
    kept.flush(operator)
    before = dict(kept.rows)
    operator.take(ordered([Row(R, "7", 5, (0,)), Row(R, "999", 5, (0,))], join), 6)
    assert kept.flush(operator) == 1
    (flags,) = kept.rows.keys() - before.keys()
    assert len(kept.rows[flags]) < 200
    found = taken(kept.brought_back(join, way), join, [], FOREVER)
    assert [n for _, n, _, _ in found] == [at for at in range(1000) if at not in (7, 999)]


def test_a_chunk_that_is_written_anew_takes_its_flags_in(way: bool):
    join = plain(0, 10**6, "left")
    operator, kept = IntervalOperator(join, way), Kept()
    for given in ([Row(L, "a", 0, (1,))], [Row(R, "a", 1, (2,))], [Row(L, "b", 2, (3,))]):
        operator.take(ordered(given, join), 0)
        kept.flush(operator)
        assert len([key for key in kept.rows if key[1] == interval_chunks._FLAGS]) == (given[0].side == R)
    assert taken(kept.brought_back(join, way), join, [], FOREVER) == [("b", 3, None, 2)]


def test_both_ways_keep_the_same_bytes():
    kept = []
    for compiled in WAYS:
        join = definition(-10, 10, "outer", int, {"s": str, "raw": bytes, "n": int}, {"more": dict[str, int]})
        operator = IntervalOperator(join, compiled)
        given = [Row(L, None, 0, ("ü", b"\xff", None)), Row(L, 5, 0, (None, None, 1)), Row(R, 5, 0, ({"a": 1},))]
        operator.take(ordered(given, join), 0)
        kept.append(Kept())
        kept[-1].flush(operator)
    assert all(each.rows == kept[0].rows for each in kept)


# State that is not its own.


@pytest.mark.parametrize(
    "other",
    [
        definition(-1, 2, "inner"),
        definition(0, 1, "inner"),
        definition(-1, 1, "left"),
        definition(-1, 1, "inner", int),
        definition(-1, 1, "inner", left={"n": int}),
        definition(-1, 1, "inner", right={"n": float}),
    ],
    ids=["high", "low", "how", "key", "fields", "types"],
)
def test_the_version_tells_what_rows_mean(other: Any):
    assert IntervalOperator(other).version() != IntervalOperator(definition(-1, 1, "inner")).version()
    assert IntervalOperator(other).version() == IntervalOperator(other, False).version()


def _kept(way: bool) -> tuple[Any, Kept]:
    join = plain(-10, 10, "outer")
    operator, kept = IntervalOperator(join, way), Kept()
    operator.take(ordered([Row(L, "a", 0, (1,)), Row(L, None, 0, (2,))], join), 0)
    kept.flush(operator)
    operator.take(ordered([Row(R, "a", 0, (3,))], join), 1)
    kept.flush(operator)
    return join, kept


def test_state_that_lacks_a_row_is_refused(way: bool):
    join, kept = _kept(way)
    chunks = [key for key in kept.rows if key[1] == interval_chunks._CHUNK]
    assert len(chunks) == len(kept.rows) - 1 == 2
    for key in chunks:
        value = kept.rows.pop(key)
        with pytest.raises(StateError):
            kept.brought_back(join, way)
        kept.rows[key] = value
    kept.brought_back(join, way)


def test_state_that_is_damaged_is_refused(way: bool):
    join, kept = _kept(way)
    for key, value in list(kept.rows.items()):
        for damaged in (b"", b"\xc1", value[:-1], value + b"\x00", value.replace(b"\xc4\x08", b"\xc4\x07")):
            if damaged != value:
                with pytest.raises(StateError):
                    Kept.brought_back(_with(kept, {key: damaged}), join, way)
    for key in (b"", b"\x02" + bytes(13), b"\x00\x02" + bytes(12)):
        with pytest.raises(StateError, match="key of a chunk"):
            _with(kept, {key: b""}).brought_back(join, way)


def _with(kept: Kept, rows: dict[bytes, bytes]) -> Kept:
    other = Kept()
    other.rows, other.header, other.version = {**kept.rows, **rows}, kept.header, kept.version
    return other


def test_an_empty_state(way: bool):
    join = plain(-10, 10, "outer")
    operator = IntervalOperator(join, way)
    assert operator.changes() == (NO_TEXTS, NO_TEXTS, NO_TEXTS) or not len(operator.changes().keys)
    back = IntervalOperator(join, way)
    back.restore(operator.header(), binary([]), binary([]))
    assert taken(back, join, rows((L, "a", -5), (R, "a", 0)), FOREVER) == [("a", 0, 1, 0)]


# As it is defined.


def test_a_join_as_one_defines_it(way: bool):
    app = App("joins")
    first, second = (app.topic(name, Sample, key="unit", time="ts") for name in ("first", "second"))
    flow = first.join(second, within=("0s", "10m"), suffix="_2")
    flow.select("unit", "i", "f", "ni", "nf", ts="ts_2").to("joined", Sample, key="unit", time="ts")
    stage = app.agents["joined"]
    assert isinstance(stage, Pipeline)
    given = [Sample("x", 0, 1), Sample("x", 600_000, 2), Sample("x", 600_001, 3)]
    sides = [
        Events(Columns.of(frame_of(rows, Sample)), np.array([row.ts for row in rows]), np.arange(len(rows)) + 7)
        for rows in (given[:1], given[1:])
    ]
    found = IntervalOperator(stage, way).take(Ordered(tuple(sides), np.array([0, 1, 1])), FOREVER)
    assert list(found.columns) == list(stage.fields)
    (row,) = found.columns.frame().rows(named=True)
    assert (row["unit"], row["ts"], row["ts_2"], row["i"], row["i_2"]) == ("x", 0, 600_000, 1, 2)
    assert (found.times.tolist(), found.stamps.tolist()) == ([600_000], [7])
