"""The writer's kernels against plain Python."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.log.batch_builder import Body, _join, packed
from streamproc.log.partition import partition_of

pytest.importorskip("numba")

from streamproc.compiled import memory, writer
from streamproc.compiled.kernel import BYTES, kernel
from streamproc.compiled.writer import BATCH, DOUBLE, LONG, TEXT, types

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
# Where varints become longer, and numbers negative.
EDGES = [s * (1 << b) + d for b in range(63) for s in (1, -1) for d in (-1, 0, 1)] + [(1 << 63) - 1, -(1 << 63)]


def placed(texts: list[bytes | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.array([-1 if text is None else len(text) for text in texts], np.int64)
    there = np.maximum(sizes, 0)
    data = b"".join(text or b"" for text in texts)
    return np.frombuffer(data, np.uint8), np.cumsum(there) - there, sizes


@settings(deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40)), st.integers(1, 300))
def test_keys_go_where_other_clients_send_them(keys, partitions):
    wanted = [-1 if key is None else partition_of(key, partitions) for key in keys]
    assert writer.partitions_of(*placed(keys), partitions).tolist() == wanted


@settings(deadline=None)
@given(st.lists(LONGS | st.sampled_from(EDGES)))
def test_numbers_as_text(values):
    data, starts, sizes = writer.digits(np.array(values, np.int64))
    assert [bytes(data[s : s + n]).decode() for s, n in zip(starts, sizes, strict=True)] == [str(v) for v in values]


def test_every_varint():
    """A field each of its own value: all widths, both signs."""
    n = len(EDGES)
    out, batches = written(words=np.array([EDGES], np.int64), ops=[(LONG, 0, -1, -1)], n=n)
    assert len(batches) == 1
    at = 0
    data = bytes(out)
    for value in EDGES:
        length, at = read(data, at)
        end = at + length
        for _ in range(5):  # attributes, two deltas, the key's length, the value's
            _, at = read(data, at)
        assert read(data, at) == (value, end - 1)
        at = end


def read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def written(*, words, ops, n, sizes=None, data=b"", order=None, limit=1 << 20, key_sizes=None):
    none = np.zeros(n, np.int64)
    order = np.arange(n) if order is None else order
    return writer.write(
        np.array(ops, np.int64).reshape(len(ops), 4),
        words,
        np.empty((0, n), np.int64) if sizes is None else sizes,
        np.empty((0, n), np.uint8),
        np.frombuffer(data, np.uint8),
        none,
        none - 1 if key_sizes is None else key_sizes,
        none,
        np.empty(0, np.uint8),
        order,
        np.array([len(order)]),
        limit,
    )


def test_one_text_in_several_fields_has_room():
    n, text = 50, b"x" * 1000
    ops = [(TEXT, 0, 0, -1)] * 5
    out, batches = written(
        words=np.zeros((1, n), np.int64),
        ops=ops,
        n=n,
        sizes=np.full((1, n), 1000),
        data=text,
        key_sizes=np.full(n, 1000),
    )
    assert batches[0][3] == n
    assert len(out) > n * 6000


def test_the_least_limit_makes_a_batch_of_every_record():
    _, batches = written(words=np.zeros((1, 9), np.int64), ops=[(DOUBLE, 0, -1, -1)], n=9, limit=0)
    assert batches.shape == (9, BATCH)
    assert batches[:, 3].tolist() == [1] * 9
    assert (batches[1:, 1] == batches[:-1, 2]).all()


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (5, 1), (4, 2), (0, 6)])
def test_a_text_past_its_buffer_is_an_error(start, size):
    with pytest.raises(IndexError):
        written(
            words=np.full((1, 1), start, np.int64),
            ops=[(TEXT, 0, 0, -1)],
            n=1,
            sizes=np.full((1, 1), size),
            data=b"12345",
        )


@kernel(types.int64(BYTES, types.int64, types.int64, types.uint8[::1], types.int64))
def copied(data, start, size, out, at):
    return memory.copy(data, start, size, out, at)


@kernel(types.void(types.uint8[::1], types.int64, types.int64, types.int64))
def moved(out, start, end, by):
    memory.move(out, start, end, by)


@kernel(types.void(types.uint8[::1], types.int64, types.uint64))
def stored(out, at, word):
    memory.store(out, at, word)


def test_memory_is_checked_at_both_ends():
    data, out = np.arange(10, dtype=np.uint8), np.zeros(10, np.uint8)
    assert copied(data, 2, 8, out, 0) == 8
    assert out.tolist() == [*range(2, 10), 0, 0]
    for start, size, at in ((3, 8, 0), (0, 8, 3), (-1, 1, 0), (0, 1, -1), (0, -1, 0), (0, 1 << 62, 1 << 62)):
        with pytest.raises(IndexError):
            copied(data, start, size, out, at)
    moved(out, 0, 8, 2)
    assert out.tolist() == [2, 3, *range(2, 10)]
    moved(out, 2, 10, -2)
    assert out.tolist()[:8] == [*range(2, 10)]
    for start, end, by in ((0, 8, 3), (0, 8, -1), (-1, 3, 1), (5, 4, 0), (0, 11, 0)):
        with pytest.raises(IndexError):
            moved(out, start, end, by)
    stored(out, 2, 0x0807060504030201)
    assert out[2:].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    for at in (3, -1):
        with pytest.raises(IndexError):
            stored(out, at, 0)


def bodies(chance: random.Random, n: int) -> list[Body]:
    found = []
    for _ in range(n):
        rows = chance.choice((1, 2, 63, 64, 65, 200))
        times = [chance.choice((0, 5, 1_700_000_000_000, 10**9)) + chance.randrange(100_000) for _ in range(rows)]
        keys = [chance.choice((None, b"", b"key")) for _ in range(rows)]
        values = [chance.choice((None, b"v" * chance.randrange(100))) for _ in range(rows)]
        found += packed(times, keys, values)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_bodies_are_joined_as_in_python(seed):
    many = bodies(random.Random(seed), 5)
    shifts = [body.first_timestamp - many[0].first_timestamp for body in many]
    data = b"".join(body.data for body in many)
    ends = np.cumsum([len(body.data) for body in many])
    counts = np.array([body.records for body in many])
    out = writer.join(np.frombuffer(data, np.uint8), ends, counts, np.array(shifts))
    assert out.tobytes() == _join(many, shifts)


def test_what_is_no_body_is_not_joined():
    (body,) = packed([1, 2], [None, b"k"], [b"v", b"w"])
    data = np.frombuffer(body.data, np.uint8)
    for cut in range(len(data)):
        with pytest.raises(ValueError, match="not the bodies"):
            writer.join(data[:cut].copy(), np.array([cut]), np.array([2]), np.array([0]))
    for count in (1, 3):
        with pytest.raises(ValueError, match="not the bodies"):
            writer.join(data, np.array([len(data)]), np.array([count]), np.array([0]))
