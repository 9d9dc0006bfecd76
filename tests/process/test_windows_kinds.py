"""Windows of every kind against what their definitions say, over random events, cuts and restores."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled as kernels
from streamproc.define.windows import AlignedWindow, CountWindow, GlobalWindow, SessionWindow
from streamproc.process import engine, keys
from tests.process.kit import bits, close
from tests.process.oracle import expected
from tests.process.window_kit import CHANGES, aggregation, events, run, wanted, windows, zoned

WAYS = [False, True] if kernels.available() else [False]


@given(st.data(), windows(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_kind_equals_the_oracle_however_it_is_cut_and_restored(
    data: st.DataObject, chosen: tuple[Any, int], numbered: bool
) -> None:
    window, scale = chosen
    grace, every = 0, None
    if not isinstance(window, CountWindow | GlobalWindow):
        grace = data.draw(st.sampled_from([0, 1, scale, 2 * scale]))
    if isinstance(window, AlignedWindow | SessionWindow) and not numbered:
        every = data.draw(st.sampled_from([None, scale, max(1, scale // 3)]))
    rows = data.draw(events(scale, numbered))
    check(data, aggregation(window, grace=grace, every=every, numbered=numbered), rows)


@given(st.data(), zoned(), st.sampled_from(CHANGES))
@settings(max_examples=30, deadline=None)
def test_days_of_a_zone_equal_the_oracle(data: st.DataObject, window: Any, change: int) -> None:
    """About the days that are 23 or 25 hours long, or not there at all."""
    day = 86_400_000
    grace, every = data.draw(st.sampled_from([0, 3_600_000, day])), data.draw(st.sampled_from([None, day // 4]))
    rows = data.draw(events(day // 3, start=change - 2 * day, most=50))
    check(data, aggregation(window, grace=grace, every=every), rows)


def check(data: st.DataObject, definition: Any, rows: list[Any]) -> None:
    """A task's results equal the oracle's; those of other cuts, with restores in between, equal them to the bit."""
    every = definition.emit.every if definition.emit else None
    want = expected(rows, definition.window, definition.grace, every)
    whole = run(definition, rows)
    assert whole.late == want.late
    assert whole.causes == [result.cause for result in want.results]
    records = wanted(rows, want, definition.sink.record)
    assert [_whose(r) for r in whole.results] == [_whose(r) for r in records]
    # Sums are in another order here and there: see test_windows_oracle.
    slack = 2 * len(rows) * 2.0**-53 * len(rows) * 1e6
    for got, exact in zip(whole.results, records, strict=True):
        assert close(got, exact, slack), (got, exact)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=12)))
    points = data.draw(st.dictionaries(st.sampled_from([0, *cuts]), st.sampled_from([None, *WAYS]), max_size=4))
    every_row = range(1, len(rows))
    often = data.draw(st.dictionaries(st.sampled_from(range(len(rows))), st.sampled_from([None, *WAYS]), max_size=9))
    with patch.object(engine, "_MANY_KEYS", 3), patch.object(keys, "_FEW", data.draw(st.sampled_from([2, 32]))):
        for compiled in WAYS:
            for parts, restored in (((), {}), (cuts, points), (every_row, often)):
                other = run(definition, rows, parts, compiled=compiled, restored=restored)
                assert [bits(r) for r in other.results] == [bits(r) for r in whole.results], compiled
                assert (other.causes, other.late, other.rows) == (whole.causes, whole.late, whole.rows), compiled


def _whose(result: Any) -> tuple[Any, ...]:
    return result.unit, result.start, result.end, result.n, getattr(result, "final", None)
