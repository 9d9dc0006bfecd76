from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context

import pytest

from streamproc import App, Table
from streamproc.define.table import tables_of_task
from streamproc.errors import StreamprocError


@pytest.fixture
def task() -> Iterator[None]:
    """The test runs as a task would."""
    token = tables_of_task.set({})
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
        tables_of_task.set({})
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
