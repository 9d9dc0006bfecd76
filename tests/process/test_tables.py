from __future__ import annotations

import datetime
import enum
import gc
import math
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import App, Record, Table
from streamproc.define.table import tables_of_task
from streamproc.errors import InvalidRecord, StateError
from streamproc.process.state import binary, items
from streamproc.process.tables import TableState


class Point(Record):
    x: float
    names: tuple[str, ...] = ()


class Node(msgspec.Struct):
    n: int
    below: list[Node] = []


class Pair(NamedTuple):
    a: int
    b: str | None


@dataclass
class Box:
    things: list[int] = field(default_factory=list)
    name: str = ""


@dataclass(frozen=True)
class Fixed:
    at: int


@dataclass
class Growing:
    """What it is made of is not what it holds."""

    n: int

    def __post_init__(self) -> None:
        self.n += 1


class Said(TypedDict):
    what: str


class Level(enum.IntEnum):
    low = 1
    high = 2


class Colour(enum.Enum):
    red = "r"


def changelog_of(state: TableState, before: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
    """What the changelog holds once it has the state's changes too."""
    changes = state.changes()
    rows = {**(before or {}), **dict(zip(items(changes.keys), items(changes.values), strict=True))}
    for key in items(changes.gone):
        del rows[key]
    return rows


def restored(app: App, header: dict[str, int | None], rows: dict[bytes, bytes]) -> TableState:
    state = TableState(app.tables)
    state.restore(header, binary(list(rows)), binary(list(rows.values())))
    tables_of_task.set(state)
    return state


def crashed(app: App, state: TableState) -> TableState:
    """A new task, with what the changelog of a new one had."""
    return restored(app, state.header(), changelog_of(state))


def done(state: TableState) -> None:
    state.check()
    state.commit()


@pytest.fixture
def app() -> Iterator[App]:
    app = App("test")
    token = tables_of_task.set(TableState(app.tables))
    yield app
    tables_of_task.reset(token)


@pytest.fixture
def state(app: App) -> TableState:
    """For tables that are declared before it: ask for it last."""
    return tables_of_task.get()  # type: ignore[return-value]


def begun(app: App) -> TableState:
    """A task of an app whose tables are all declared."""
    state = TableState(app.tables)
    tables_of_task.set(state)
    return state


JSON = {"a": [1, -2.5, True, None, "ü", b"\x00", {"b": {}, "c": []}], 7: ""}
EXACT: list[tuple[Any, list[Any]]] = [
    (None, [None, True, 0, 2.0, "x", b"x", [], {}, JSON, [JSON, [JSON]]]),
    (int, [0, -1, 2**63, 2**64 - 1, -(2**63)]),
    (float, [0.0, -0.0, 1e300, 5e-324, math.inf, -math.inf, math.nan]),
    (bool, [True, False]),
    (str, ["", "\x00", "日本", "a" * 1000]),
    (bytes, [b"", b"\xff" * 300]),
    (int | None, [None, 0]),
    (int | float, [1, 1.0]),
    (list, [[], [1, "a", [None]]]),
    (dict, [{}, {"b": 1, "a": 2}, JSON]),
    (list[int], [[], [1, 2**64 - 1]]),
    (list[float], [[1.0, math.nan]]),
    (dict[str, list[int]], [{}, {"z": [1], "a": []}]),
    (dict[int, bool], [{2: True, 1: False}]),
    (tuple[int, str], [(1, "a")]),
    (tuple[Any, ...], [(), (1, [2])]),
    (set[int], [set(), {1, 2}]),
    (frozenset[str], [frozenset({"a"})]),
    (Point, [Point(1.5), Point(math.inf, ("a", "b"))]),
    (Node, [Node(1, [Node(2), Node(3, [Node(4)])])]),
    (Pair, [Pair(1, None), Pair(2, "b")]),
    (Box, [Box(), Box([1], "b")]),
    (Fixed, [Fixed(3)]),
    (Said, [{"what": "x"}]),
    (Level, [Level.low, Level.high]),
    (Colour | None, [Colour.red, None]),
    (Literal["a", 1], ["a", 1]),
    (Decimal, [Decimal("1.10")]),
    (uuid.UUID, [uuid.UUID(int=7)]),
    (datetime.date, [datetime.date(2024, 2, 29)]),
    (list[Point | None], [[Point(1.0), None]]),
]


def same(a: Any, b: Any) -> bool:
    """Equal, of equal types down to the innermost, in equal order, NaN and the sign of zero included."""
    return type(a) is type(b) and repr(a) == repr(b)


@pytest.mark.parametrize(("kind", "values"), EXACT, ids=lambda kind: str(kind)[:40])
def test_values_come_back_as_they_were(app: App, kind: Any, values: list[Any]):
    table = app.table("t", value=kind, key=int)
    state = begun(app)
    for i, value in enumerate(values):
        table[i] = value
    done(state)
    before = list(table.values())
    state.rollback()
    assert all(map(same, before, values))
    crashed(app, state)
    assert list(table) == list(range(len(values)))
    assert all(map(same, table.values(), values))


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (str, ["", "a", "\x00", "é"]),
        (int, [0, -1, 2**64 - 1]),
        (bytes, [b"", b"a"]),
        (tuple[str, int], [("a", 1), ("", 0)]),
        ((bytes, bytes, str), [(b"", b"a", "b")]),
    ],
)
def test_keys_come_back_as_they_were(app: App, kind: Any, keys: list[Any]):
    table = app.table("t", int, key=kind)
    state = begun(app)
    for key in keys:
        table[key] += 1
    done(state)
    crashed(app, state)
    assert all(map(same, table, keys))
    assert set(table.values()) == {1}


