"""Byte strings of state's rows, as places in a buffer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamproc.columns import Texts
from streamproc.process.state import NO_TEXTS, binary, items, joined

BYTES = st.lists(st.binary(max_size=9), max_size=12)


@given(BYTES)
def test_there_and_back(values):
    texts = binary(values)
    assert texts.binary
    assert len(texts) == len(values)
    assert items(texts) == values


@given(st.lists(BYTES, max_size=4))
def test_joined_are_all_in_order(parts):
    assert items(joined([binary(part) for part in parts])) == [value for part in parts for value in part]


def test_parts_of_one_buffer_are_not_copied():
    whole = binary([b"a", b"bc", b"", b"d"])
    one = joined([whole[np.array([2, 3])], whole[:2]])
    assert one.data is whole.data
    assert items(one) == [b"", b"d", b"a", b"bc"]


def test_items_are_those_of_the_places_only():
    texts = Texts(np.frombuffer(b"xxabxx", np.uint8), np.array([2, 0]), np.array([2, 1]), binary=True)
    assert items(texts) == [b"ab", b"x"]
    assert items(NO_TEXTS) == []
