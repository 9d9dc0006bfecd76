"""Joins with the latest row, against polars and against one row after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.define.operators import AsOf, Tables
from streamproc.errors import StateError
from streamproc.process import keys as key_codes
from streamproc.process.joins import latest, pool
from streamproc.process.joins.keyed import ByKey
from streamproc.process.joins.latest import AsOfOperator, TablesOperator
from tests.process.joins_latest_kit import (
    LEFT,
    RIGHT,
    WAYS,
    Changelog,
    Result,
    Row,
    bits,
    listed,
    note,
    ordered,
    pipeline,
    ranked,
    restored,
    rows,
)

OUT = {**{name: name for name in RIGHT}, "n": "n_right", "x": "x_right"}


def result(time: int, stamp: int, left: dict[str, Any], right: dict[str, Any]) -> Result:
    key = left.get("card", right.get("number"))
    values = {"card": key, **{name: left.get(name) for name in LEFT}, **{OUT[name]: right.get(name) for name in RIGHT}}
    return time, stamp, *((name, bits(value)) for name, value in values.items())


def expected_as_of(some: list[Row], how: str, within: int | None) -> list[Result]:
    """By polars' own join."""
    lefts, rights = ([row for row in some if row.number == number] for number in (0, 1))
    keyed = [(row.values["number"], row.time, at) for at, row in enumerate(rights) if row.values["number"] is not None]
    kind = pl.String if isinstance(next((k for k, _, _ in keyed), ""), str) else pl.Int64
    left = pl.DataFrame(
        [(row.values["card"], row.time) for row in lefts], schema={"key": kind, "time": pl.Int64}, orient="row"
    )
    right = pl.DataFrame(keyed, schema={"key": kind, "time": pl.Int64, "at": pl.Int64}, orient="row")
    met = left.join_asof(right, on="time", by="key", strategy="backward", tolerance=within, check_sortedness=False)
    found = []
    for row, at in zip(lefts, met["at"].to_list(), strict=True):
        if at is not None:
            stamp = max(row.stamp, rights[at].stamp)
            found.append(result(row.time, stamp, row.values, rights[at].values))
        elif how == "left":
            found.append(result(row.time, row.stamp, row.values, {}))
    return found


def expected_tables(some: list[Row], how: str) -> list[Result]:
    """One row after another."""
    tables: tuple[dict[Any, Row], dict[Any, Row]] = {}, {}
    found = []
    for row in some:
        key = row.values["card" if row.number == 0 else "number"]
        if key is not None:
            tables[row.number][key] = row
        left, right = (row if i == row.number else tables[i].get(key) for i in (0, 1))
        if (left or how == "outer") and (right or how != "inner"):
            stamp = max(side.stamp for side in (left, right) if side)
            found.append(result(row.time, stamp, left.values if left else {}, right.values if right else {}))
    return found


@contextmanager
def small(few: int) -> Iterator[None]:
    """Every way through the code at the size of a test: keys forgotten, codes and columns made the columnar way."""
    with (
        patch.object(latest, "_MANY_KEYS", 2),
        patch.object(key_codes, "_FEW", few),
        patch.object(pool, "_FEW", few),
    ):
        yield


def frontiers(draw: st.DrawFn, some: list[Row]) -> list[int]:
    last = some[-1].time + 1 if some else 0
    first = some[0].time if some else 0
    cuts = draw(st.lists(st.integers(first, last + 60), max_size=8))
    return [*sorted(cuts), last + 60]


@given(data=st.data(), key=st.sampled_from([str, int]))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("kind", ["as of", "within", "tables"])
def test_the_batch_computation_gives_the_same(data: st.DataObject, kind: str, key: type):
    some = data.draw(rows(key))
    how = data.draw(st.sampled_from(["inner", "left", "outer"] if kind == "tables" else ["inner", "left"]))
    within = data.draw(st.sampled_from([0, 1, 2, 19, 40])) if kind == "within" else None
    operator = TablesOperator if kind == "tables" else AsOfOperator
    definition = pipeline(Tables(how, "_right") if kind == "tables" else AsOf(within, how, "_right"), key)
    some = ranked(some, first=0 if kind == "tables" else 1)
    want = expected_tables(some, how) if kind == "tables" else expected_as_of(some, how, within)
    cuts = data.draw(st.composite(frontiers)(some))  # type: ignore[arg-type]
    logs = []
    with small(data.draw(st.sampled_from([2, 32]))):
        for way in WAYS:
            for parts in (cuts[-1:], cuts, sorted({cuts[-1], *(row.time + 1 for row in some)})):
                task, kept, got, before = operator(definition, way), Changelog(), [], -(2**62)
                for frontier in parts:
                    part = [row for row in some if before <= row.time < frontier]
                    results = task.take(ordered(definition, part, texts=way and data.draw(st.booleans())), frontier)
                    assert list(results.columns) == ["card", *LEFT, *OUT.values()]
                    got += listed(results)
                    before = frontier
                    if data.draw(st.booleans()):
                        note(task, kept)
                        if data.draw(st.booleans()):
                            task = restored(operator(definition, data.draw(st.sampled_from(WAYS))), task.header(), kept)
                assert got == want, (way, parts)
                note(task, kept)
                logs.append(kept)
    assert all(log == logs[0] for log in logs), "what is kept depends on how rows were cut"


def one(number: int, time: int, key: Any, n: int) -> Row:
    names = {**dict.fromkeys(LEFT), "card": key} if number == 0 else {**dict.fromkeys(RIGHT), "number": key}
    return Row(number, time, 0, {**names, "n": n})