def test_rows_of_tables_whose_names_and_keys_run_together_are_apart(app: App):
    tables = {
        name: app.table(name, key=kind) for name, kind in [("a", str), ("a\x20", str), ("ab", bytes), ("b", (str, str))]
    }
    state = begun(app)
    tables["a"]["b"], tables["a "]["b"], tables["ab"][b""], tables["b"]["", "b"] = 1, 2, 3, 4
    done(state)
    crashed(app, state)
    assert [dict(table) for table in tables.values()] == [{"b": 1}, {"b": 2}, {b"": 3}, {("", "b"): 4}]


REFUSED: list[tuple[Any, Any, str]] = [
    (int, "x", "value: expected int; got str 'x'"),
    (int, True, "value: expected int; got bool True"),
    (int, 1.0, "value: expected int; got float 1.0"),
    (int, 2**64, "value: msgpack does not take it: can't serialize ints < -2**63 or > 2**64 - 1"),
    (float, 2**60, f"value: expected float; got int {2**60}"),
    (bool, 1, "value: expected bool; got int 1"),
    (int | None, "", "value: expected int | none; got str ''"),
    (str, "\ud800", r"value: msgpack does not take it: 'utf-8' codec can't encode character '\ud800' in position 0"),
    (str, b"x", "value: expected str; got bytes b'x'"),
    (str, "x" * 900_000, "expected a value of at most 900,000 bytes; it has 900,005"),
    (list[float], [1.5, 2], "value: expected float; got int 2 (at [1])"),
    (list[int], (1,), "value: expected list; got tuple (1,)"),
    (list[list[int]], [[], [1, None]], "value: expected int; got NoneType None (at [1][1])"),
    (dict[str, int], {"a": 1, "b": {}}, "value: expected int; got dict {} (at ['b'])"),
    (dict[str, int], {1: 1}, "value: as a key of the dict, expected str; got int 1"),
    (tuple[int, int], (1, 2, 3), "value: expected a tuple of 2; got tuple (1, 2, 3)"),
    (tuple[int, int], (1, "2"), "value: expected int; got str '2' (at [1])"),
    (Point, Point(1), "value: expected float; got int 1 (at .x)"),
    (Point, {"x": 1.0}, "value: expected Point; got dict {'x': 1.0}"),
    (Node, Node(1, [Node("a")]), "value: expected int; got str 'a' (at .below[0].n)"),  # type: ignore[arg-type]
    (Growing, Growing(1), "value: expected what is read back as it was; its type changes it"),
    (Said, {"who": "x"}, "value: expected the keys what; got dict {'who': 'x'}"),
    (Literal["a"], "b", "value: expected one of ('a',); got str 'b'"),
    (Level, 1, "value: expected Level; got int 1"),
    (None, (1,), "value: expected JSON-like values (None, bool, int, float, str, bytes, list, dict); got tuple (1,)"),
    (None, [{"a": {1}}], "(None, bool, int, float, str, bytes, list, dict); got set {1} (at [0]['a'])"),
    (None, {(1, 2): 3}, "value: expected str or int as keys of a dict; got tuple (1, 2)"),
    (None, Level.low, "got Level <Level.low: 1>"),
]


