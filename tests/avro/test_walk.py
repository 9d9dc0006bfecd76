"""Steps over many places at once do what one step after another does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.avro.walk import Places, Unproven, steps_over, varint_sizes
from streamproc.log.batches import varint
from tests.log.wire import varint_bytes

PAD = bytes(16)
LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**20), 2**20)


def places(parts: list[bytes]) -> Places:
    starts = np.cumsum([0, *map(len, parts)])[:-1].astype(np.int64)
    return Places(b"".join(parts) + PAD, starts)


@given(st.lists(st.tuples(LONGS, st.integers(0, 10)), min_size=1, max_size=20))
def test_longs_are_read_as_one_by_one(values: list[tuple[int, int]]) -> None:
    parts = [varint_bytes(value, size=size) for value, size in values]
    there = places(parts)
    assert there.longs().tolist() == [value for value, _ in values] == [varint(part, 0)[0] for part in parts]
    assert there.at.tolist() == np.cumsum([len(part) for part in parts]).tolist()


@given(st.lists(LONGS, min_size=1))
def test_the_size_of_a_varint(values: list[int]) -> None:
    assert varint_sizes(np.array(values, np.int64)).tolist() == [len(varint_bytes(value)) for value in values]


@pytest.mark.parametrize("odd", [b"\xff" * 9 + b"\x02", b"\xff" * 9 + b"\x80\x01", b"\xff" * 20])
def test_a_varint_past_64_bits_is_refused(odd: bytes) -> None:
    with pytest.raises(Unproven):
        places([b"\x02", odd]).longs()


@pytest.mark.parametrize(
    ("kinds", "good", "bad"),
    [
        (["long"], b"\xac\x02", b""),
        (["int"], varint_bytes(2**31 - 1), varint_bytes(2**31)),
        (["int"], varint_bytes(-(2**31)), varint_bytes(-(2**31) - 1)),
        (["boolean"], b"\x01", b"\x02"),
        (["string"], b"\x06abc", b"\x05abc"),
        (["bytes"], b"\x00", varint_bytes(2**31)),
        (["float", "double", "float"], b"f" * 16, b""),
        (["double", "string", "double"], b"d" * 8 + b"\x02a" + b"d" * 8, b""),
        ([["null", "string"]], b"\x02\x02a", b"\x01\x02a"),
        ([["null", "string"]], b"\x00", b"\x04\x02a"),
        ([["double", "null"], "boolean"], b"\x00" + b"d" * 8 + b"\x01", b"\x02\x02"),
        ([["double", "null"], "boolean"], b"\x02\x01", b"\x80\x00"),
    ],
)
def test_every_type_is_stepped_over_or_refused(kinds: list[Any], good: bytes, bad: bytes) -> None:
    def step_over(*parts: bytes) -> list[int]:
        there = places(list(parts))
        for step in steps_over(kinds):
            step(there)
        return there.at.tolist()

    assert step_over(good, good, good) == [len(good) * n for n in (1, 2, 3)]
    if bad:
        with pytest.raises(Unproven):
            step_over(good, bad, good)


def test_nobody_leaves_the_buffer() -> None:
    there = places([b"\x02", b"\x04"])
    there.move(1)
    with pytest.raises(Unproven):
        there.move(1)
    with pytest.raises(Unproven):
        steps_over(["string"])[0](places([b"\x7eabc"]))


def test_five_bytes_are_the_same_everywhere() -> None:
    places([b"12345", b"12345"]).five(b"12345")
    with pytest.raises(Unproven):
        places([b"12345", b"12346"]).five(b"12345")
