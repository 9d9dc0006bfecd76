"""Numbers of results among those of one event."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.compiled import available
from streamproc.define.windows import AlignedWindow, CountWindow, GlobalWindow, SessionWindow
from streamproc.runtime.causes import causes_of
from tests.process.kit import bits
from tests.process.window_kit import aggregation, events, run, windows


@given(st.lists(st.integers(0, 5)))
def test_results_are_numbered_event_by_event(drawn):
    offsets = sorted(drawn)
    found = causes_of(np.array(offsets, np.int64), np.array(offsets, np.int64) * 10)
    assert found is not None
    wanted = [(offset, offsets[:row].count(offset)) for row, offset in enumerate(offsets)]
    assert list(zip(found.offsets.tolist(), found.numbers.tolist(), strict=True)) == wanted
    assert found.numbers.dtype == np.int64
    assert found.times is not None
    assert found.take(slice(1, None)).times.tolist() == [offset * 10 for offset in offsets[1:]]  # type: ignore[union-attr]


def test_results_out_of_order_have_no_ids():
    assert causes_of(np.array([1, 3, 2])) is None


def test_origins_are_what_readers_find():
    causes = causes_of(np.array([4, 4, 9]))
    assert causes is not None
    origins = causes.origins("stage", 3)
    assert (origins.stages, origins.stage.tolist(), origins.partition.tolist()) == (("stage",), [0, 0, 0], [3, 3, 3])
    assert (origins.offset.tolist(), origins.number.tolist()) == ([4, 4, 9], [0, 1, 0])


@settings(deadline=None, max_examples=60)
@given(st.data(), windows(), st.booleans(), st.booleans())
def test_windows_give_the_same_ids_however_their_events_are_cut(data: Any, drawn: Any, often: bool, compiled: bool):
    """Else what a window gave before a crash would not be known when it comes again."""
    window, scale = drawn
    timed = not isinstance(window, CountWindow | GlobalWindow)
    every = scale if often and isinstance(window, AlignedWindow | SessionWindow) else None
    definition = aggregation(window, grace=1 if timed else 0, every=every)
    rows = data.draw(events(scale))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    told = []
    for some in ([], cuts):
        found = run(definition, rows, some, compiled=compiled and available())
        causes = causes_of(np.array(found.causes, np.int64))
        assert causes is not None
        ids = zip(causes.offsets.tolist(), causes.numbers.tolist(), strict=True)
        told.append([(*id, *bits(result)) for id, result in zip(ids, found.results, strict=True)])
    assert told[0] == told[1]