@pytest.mark.parametrize(("kind", "value", "says"), REFUSED, ids=lambda part: str(part)[:40])
def test_what_would_come_back_changed_is_refused(app: App, kind: Any, value: Any, says: str):
    table = app.table("sums", value=kind)
    state = begun(app)
    with pytest.raises(InvalidRecord) as caught:
        table["left"] = value
        state.check()
    assert str(caught.value).startswith("table 'sums', row 'left': ")
    assert says in str(caught.value)
    assert caught.value.field == "sums"
    state.rollback()
    assert "left" not in table


def test_a_dataclass_with_more_than_its_fields_is_refused(app: App):
    table = app.table("t", value=Box)
    state = begun(app)
    table["a"] = box = Box()
    box.more = 1  # type: ignore[attr-defined]
    with pytest.raises(InvalidRecord, match=r"expected the fields of Box; got \['more'\] beside them"):
        state.check()


def test_a_value_that_holds_itself_is_refused(app: App):
    table = app.table("t", default=list)
    state = begun(app)
    table["a"].append(table["a"])
    with pytest.raises(InvalidRecord, match="table 't', row 'a': value: msgpack does not take it: maximum recursion"):
        state.check()


@pytest.mark.parametrize(
    ("kind", "key", "says"),
    [
        (str, 1, "row 1: key: expected str; got int 1"),
        (str, None, "row None: key: expected str; got NoneType None"),
        (str, ["a"], "row ['a']: key: expected str; got list ['a']"),
        (str, np.str_("a"), "row np.str_('a'): key: expected str; got str_ np.str_('a')"),
        (int, True, "row True: key: expected int; got bool True"),
        (int, 1.0, "row 1.0: key: expected int; got float 1.0"),
        ((str, int), ("a", True), "row ('a', True): key: expected int; got bool True (at [1])"),
        ((str, int), "a", "row 'a': key: expected a tuple of 2; got str 'a'"),
    ],
)
def test_keys_of_another_type_are_refused(app: App, kind: Any, key: Any, says: str):
    table = app.table("t", default=int, key=kind)
    begun(app)
    for good in ({str: "a", int: 1}.get(kind, ("a", 1)),):
        table[good] = 1

    def write() -> None:
        table[key] = 1

    def delete() -> None:
        del table[key]

    for use in (
        write,
        delete,
        lambda: table[key],
        lambda: table.get(key),
        lambda: key in table,
        lambda: table.pop(key),
    ):
        with pytest.raises(InvalidRecord) as caught:
            use()
        assert str(caught.value) == f"table 't', {says}"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("k" * 70_000, "expected a key of at most 65,536 bytes; it has 70,005"),
        ("\ud800", "msgpack does not take the key: 'utf-8' codec can't encode"),
    ],
)
def test_keys_that_no_record_takes_are_refused(app: App, key: str, says: str):
    table = app.table("t", default=int)
    begun(app)
    with pytest.raises(InvalidRecord) as caught:
        table[key] += 1
    assert says in str(caught.value)
    assert len(str(caught.value)) < 250
    assert not table


def test_numpys_numbers_become_pythons(app: App):
    ints, floats = app.table("ints", default=int), app.table("floats", default=float)
    begun(app)
    ints["a"] += np.int32(3)  # type: ignore[assignment]
    floats["a"] += np.float32(0.5)  # type: ignore[assignment]
    floats["b"] = 2
    assert all(map(same, (ints["a"], floats["a"], floats["b"]), (3, 0.5, 2.0)))


class TestUndo:
    def test_of_all_that_an_event_did(self, app: App):
        counts, lists = app.table("counts", default=int), app.table("lists", default=list)
        state = begun(app)
        counts["a"], counts["b"], lists["a"] = 1, 2, [1]
        done(state)
        counts["a"] += 1
        del counts["b"]
        counts["c"] = 3
        counts["b"] = 7
        lists["a"].append(2)
        lists["b"].append(3)
        state.rollback()
        assert (list(counts.items()), dict(lists)) == ([("a", 1), ("b", 2)], {"a": [1]})

    def test_order_is_as_before_too(self, app: App):
        table = app.table("t", default=int)
        state = begun(app)
        table.update(a=1, b=2, c=3)
        done(state)
        del table["a"]
        state.rollback()
        assert list(table) == ["a", "b", "c"]

    def test_of_an_object_that_only_lies_in_memory_its_inside_stays(self, app: App):
        table = app.table("t", default=list, volatile=True)
        state = begun(app)
        table["a"].append(1)
        done(state)
        table["a"].append(2)
        table["b"].append(3)
        state.rollback()
        assert dict(table) == {"a": [1, 2]}

    def test_what_is_undone_is_no_change(self, app: App):
        table = app.table("t", default=list)
        state = begun(app)
        table["a"].append(1)
        state.rollback()
        assert len(state.changes().keys) == 0
        assert state.header() == {"time": None, "written": None}


