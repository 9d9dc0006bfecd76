"""Record batches that we build, read by three readers that are not ours alone: our own, aiokafka's, cramjam's."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import cramjam
import pytest
from aiokafka.record.memory_records import MemoryRecords

from streamproc import compiled
from streamproc.log.batch_builder import LIMIT, Body, build, compress, joined, packed
from streamproc.log.batches import HEADER
from tests.log.wire import CODECS, parsed

KEYS = [b"k1", None, b"", b"x" * 300]
VALUES = [b"one", b"", None, b"y" * 9000]
TIMES = [1_700_000_000_000, 1_700_000_000_005, 1_699_999_999_000, 0]


def body(n: int = 4) -> Body:
    (one,) = packed(
        [TIMES[i % 4] for i in range(n)], [KEYS[i % 4] for i in range(n)], [VALUES[i % 4] for i in range(n)]
    )
    return one


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("n", [1, 4, 100])
def test_readers_read_it(codec, n):
    wire = build(body(n), codec=codec, producer_id=7, producer_epoch=3, sequence=41)
    wanted = [(i, TIMES[i % 4], KEYS[i % 4], VALUES[i % 4], ()) for i in range(n)]
    batch = parsed(wire)
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch.records()] == wanted
    theirs = MemoryRecords(wire).next_batch()
    assert theirs.validate_crc()
    assert [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == wanted
    assert (batch.count, batch.last_offset_delta) == (n, n - 1)
    assert (batch.first_timestamp, batch.max_timestamp) == (TIMES[0], max(TIMES[:n]))
    assert HEADER.unpack_from(wire)[9:12] == (7, 3, 41)
    assert batch.attributes == (0 if n == 1 else CODECS[codec])
    assert not batch.is_transactional


def test_a_transactional_one_says_so():
    assert parsed(build(body(), codec="lz4", transactional=True)).attributes == 3 | 0x10


def test_what_does_not_get_smaller_goes_as_it_is():
    noise = random.Random(1).randbytes(5000)
    (one,) = packed([1], [None], [noise])
    for codec in CODECS:
        batch = parsed(build(one, codec=codec))
        assert batch.attributes == 0
        assert bytes(batch.data) == one.data


def test_lz4_frames_are_what_brokers_take():
    """Independent blocks of at most 64 KiB, no checksums; with some that do not get smaller."""
    for size in (1000, 65536, 65537, 300_000, 3_000_000):
        data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
        frame = compress(data, "lz4")
        assert frame[:6] == b"\x04\x22\x4d\x18\x60\x40"
        assert bytes(cramjam.lz4.decompress(frame)) == data


def test_snappy_is_framed_by_xerial():
    data = bytes(range(256)) * 1000
    frame = compress(data, "snappy")
    assert frame[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    (size,) = struct.unpack_from(">i", frame, 16)
    assert bytes(cramjam.snappy.decompress_raw(frame[20 : 20 + size])) == data[: 32 << 10]


def test_an_unknown_codec():
    with pytest.raises(ValueError, match="expected one of none, gzip, snappy, lz4, zstd; got 'brotli'"):
        compress(b"", "brotli")


def test_bodies_keep_to_the_limit():
    values = [b"v" * 400] * 100 + [b"w" * 5000] + [b"x"] * 3
    found = list(packed([1] * 104, [None] * 104, values, limit=2000))
    assert all(len(one.data) <= 2000 for one in found if one.records > 1)
    assert [one.records for one in found if len(one.data) > 2000] == [1]
    assert [r.value for one in found for r in parsed(build(one)).records()] == values
    again = list(packed([1] * 104, [None] * 104, values, limit=0))
    assert [one.records for one in again] == [1] * 104


def test_a_body_of_the_limit_fits_a_brokers_default():
    assert LIMIT + LIMIT // 100 + HEADER.size < 1_048_588


def test_nothing_is_no_body():
    assert list(packed([], [], [])) == []


@pytest.mark.parametrize("by_kernel", [True, False])
def test_joined_bodies_are_one(monkeypatch, by_kernel):
    if by_kernel:
        pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "available", lambda: by_kernel)
    chance = random.Random(2)
    rows = [(chance.randrange(1 << 41), chance.choice(KEYS), chance.choice(VALUES)) for _ in range(300)]
    cuts = [0, 1, 3, 70, 71, 200, 300]
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    bodies = [one for part in parts for one in packed(*map(list, zip(*part, strict=True)))]  # type: ignore[arg-type]
    whole = joined(bodies)
    (wanted,) = packed(*map(list, zip(*rows, strict=True)), limit=1 << 30)  # type: ignore[arg-type]
    assert whole == wanted
    assert joined(bodies[:1]) is bodies[0]
