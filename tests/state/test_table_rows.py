"""Rows of tables as a task gives them, read without it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.define.table import Table, tables_of_task
from streamproc.errors import SettingsError, StateError
from streamproc.process.state import binary
from streamproc.process.tables import TableState
from streamproc.state.head import FORMAT, Head
from streamproc.state.row_filter import wanted
from streamproc.state.table_rows import (
    VERSION,
    TableRow,
    WrongKey,
    key_of,
    parsed,
    plain,
    readable,
    row_key,
    tables_in,
)

HEAD = Head(FORMAT, VERSION, {}, {}, {})


class Point(msgspec.Struct, frozen=True):
    x: float
    name: str


KEYS = st.text(max_size=5)
POINTS = st.builds(Point, st.floats(allow_nan=False, allow_infinity=False), KEYS)


@given(
    points=st.lists(st.tuples(KEYS, POINTS), max_size=20), pairs=st.lists(st.tuples(st.tuples(KEYS, st.integers(0, 9))))
)
def test_what_a_task_gives(points: list[tuple[str, Point]], pairs: list[tuple[tuple[str, int]]]) -> None:
    table: Table[Any] = Table("points", value=Point, ttl="1h")
    other: Table[Any] = Table("point", key=tuple[str, int], value=int)  # a name that the other begins with
    state = TableState({"points": table, "point": other})
    assert state.version() == VERSION
    token = tables_of_task.set(state)
    times: dict[str, int] = {}
    for i, (key, point) in enumerate(points):
        state.advance(i)
        table[key] = point
        times[key] = i
        state.commit()
    for (pair,) in pairs:
        other[pair] = 1
    state.commit()
    kept, counted = dict(table), dict(other)
    tables_of_task.reset(token)
    given = state.changes()
    found = tables_in(HEAD, given.keys, given.values)
    assert found.keys() == ({"points"} if kept else set()) | ({"point"} if counted else set())
    if kept:
        rows = list(found["points"].in_order())
        assert [(row.key, row.value) for row in rows] == [(k, {"x": p.x, "name": p.name}) for k, p in kept.items()]
        assert [row.written for row in rows] == [times[key] for key in kept]
        assert [row.number for row in rows] == list(range(len(kept)))
        assert found["points"].meaning.timed  # type: ignore[union-attr]
        assert len(found["points"]) == len(kept)
        assert found["points"].size > 2 * len(kept)
    if counted:
        assert [row.key for row in found["point"].in_order()] == [list(key) for key in counted]
        assert all(row.written is None for row in found["point"].in_order())


def test_what_is_no_table() -> None:
    state = binary([b"\x00\x01"]), binary([b"x"])
    assert tables_in(None, *state) == {}
    assert tables_in(Head(FORMAT, "windows-1-abc", {}, {}, {}), *state) == {}
    with pytest.raises(StateError, match="a row is of no table"):
        tables_in(HEAD, *state)
    found = tables_in(HEAD, binary([row_key("t", "a")]), binary([b"\xc1"]))
    with pytest.raises(StateError, match="table 't': a row cannot be read"):
        list(found["t"].in_order())
    with pytest.raises(StateError, match="a row of a table cannot be read"):
        parsed(row_key("t", "a"), b"")


def test_for_people() -> None:
    key, value = row_key("t", "a\x1b"), msgspec.msgpack.encode([3, {"x": [1.5, b"\xff"]}, 77])
    assert readable(key, value) == 't["a\\u001b"]: {"x": [1.5, "/w=="]} (number 3, written at 77)'
    assert readable(key, None) == 't["a\\u001b"]: none'
    assert readable(msgspec.msgpack.encode(["t"]), b"") == "the types of table 't'"
    assert readable(b"\x00\xff", b"ab") == "row 00ff: 6162"
    assert readable(row_key("t", 1), msgspec.msgpack.encode([1, "x" * 500])).endswith("… (number 1)")


def test_keys_from_text() -> None:
    assert key_of(Table("t"), "12") == "12"
    assert key_of(Table("t", key=int), "-12") == -12
    assert key_of(Table("t", key=tuple[str, int, bytes]), '["a", 1, "/w=="]') == ("a", 1, b"\xff")
    for kind, text in ((int, "1.5"), (int, str(1 << 70)), (tuple[str, int], '["a"]'), (tuple[str, int], '["a", "b"]')):
        with pytest.raises(WrongKey, match="table 't' has keys of"):
            key_of(Table("t", key=kind), text)


ROW = TableRow(["a1", 2], {"n": 3, "deep": {"list": [1, {"x": "y"}]}, "none": None, "yes": True}, 0, 50)


@pytest.mark.parametrize(
    ("condition", "takes"),
    [
        ("value.n > 2", True),
        ("value.n >= 4", False),
        ("value.n = 3", True),
        ("value.n==3.0", True),
        ("value.n != 3", False),
        ("value.n < x", False),  # another type
        ("value.deep.list.1.x == y", True),
        ('value.deep.list.1.x == "y"', True),
        ("value.deep.list.5 == 1", False),  # not there
        ("value.nothing == null", False),
        ("value.nothing != 1", True),
        ("value.none == null", True),
        ('value.deep.list == [1, {"x": "y"}]', True),
        ("key.0 == a1", True),
        ("key.1 <= 2", True),
        ("written < 51", True),
    ],
)
def test_conditions(condition: str, takes: bool) -> None:
    assert wanted(None, [condition])(ROW) is takes
    assert wanted(None, [condition, "value.n == 99"])(ROW) is False


def test_prefixes_and_what_is_no_condition() -> None:
    assert wanted("a", [])(ROW)
    assert not wanted("1", [])(ROW)
    assert wanted("12", [])(ROW._replace(key=123))
    for text in ("n > 2", "value", "value >", "values.x > 1", ""):
        with pytest.raises(SettingsError, match="--where: expected such as"):
            wanted(None, [text])


def test_plain() -> None:
    assert plain({1: float("inf"), "a": (b"", None, True, 2**63)}) == {"1": None, "a": ["", None, True, 2**63]}