class TestChanges:
    def test_a_value_that_was_only_read_did_not_change(self, app: App):
        table = app.table("t", default=list)
        state = begun(app)
        table["a"].append(1)
        done(state)
        assert len(state.changes().keys) == 2  # the row, and what the table's rows are
        assert (table["a"], table.get("a"), list(table.values())) == ([1], [1], [[1]])
        done(state)
        assert len(state.changes().keys) == 0
        table["a"].append(2)
        done(state)
        assert items(state.changes().values) == [msgspec.msgpack.encode([0, [1, 2]])]

    def test_a_row_that_came_and_went_leaves_no_trace(self, app: App):
        table = app.table("t", default=int)
        state = begun(app)
        table["a"] = 1
        done(state)
        del table["a"]
        done(state)
        assert len(state.changes().gone) == 0
        table["a"] = 1
        done(state)
        state.changes()
        del table["a"]
        done(state)
        assert items(state.changes().gone) == [msgspec.msgpack.encode(["t", "a"])]

    def test_objects_do_not_outlast_their_event(self, app: App):
        """Neither before a flush nor after a crash do two rows share one."""
        table = app.table("t", default=list)
        state = begun(app)
        table["a"] = table["b"] = shared = [1]
        done(state)
        table["a"].append(2)
        shared.append(3)
        done(state)
        assert dict(table) == {"a": [1, 2], "b": [1]}

    def test_volatile_tables_have_none(self, app: App):
        table = app.table("t", default=object, volatile=True, ttl="1s")
        state = begun(app)
        state.advance(0)
        assert table["a"] is table["a"]
        done(state)
        assert len(state.changes().keys) == 0
        assert state.header() == {"time": 0, "written": 0}

    def test_the_bytes_of_a_row(self, app: App):
        """What changelogs hold: to change it is to change the version."""
        app.table("n", default=int)["a"] = 5
        app.table("kept", default=str, key=(str, int), ttl="1s")["a", 1] = "x"
        state = tables_of_task.get()
        assert isinstance(state, TableState)
        state.advance(70)
        done(state)
        rows = changelog_of(state)
        assert [(msgspec.msgpack.decode(key), msgspec.msgpack.decode(value)) for key, value in rows.items()] == [
            (["n"], {"key": "str", "value": "int", "timed": False}),
            (["n", "a"], [0, 5]),
            (["kept"], {"key": "tuple[str, int]", "value": "str", "timed": True}),
            (["kept", ["a", 1]], [0, "x", 70]),
        ]
        assert state.version() == "tables 1"
        assert state.header() == {"time": 70, "written": 70, "made kept": 1, "made n": 1}


