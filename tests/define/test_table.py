from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

import pytest

from streamproc import App, Table
from streamproc.define.table import tables_of_task
from streamproc.errors import DefinitionError, StreamprocError
from streamproc.process.tables import TableState


@pytest.fixture
def task() -> Iterator[None]:
    """The test runs as a task would."""
    token = tables_of_task.set(TableState({}))
    yield
    tables_of_task.reset(token)


@pytest.fixture
def table(task: None) -> Table[list[int]]:
    """As an agent sees it."""
    return App("test").table("seen", default=list)


def test_a_missing_key_gets_the_default_when_it_is_read(table: Table[list[int]]):
    table["a"].append(1)
    assert table["a"] == [1]
    assert dict(table) == {"a": [1]}


def test_asking_makes_nothing(table: Table[list[int]]):
    assert "a" not in table
    assert table.get("a") is None
    assert table.get("a", [7]) == [7]
    assert table.pop("a", None) is None
    assert len(table) == 0
    with pytest.raises(KeyError):
        table.pop("a")


def test_setdefault_sets_what_it_is_given(table: Table[list[int]]):
    assert table.setdefault("a", [5]) == [5]
    assert table.setdefault("a", [6]) == [5]


def test_the_rest_of_a_mapping(table: Table[list[int]]):
    table["a"], table["b"] = [1], [2]
    table.update(c=[3])
    del table["a"]
    assert (list(table), len(table), table.pop("b")) == (["b", "c"], 2, [2])
    assert table.popitem() == ("c", [3])
    table["d"] = []
    table.clear()
    assert not table


def test_without_a_default_a_missing_key_is_an_error(task: None):
    with pytest.raises(KeyError):
        App("test").table("t")["a"]


def test_tables_of_one_task_are_apart(task: None):
    app = App("test")
    one, two = app.table("one"), app.table("two")
    one["k"] = 1
    assert "k" not in two


def test_tasks_see_their_own(table: Table[list[int]]):
    table["a"] = [1]

    def elsewhere() -> int:
        tables_of_task.set(TableState({}))
        return len(table)

    assert copy_context().run(elsewhere) == 0
    assert len(table) == 1


def test_outside_an_agent_it_has_no_state():
    table = App("test").table("seen")
    for use in (lambda: table["a"], lambda: table.get("a"), lambda: len(table), lambda: "a" in table):
        with pytest.raises(StreamprocError) as caught:
            use()
        assert str(caught.value) == "table 'seen' was used outside an agent: its state belongs to a running task"


def test_tables_are_themselves():
    app = App("test")
    a, b = app.table("a"), app.table("b")
    assert a == a
    assert a != b
    assert len({a, b}) == 2
    assert repr(a) == "Table('a')"


class Pair(NamedTuple):
    a: int
    b: str


def pair() -> Pair:
    return Pair(0, "")


def untold():
    return 0


def unknown() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
    return 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "t: str to JSON-like"),
        ({"default": int}, "t: str to int"),
        ({"default": list}, "t: str to list"),
        ({"default": Pair}, "t: str to Pair"),
        ({"default": pair}, "t: str to Pair"),
        ({"default": untold}, "t: str to JSON-like"),
        ({"default": lambda: [0, 1.5]}, "t: str to JSON-like"),
        ({"default": partial(int, "3")}, "t: str to JSON-like"),
        ({"default": list, "value": list[int]}, "t: str to list[int]"),
        ({"key": int, "value": int | None}, "t: int to int | None"),
        ({"key": (str, int), "value": bytes, "ttl": "90s"}, "t: tuple[str, int] to bytes, ttl 90s"),
        ({"default": Counter, "volatile": True}, "t: str to any object, volatile"),
        ({"default": int, "ttl": "1h", "store": "disk"}, "t: str to int, ttl 1h, on disk"),
        ({"default": unknown, "volatile": True, "ttl": 0.25}, "t: str to any object, ttl 250ms, volatile"),
    ],
)
def test_its_types_are_told_or_seen(given: dict[str, Any], says: str):
    assert str(App("test").table("t", **given)) == says


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": ""}, "table: expected a name of 1 to 200 printable characters; got ''"),
        ({"default": 0}, "table 't': expected a default that is called for each missing key; got 0"),
        ({"key": float}, "table 't': expected keys of str, int, bytes or a tuple of those; got float"),
        ({"key": (str, bool)}, "table 't': expected keys of str, int, bytes or a tuple of those; got tuple[str, bool]"),
        ({"ttl": 0}, "table 't': expected a ttl of 1 ms or more; got 0"),
        (
            {"ttl": "soon"},
            'table \'t\': ttl: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got \'soon\'',
        ),
        (
            {"value": int, "volatile": True},
            "table 't': it is volatile, and so takes any Python object: leave its value out",
        ),
        ({"store": "tape"}, "table 't': expected a store of memory or disk; got 'tape'"),
        (
            {"volatile": True, "store": "disk"},
            "table 't': it is volatile, and so takes any Python object: those have no form on disk",
        ),
        (
            {"default": unknown},
            "table 't': its default's annotation cannot be read (name 'Nowhere' is not defined): name the "
            "type, value=…",
        ),
        (
            {"value": list[complex]},
            "table 't': expected a type of values that msgpack brings back exactly (int, float, str, bytes, bool, list"
            ", dict, tuple, a Record, dataclass or NamedTuple of those …); got list[complex]: complex is not one of "
            "these. Any Python object can be kept with volatile=True, in memory only",
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_is_declared(given: dict[str, Any], says: str):
    with pytest.raises(DefinitionError) as caught:
        App("test").table(**{"name": "t", **given})
    assert str(caught.value) == says


def test_what_is_never_kept_cannot_be_on_disk():
    with pytest.raises(DefinitionError, match="table 't': its store has what the changelog has, and the app has flush"):
        App("test", flush=None).table("t", default=int, store="disk")


def test_a_counter_is_no_dict():
    with pytest.raises(DefinitionError, match=r"got Counter: .*volatile=True"):
        App("test").table("t", default=Counter)


def test_another_apps_table_of_that_name_is_another():
    own, foreign = App("test"), App("other")
    own.table("t", default=int)
    token = tables_of_task.set(TableState(own.tables))
    try:
        with pytest.raises(StreamprocError) as caught:
            foreign.table("t", default=int)["a"]
    finally:
        tables_of_task.reset(token)
    assert str(caught.value) == "table 't' is another app's: this one has its own of that name"
