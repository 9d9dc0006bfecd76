"""Numbers of results among those of one event."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.causes import causes_of


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
