"""Rows as they are between events: never those of an event in work."""

from __future__ import annotations

from copy import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.define.table import Table, tables_of_task
from streamproc.process.table_view import page, row, rows_of
from streamproc.process.tables import TableState

KINDS: dict[str, tuple[Any, Any]] = {  # plain, fixed, and changing values
    "plain": (int, lambda n: n),
    "fixed": (str, str),
    "changing": (list, lambda n: [n]),
}


def shown(seen: Any) -> tuple[Any, Any, int]:
    return seen.key, msgspec.msgpack.decode(seen.packed), seen.number


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_an_event_in_work_is_not_seen(kind: str, data: st.DataObject) -> None:
    cls, value_of = KINDS[kind]
    table: Table[Any] = Table("t", key=int, value=cls, ttl="1s")
    state = TableState({"t": table})
    token = tables_of_task.set(state)
    try:
        model: dict[int, tuple[Any, int]] = {}  # by key: value and number, between events
        made = 0
        for time in range(data.draw(st.integers(1, 8))):
            state.advance(time * data.draw(st.sampled_from([1, 400])))
            model = {key: model[key] for key in list(table) if key in model}  # some may have expired
            before, made_before = dict(model), made
            for key in data.draw(st.lists(st.integers(0, 5), max_size=6)):
                what = data.draw(st.sampled_from(["write", "remove", "change"]))
                if what == "write":
                    value = value_of(data.draw(st.integers(0, 99)))
                    number = model[key][1] if key in model else made
                    made += key not in model
                    table[key] = value
                    model[key] = (copy(value), number)
                elif key in model and what == "remove":
                    del table[key]
                    del model[key]
                elif key in model and kind == "changing":
                    table[key].append(7)
                    model[key] = ([*model[key][0], 7], model[key][1])
                check(state, table, before, data.draw(st.integers(-1, 8)), data.draw(st.integers(1, 6)))
            if data.draw(st.booleans()):
                state.check()
                check(state, table, before, -1, 9)
                state.commit()
            else:
                state.rollback()
                model, made = before, made_before
            check(state, table, model, -1, 9)
    finally:
        tables_of_task.reset(token)


def check(state: TableState, table: Table[Any], model: dict[int, tuple[Any, int]], after: int, most: int) -> None:
    rows = rows_of(state, table)
    if rows is None:
        assert not model
        return
    for key in range(6):
        seen = row(rows, key)
        assert (None if seen is None else shown(seen)[1:]) == model.get(key)
    inside = sorted(((key, *model[key]) for key in model if model[key][1] > after), key=lambda found: found[2])
    assert [shown(seen) for seen in page(rows, after, most)] == inside[:most]


def test_when_rows_were_written() -> None:
    table: Table[Any] = Table("t", value=int, ttl="1s")
    plain: Table[Any] = Table("p", value=int)
    state = TableState({"t": table, "p": plain})
    token = tables_of_task.set(state)
    try:
        state.advance(5000)
        table["a"] = plain["a"] = 1
        state.commit()
        state.advance(5500)
        table["a"] = 2
        rows = rows_of(state, table)
        assert rows is not None
        seen = row(rows, "a")
        assert seen is not None
        assert (seen.packed, seen.written) == (b"\x01", 5000)
        other = rows_of(state, plain)
        assert other is not None
        assert row(other, "a").written is None  # type: ignore[union-attr]
    finally:
        tables_of_task.reset(token)