class TestTtl:
    """A row written at t is gone once an event of t + ttl is in work."""

    def test_a_row_lives_so_long_as_it_is_written(self, app: App):
        table = app.table("t", default=int, ttl="10s")
        state = begun(app)
        for time in (0, 9_999):
            state.advance(time)
            table["a"] += 1
            done(state)
        state.advance(10_000)
        assert table["a"] == 2
        state.advance(19_998)
        assert table["a"] == 2
        state.advance(19_999)
        assert (table.get("a"), list(table), table["a"]) == (None, [], 0)

    def test_late_events_do_not_turn_time_back(self, app: App):
        table = app.table("t", default=int, ttl="10s")
        state = begun(app)
        state.advance(20_000)
        state.advance(5_000)
        table["a"] = 1  # counts as written at 20 s
        done(state)
        state.advance(29_999)
        assert "a" in table
        state.advance(30_000)
        assert "a" not in table

    def test_reading_keeps_nothing_and_in_place_changes_do(self, app: App):
        table = app.table("t", default=list, ttl="10s")
        state = begun(app)
        state.advance(0)
        table["read"], table["changed"] = [1], [1]
        done(state)
        state.advance(5_000)
        table["read"], table["changed"].append(2)
        done(state)
        state.advance(10_000)
        assert list(table) == ["changed"]

    def test_an_event_that_raised_kept_nothing_either(self, app: App):
        table = app.table("t", default=int, ttl="10s")
        state = begun(app)
        state.advance(0)
        table["a"] = 1
        done(state)
        state.advance(5_000)
        table["a"] = 2
        state.rollback()
        state.advance(10_000)
        assert "a" not in table

    def test_a_row_that_is_gone_is_gone_from_the_changelog(self, app: App):
        table = app.table("t", default=int, ttl="10s")
        state = begun(app)
        state.advance(0)
        table["a"] = 1
        done(state)
        state.changes()
        state.advance(10_000)
        changes = state.changes()
        assert (items(changes.keys), items(changes.gone)) == ([], [msgspec.msgpack.encode(["t", "a"])])

    @given(
        times=st.lists(st.integers(-5, 250).map(lambda n: n * 30), min_size=20, max_size=60),
        cuts=st.lists(st.integers(1, 7)),
    )
    def test_batches_see_the_same_however_they_were_cut(self, times: list[int], cuts: list[int]):
        app = App("test")
        table = app.table("t", default=int, key=int, ttl="1.6s")  # moments of 25 ms
        assert self.seen(app, table, times, [len(times)]) == self.seen(app, table, times, cuts or [1])

    def seen(self, app: App, table: Table[int], times: list[int], cuts: list[int]) -> list[Any]:
        """What each event finds, and the changelog's rows in the end."""
        state = TableState(app.tables)
        token = tables_of_task.set(state)
        found: list[Any] = []
        at = 0
        while at < len(times):
            batch = np.array(times[at : at + cuts[at % len(cuts)]], np.int64)
            n = state.advance_batch(batch)
            for time in batch[:n].tolist():
                table[time // 900] += 1
                found.append(dict(table))
            done(state)
            at += n
        tables_of_task.reset(token)
        return [found, changelog_of(state), state.header()]

    def test_what_a_batch_writes_counts_as_written_when_its_moment_ends(self, app: App):
        table = app.table("t", default=int, ttl="64s")
        for cut in ([0], [0, 999]):
            state = begun(app)
            state.advance_batch(np.array(cut))
            table["a"] = 1
            done(state)
            state.advance_batch(np.array([64_999]))
            assert "a" in table
            state.advance_batch(np.array([65_000]))
            assert "a" not in table

    def test_rows_stay_in_the_order_of_their_times_where_batches_and_rows_mix(self, app: App):
        table = app.table("t", default=int, ttl="64s")
        state = begun(app)
        state.advance_batch(np.array([0]))
        table["a"] = 1
        done(state)
        state.advance(1)
        table["b"] = 1  # not before a
        done(state)
        assert [msgspec.msgpack.decode(row)[-1] for row in items(state.changes().values)[1:]] == [1000, 1000]

    def test_rows_that_came_back_go_in_the_order_of_their_times(self, app: App):
        table = app.table("t", default=int, ttl="10s")
        state = begun(app)
        for time, key in ((0, "a"), (1_000, "b"), (5_000, "a")):
            state.advance(time)
            table[key] += 1
            done(state)
        state = crashed(app, state)
        state.advance(11_000)
        assert list(table) == ["a"]

    def test_a_batch_is_cut_where_a_moment_ends(self, app: App):
        app.table("t", ttl="64s")
        state = begun(app)
        assert state.advance_batch(np.array([0, 999, 500, 1000, 1001])) == 3
        assert state.advance_batch(np.array([1000, 1001])) == 2

    def test_rows_kept_before_there_was_a_ttl_count_from_the_first_event(self, app: App):
        app.table("t", default=int)["a"] = 1
        state = tables_of_task.get()
        done(state)  # type: ignore[arg-type]
        after = App("test")
        table = after.table("t", default=int, ttl="10s")
        rows = changelog_of(state)  # type: ignore[arg-type]
        state = restored(after, {"made t": 1}, rows)
        rows = changelog_of(state, rows)
        state = restored(after, state.header(), rows)  # it crashes before any event
        state.advance(50_000)
        assert dict(table) == {"a": 1}
        rows = changelog_of(state, rows)
        state = restored(after, state.header(), rows)
        state.advance(59_999)
        assert "a" in table
        state.advance(60_000)
        assert "a" not in table

    def test_a_ttl_may_go(self, app: App):
        app.table("t", default=int, ttl="10s")
        state = begun(app)
        state.advance(7)
        app.tables["t"]["a"] = 1
        done(state)
        after = App("test")
        table = after.table("t", default=int)
        state = restored(after, state.header(), changelog_of(state))
        assert dict(table) == {"a": 1}
        rows = changelog_of(state)
        assert [msgspec.msgpack.decode(row) for row in rows.values()][1:] == [[0, 1]]

    def test_keys_that_come_and_go_leave_no_memory_behind(self, app: App):
        table = app.table("t", default=list, key=int, ttl="1s")
        state = begun(app)

        def run(begin: int) -> None:
            for i in range(begin, begin + 30_000):
                state.advance(i)
                table[i].append(i)
                table[-1].append(i)
                table[-1] = table[-1][-3:]
                done(state)
                if i % 100 == 0:
                    state.changes()

        run(0)
        gc.collect()
        tracemalloc.start()
        try:
            run(30_000)
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(table) == 1001
        assert left < 1_000_000  # the 1001 rows, made anew; 30,000 would take ten times as much


class TestRestoring:
    def kept(self, app: App, **table: Any) -> tuple[dict[str, int | None], dict[bytes, bytes]]:
        app.table("t", **table)["a"] = 1
        state = tables_of_task.get()
        done(state)  # type: ignore[arg-type]
        return state.header(), changelog_of(state)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("now", "says"),
        [
            ({"default": float}, "it has keys of str and values of float"),
            ({"default": int, "key": int}, "it has keys of int and values of int"),
            ({}, "it has keys of str and values of JSON-like"),
            ({"default": int, "volatile": True}, "it is volatile"),
            ({"value": int | None}, "it has keys of str and values of int | none"),
        ],
    )
    def test_rows_of_other_types_are_refused(self, app: App, now: dict[str, Any], says: str):
        kept = self.kept(app, default=int)
        after = App("test")
        after.table("t", **now)
        with pytest.raises(StateError) as caught:
            restored(after, *kept)
        assert str(caught.value) == f"table 't' was kept with keys of str and values of int; now {says}"

    def test_a_record_with_other_fields_is_another_type(self, app: App):
        def told(kind: Any) -> str:
            return App("test").table("t", value=kind).value.signature

        class Other(Record):
            x: float

        one, other = told(Point), told(Other)
        assert one == "Point(x: float, names: vartuple[str])"
        assert other == "Other(x: float)"
        assert told(list[Node]) == "list[Node(n: int, below: list[Node])]"
        assert told(Level | None) == "Level[1, 2] | none"
        assert told(Literal["b", "a"]) == "Literal['a', 'b']"

    def test_tables_can_be_added(self, app: App):
        kept = self.kept(app, default=int)
        after = App("test")
        more, table = after.table("more", default=int), after.table("t", default=int)
        state = restored(after, *kept)
        more["b"] += 1
        done(state)
        crashed_again = restored(after, state.header(), changelog_of(state, kept[1]))
        assert (dict(more), dict(table)) == ({"b": 1}, {"a": 1})
        assert crashed_again.header() == state.header()

    def test_a_table_that_is_declared_no_more_is_refused(self, app: App):
        kept = self.kept(app, default=int)
        with pytest.raises(StateError) as caught:
            restored(App("test"), *kept)
        assert str(caught.value) == "it holds rows of 't', which the app declares no more: declare it again"

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            (b"\x00\xff", b"", r"a row is of no table: its key is b'\x00\xff'"),
            (b"\x92\xa1t\xa1b", b"\x92\x00", "table 't': its rows' values cannot be read: "),
            (
                b"\x92\xa1t\xa1b",
                b"\x92\x00\xa1x",
                "table 't': its rows' values cannot be read: expected int; got str 'x'",
            ),
            (b"\x92\xa1t\x01", b"\x92\x00\x01", "table 't': its rows' keys cannot be read: Expected `str`, got `int`"),
            (b"\x91\xa1t", b"\x80", "table 't': what says the types of its rows cannot be read: "),
        ],
    )
    def test_rows_that_are_none_are_refused(self, app: App, key: bytes, value: bytes, says: str):
        header, rows = self.kept(app, default=int)
        with pytest.raises(StateError) as caught:
            restored(app, header, {**rows, key: value})
        assert str(caught.value).startswith(says)

    @pytest.mark.parametrize("lost", ["meaning", "header"])
    def test_rows_that_nothing_explains_are_refused(self, app: App, lost: str):
        header, rows = self.kept(app, default=int)
        if lost == "meaning":
            del rows[b"\x91\xa1t"]
        with pytest.raises(StateError) as caught:
            restored(app, {} if lost == "header" else header, rows)
        assert str(caught.value) == "table 't': 1 rows, and nothing says what they are"
