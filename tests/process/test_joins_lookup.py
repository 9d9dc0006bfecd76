"""The global table: versions of rows as of any time, against the plainest search."""

from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.define.operators import Lookup
from streamproc.process.joins import lookup
from streamproc.process.joins.lookup import LookupOperator, LookupTable
from tests.process.joins_latest_kit import LEFT, RIGHT, WAYS, Row, bits, events, listed, pipeline, rows


def newest(rates: list[Row], key: Any, time: int) -> Row | None:
    """Of those of the key at or before the time the latest; of one time the last that came."""
    found = [row for row in rates if row.values["number"] == key and row.time <= time]
    return None if key is None or not found else max(reversed(found), key=lambda row: row.time)


def table_of(definition: Any, way: bool) -> LookupTable:
    return LookupTable(definition.inputs[1], way)


@given(data=st.data(), key=st.sampled_from([str, int]))
@settings(max_examples=80, deadline=None)
def test_rows_meet_the_version_of_their_time(data: st.DataObject, key: type):
    some = data.draw(rows(key, most=60))
    disorder = data.draw(st.sampled_from([0, 2, 30]))
    lefts = [row for row in some if row.number == 0]
    rights = [row._replace(time=row.time - data.draw(st.integers(0, disorder))) for row in some if row.number == 1]
    how = data.draw(st.sampled_from(["inner", "left"]))
    definition = pipeline(Lookup("card", how, "_right"), key)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rights)), max_size=6)))
    with patch.object(lookup, "_MANY_KEYS", 2):
        for way in WAYS:
            table = table_of(definition, way)
            operator = LookupOperator(definition, table)
            below = -(10**9)
            for start, stop in zip([0, *cuts], [*cuts, len(rights)], strict=True):
                table.put(events(rights[start:stop], definition.inputs[1].fields, way))
                if some and data.draw(st.booleans()):
                    below = max(below, data.draw(st.integers(some[0].time, some[-1].time)))
                    table.prune(below)
                asked = [row for row in lefts if row.time >= below]
                got = listed(operator.take(events(asked, definition.inputs[0].fields, way)))
                want = []
                for row in asked:
                    met = newest(rights[:stop], row.values["card"], row.time)
                    if met or how == "left":
                        values = {"card": row.values["card"], **{name: row.values[name] for name in LEFT}}
                        for name in RIGHT:
                            values[name + "_right" * (name in LEFT)] = met.values[name] if met else None
                        stamp = max(row.stamp, met.stamp) if met else row.stamp
                        want.append((row.time, stamp, *((name, bits(value)) for name, value in values.items())))
                assert got == want, way


@pytest.mark.parametrize("way", WAYS)
def test_many_versions_in_any_order(way: bool):
    """Long chains, that late rows go into and old ones leave."""
    chance = random.Random(3)
    definition = pipeline(Lookup("card", "left", "_right"), int, right={"n": int})
    table = table_of(definition, way)
    rates: list[Row] = []
    for at in range(60):
        some = [
            Row(1, at * 50 + chance.randrange(-300, 50), 0, {"number": chance.randrange(3), "n": chance.random()})
            for _ in range(50)
        ]
        some = [row._replace(values={**row.values, "n": len(rates) + i}) for i, row in enumerate(some)]
        table.put(events(some, definition.inputs[1].fields, way))
        rates += some
        if at == 40:
            table.prune(1_000)
            assert len(table) < len(rates) - 500
        low = 1_000 if at >= 40 else -300
        asked = [(chance.randrange(4), chance.randrange(low, 3_100)) for _ in range(30)]
        found = table.find(np.array([key for key, _ in asked]), np.array([time for _, time in asked]))
        got = pl.Series(found.pool.take(found.rows)["n"]).to_list()
        want = [newest(rates, key, time) for key, time in asked]
        assert got == [row and row.values["n"] for row in want]
    table.prune(10_000)
    assert len(table) == table.keys == 3


def test_old_versions_are_found_in_few_steps():
    definition = pipeline(Lookup("card", "left", "_right"), int, right={"n": int})
    table = table_of(definition, False)
    for start in range(0, 100_000, 10_000):
        some = [Row(1, n, 0, {"number": 1, "n": n}) for n in range(start, start + 10_000)]
        table.put(events(some, definition.inputs[1].fields, False))

    class Times:
        """Counts how often it is asked."""

        asked = 0

        def __getitem__(self, at: Any) -> Any:
            Times.asked += 1
            return at  # slots are taken in order: each row's is its time

    wanted = np.array([0, 5, 50_000, 99_999])
    newest_slot = np.full(4, table._newest[0])
    found = table._chains.find(newest_slot, wanted, Times())  # type: ignore[arg-type]
    assert found.tolist() == wanted.tolist()
    assert Times.asked < 120, "of 100,000 versions"


def test_keys_that_only_events_have_are_forgotten():
    definition = pipeline(Lookup("card", "inner", "_right"), int, right={"n": int})
    table = table_of(definition, True) if True in WAYS else table_of(definition, False)
    table.find(np.arange(1_000, 1_005), np.zeros(5, np.int64))  # so its code is not the first one
    table.put(events([Row(1, 0, 0, {"number": 7, "n": 70})], definition.inputs[1].fields, False))
    with patch.object(lookup, "_MANY_KEYS", 64):
        for at in range(100):
            table.find(np.arange(at * 100, at * 100 + 100), np.full(100, 5))
    assert len(table._codes) < 400
    assert table.find(np.array([7]), np.array([0])).rows.tolist() == [0]
    assert (len(table), table.keys) == (1, 1)
