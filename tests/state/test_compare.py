"""States compared row by row, against sets of Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.process.state import binary, items
from streamproc.state.compare import Difference, changed, compare, compare_headers
from tests.state.kit import WAYS, changes

STATES = st.dictionaries(st.binary(max_size=2), st.binary(max_size=2), max_size=60)


def texts(rows: dict[bytes, bytes]):
    return binary(list(rows)), binary(list(rows.values()))


@pytest.mark.parametrize("way", WAYS)
@given(kept=STATES, replayed=STATES)
def test_all_kinds_of_differences(way: bool, kept: dict[bytes, bytes], replayed: dict[bytes, bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not way:
            patch.setattr(compiled, "available", lambda: False)
        found = compare(texts(kept), texts(replayed), show=5)
        masked = compare(texts(kept), texts(replayed), part=lambda value: value[:1])
    same = {key for key in kept.keys() & replayed.keys() if kept[key] == replayed[key]}
    unlike = sorted((kept.keys() | replayed.keys()) - same)
    assert found.equal == len(same)
    assert found.different == len(kept.keys() & replayed.keys()) - len(same)
    assert (found.missing, found.extra) == (len(replayed.keys() - kept.keys()), len(kept.keys() - replayed.keys()))
    assert found.first == tuple(Difference(key, kept.get(key), replayed.get(key)) for key in unlike[:5])
    assert found.all_equal == (kept == replayed)
    alike = {key for key in kept.keys() & replayed.keys() if kept[key][:1] == replayed[key][:1]}
    assert masked.equal == len(alike)
    assert (masked.missing, masked.extra) == (found.missing, found.extra)


@pytest.mark.parametrize("way", WAYS)
@given(before=STATES, put=STATES, gone=st.sets(st.binary(max_size=2), max_size=20))
def test_rows_after_changes(way: bool, before: dict[bytes, bytes], put: dict[bytes, bytes], gone: set[bytes]) -> None:
    gone -= put.keys()
    with pytest.MonkeyPatch.context() as patch:
        if not way:
            patch.setattr(compiled, "available", lambda: False)
        keys, values = changed(texts(before), changes(put, sorted(gone)))
    expected = {key: value for key, value in (before | put).items() if key not in gone}
    assert dict(zip(items(keys), items(values), strict=True)) == expected
    assert len(keys) == len(expected)


def test_headers() -> None:
    assert compare_headers({"time": 1, "heard": 5}, {"time": 1}, frozenset({"heard"})) == []
    assert compare_headers({"time": 1}, {"time": 2, "made a": 1}) == [
        "made a: None is kept, 1 was replayed",
        "time: 1 is kept, 2 was replayed",
    ]