def met(task: Any, definition: Any, some: list[Row], frontier: int) -> list[tuple[Any, ...]]:
    """Of each result its time, left's number and right's."""
    results = task.take(ordered(definition, some, texts=False), frontier)
    return list(
        zip(results.times.tolist(), results.columns.values("n"), results.columns.values("n_right"), strict=True)
    )


def test_what_is_as_of_now_counts():
    definition = pipeline(AsOf(10, "left", "_right"), str)
    task = AsOfOperator(definition)
    assert met(task, definition, [one(1, 5, "a", 1), one(1, 5, "a", 2), one(0, 5, "a", 3)], 6) == [(5, 3, 2)]
    assert met(task, definition, [one(0, 15, "a", 4), one(0, 16, "a", 5)], 17) == [(15, 4, 2), (16, 5, None)]
    assert met(task, definition, [], 100) == []


def test_a_table_joined_with_a_table_changes_with_both():
    definition = pipeline(Tables("outer", "_right"), str)
    task = TablesOperator(definition)
    some = [one(0, 1, "a", 1), one(1, 2, "a", 2), one(1, 3, "b", 3), one(0, 4, "a", 4), one(1, 5, None, 5)]
    assert met(task, definition, some[:2], 3) == [(1, 1, None), (2, 1, 2)]
    assert met(task, definition, some[2:], 6) == [(3, None, 3), (4, 4, 2), (5, None, 5)]


@pytest.mark.parametrize("way", WAYS)
def test_keys_that_come_and_go_take_no_more_room(way: bool):
    definition = pipeline(AsOf(100, "inner", "_right"), int)
    task, kept, most = AsOfOperator(definition, way), Changelog(), 0
    with patch.object(latest, "_MANY_KEYS", 64):
        for at in range(400):
            some = [one(1 - n % 2, 10 * at + n // 20, 1000 * at + n, n) for n in range(200)]
            task.take(ordered(definition, some, texts=False), 10 * at + 10)
            note(task, kept)
            most = max(most, task.keys, task._newest.rows.room)
        assert most < 10_000, "of 80,000 keys"
        assert 1_000 < len(kept) < 1_500
        for frontier in (10**6, 2 * 10**6):  # what the changelog knows is held until it knows that it has gone
            task.take(ordered(definition, [], texts=False), frontier)
            note(task, kept)
    assert kept == {}
    assert task.keys == 0
    some = [one(1, 3 * 10**6, 7, 1), one(0, 3 * 10**6, 7, 2)]
    assert met(task, definition, some, 3 * 10**6 + 1) == [(3 * 10**6, 2, 1)]


def test_keys_that_no_table_has_are_forgotten():
    definition = pipeline(AsOf(None, "left", "_right"), int)
    task = AsOfOperator(definition)
    task.take(ordered(definition, [one(1, 0, 7, 7)], texts=False), 1)
    with patch.object(latest, "_MANY_KEYS", 64):
        for at in range(1, 200):
            task.take(ordered(definition, [one(0, at, 100 * at + n, n) for n in range(100)], texts=False), at + 1)
    assert task.keys < 400
    assert met(task, definition, [one(0, 300, 7, 1)], 301) == [(300, 1, 7)]


def test_large_codes_are_put_side_by_side_too():
    chance = np.random.default_rng(1)
    for count in (3, 1 << 16, (1 << 16) + 1, 1 << 20):
        codes = chance.integers(0, count, 3_000) % count
        codes[::7] = codes[0]
        found = ByKey.of(codes, count)
        order = np.argsort(codes, kind="stable")
        assert found.order.tolist() == order.tolist()
        assert codes[order[found.ends]].tolist() == np.unique(codes).tolist()


def test_state_has_a_version_of_what_its_rows_are():
    def version(operator: Any, key: type = str, **changed: Any) -> str:
        task = AsOfOperator if isinstance(operator, AsOf) else TablesOperator
        return task(pipeline(operator, key, **changed)).version()

    same = version(AsOf(5, "left", "_right"))
    assert version(AsOf(5, "inner", "_r"), left={"id": int}) == same, "none of that is in its rows"
    others = [
        version(AsOf(6, "left", "_right")),
        version(AsOf(None, "left", "_right")),
        version(AsOf(5, "left", "_right"), int),
        version(AsOf(5, "left", "_right"), right={**RIGHT, "y": int}),
        version(AsOf(5, "left", "_right"), right={**RIGHT, "z": int}),
        version(Tables("left", "_right")),
        version(Tables("left", "_right"), left={"id": int}),
    ]
    assert len({same, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    ("key", "value"), [(b"", b""), (b"\1" + bytes(7) + b"a", b"short"), (bytes([9]) * 8, bytes(99))]
)
def test_rows_of_something_else_are_refused(key: bytes, value: bytes):
    with pytest.raises(StateError):
        restored(AsOfOperator(pipeline(AsOf(None, "left", "_right"), str)), {}, {key: value})


def test_a_row_whose_values_cannot_be_read_is_refused():
    definition = pipeline(AsOf(None, "left", "_right"), str)
    task, kept = AsOfOperator(definition), Changelog()
    task.take(ordered(definition, [one(1, 0, "a", 7)], texts=False), 1)
    note(task, kept)
    ((key, value),) = kept.items()
    with pytest.raises(StateError, match="cannot be read"):
        restored(AsOfOperator(definition), {}, {key: value[:-1] + b"\xc1"})
