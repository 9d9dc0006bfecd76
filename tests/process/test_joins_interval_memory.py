"""What an interval join holds on to: nothing of rows that nothing can match any more, in memory or in its changelog."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest

from streamproc.process.joins import interval
from streamproc.process.joins.interval import IntervalOperator
from tests.process.joins_interval_kit import FOREVER, WAYS, Kept, Row, definition, ordered

MINUTE = 60_000


def _room(operator: IntervalOperator) -> int:
    """Rows that arrays have room for, and bytes that strings have."""
    sides = operator._sides
    texts = sum(len(getattr(column, "_data", ())) for side in sides for column in side.columns.values())
    return sum(side.room for side in sides) + texts


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("how", ["inner", "outer"])
def test_an_hour_of_keys_that_come_and_go_ends_where_it_began(compiled: bool, how: str):
    """Each minute has 500 keys of its own; rows match within half a minute."""
    join = definition(-MINUTE // 2, MINUTE // 2, how, str, {"s": str}, {"n": int})
    operator, kept = IntervalOperator(join, compiled), Kept()
    chance = random.Random(5)
    held: list[tuple[int, ...]] = []
    given = 0
    with patch.object(interval, "_MANY_KEYS", 100):
        for minute in range(60):
            rows = [Row(at % 2, f"{minute}-{chance.randrange(500)}", minute * MINUTE + at * 60) for at in range(1000)]
            rows = [row._replace(values=("text" * 5,) if row.side == 0 else (1,)) for row in rows]
            for start in range(0, len(rows), 100):
                part = ordered(rows[start : start + 100], join)
                given += len(operator.take(part, rows[start + 99].time + 1))
                kept.flush(operator)
            stored = sum(map(len, kept.rows.values()))
            held.append((operator.kept, operator.chunks, len(kept.rows), operator.keys, _room(operator), stored))
        settled = held[5:]
        for first, *others in zip(*settled, strict=True):
            assert max(first, *others) <= 3 * first
        assert 300 < operator.kept < 1100
        assert operator.keys <= 2000
        given += len(operator.take(ordered([], join), FOREVER))
        kept.flush(operator)
    assert given > 20_000
    assert (operator.kept, operator.chunks, operator.keys, kept.rows) == (0, 0, 0, {})
    assert _room(operator) <= 6000


@pytest.mark.parametrize("compiled", WAYS)
def test_a_burst_leaves_no_room_behind(compiled: bool):
    join = definition(-1000, 1000, "inner", str, {"s": str}, {"n": int})
    operator = IntervalOperator(join, compiled)
    before = _room(operator)
    operator.take(ordered([Row(0, f"{at}", 0, ("text" * 10,)) for at in range(50_000)], join), 0)
    assert _room(operator) > 100_000
    operator.take(ordered([], join), 1001)
    assert (operator.kept, operator.keys) == (0, 0)
    assert _room(operator) <= 3 * before


@pytest.mark.parametrize("compiled", WAYS)
def test_what_is_kept_does_not_come_into_what_a_take_costs(compiled: bool):
    """Counted in rows that are moved or merged: with 40 times as many rows kept, each is moved a few times in all."""
    moved = 0
    join = definition(-(10**9), 10**9, "inner", str, {"n": int}, {"n": int})
    operator = IntervalOperator(join, compiled)
    original = interval.Side._fit

    def counted(side: interval.Side, room: int) -> None:
        nonlocal moved
        moved += len(side)
        original(side, room)

    with patch.object(interval.Side, "_fit", counted):
        for at in range(400):
            rows = [Row(0, f"{at}-{i}", at, (i,)) for i in range(50)]
            operator.take(ordered(rows, join), at)
    assert operator.kept == 20_000
    assert moved <= 2 * operator.kept
    if not compiled:
        runs = operator._matches._runs[0]._runs  # type: ignore[attr-defined]
        assert len(runs) <= 5
        assert sum(len(run.words) for run in runs) == 20_000
