"""Every codec as other clients write it, and what is not to be unpacked."""

from __future__ import annotations

import random

import cramjam
import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import HEADER
from streamproc.log.compression import decompress, limit
from tests.log.wire import batch_bytes, changed, parsed, rows

ENCODERS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}


def squeezed(codec: int, size: int) -> bytes:
    """So many zeros, in very few bytes."""
    if codec == 2:
        return bytes(cramjam.snappy.compress_raw(bytes(size)))
    one = {1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}[codec].Compressor()
    for _ in range(size >> 20):
        one.compress(bytes(1 << 20))
    return bytes(one.finish())


@given(st.binary(max_size=3_000), st.integers(0, 400), st.sampled_from(list(ENCODERS)))
@settings(max_examples=200, deadline=None)
def test_reads_back_what_others_write(data: bytes, times: int, codec: int) -> None:
    data *= times
    assert decompress(codec, memoryview(ENCODERS[codec](data))) == data


@given(st.binary(max_size=2_000), st.integers(0, 300), st.booleans(), st.booleans(), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_any_kind_of_lz4_frame(data: bytes, times: int, linked: bool, checked: bool, level: int) -> None:
    data *= times
    compressor = cramjam.lz4.Compressor(level=level, block_linked=linked, content_checksum=checked)
    compressor.compress(data)
    frame = bytes(compressor.finish())
    assert decompress(3, memoryview(frame)) == data
    assert decompress(3, memoryview(frame + frame)) == data * 2
    chance = random.Random(len(data))
    noise = chance.randbytes(70_000)  # what cannot be made smaller is stored as it is
    compressor = cramjam.lz4.Compressor(level=level, block_linked=linked, content_checksum=checked)
    compressor.compress(noise + data)
    assert decompress(3, memoryview(bytes(compressor.finish()))) == noise + data


@pytest.mark.parametrize("codec", ENCODERS)
def test_what_is_cut_or_garbled_ends(codec: int) -> None:
    good = ENCODERS[codec](random.Random(1).randbytes(2_000) + b"abc" * 20_000)
    for cut in range(len(good) - 1, 0, -97):
        with pytest.raises((ValueError, cramjam.DecompressionError)):
            decompress(codec, memoryview(good[:cut]))
    for seed in range(300):
        chance, bad = random.Random(seed), bytearray(good)
        for _ in range(chance.randrange(1, 5)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            assert len(decompress(codec, memoryview(bytes(bad)))) <= limit(len(bad))
        except (ValueError, cramjam.DecompressionError):
            pass


@pytest.mark.parametrize(("codec", "size"), [(1, 300 << 20), (2, 300 << 20), (3, 300 << 20), (4, 128 << 20)])
def test_a_bomb_is_not_unpacked(codec: int, size: int) -> None:
    bomb = squeezed(codec, size)
    assert limit(len(bomb)) < size
    with pytest.raises(ValueError, match=f"it unpacks to more than {limit(len(bomb))} bytes"):
        decompress(codec, memoryview(bomb))
    packed = changed(batch_bytes(rows([b"x"])), body=bomb, codec=codec, base=7)
    with pytest.raises(UndecodableRecord, match="at offset 7: cannot decompress: it unpacks to more than"):
        parsed(packed).body()


def test_a_snappy_that_only_says_that_it_is_large_is_refused() -> None:
    said = b"\xff\xff\xff\xff\x0f"  # 4 GiB, in Snappy's preamble
    for data in (said + b"\x00a", b"\x82SNAPPY\x00" + bytes(8) + b"\x00\x00\x00\x07" + said + b"\x00a"):
        with pytest.raises(ValueError, match="unpacks to more than"):
            decompress(2, memoryview(data))


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_good_data_that_packs_very_well_passes(codec: int) -> None:
    body = batch_bytes(rows([bytes(1_000)] * 1_000))[HEADER.size :] * (60 if codec == 4 else 200)
    packed = bytes({1: cramjam.gzip, 3: cramjam.lz4, 4: cramjam.zstd}[codec].compress(body))
    assert len(packed) * 50 < len(body)
    assert decompress(codec, memoryview(packed)) == body


def test_what_is_returned_is_not_overwritten_by_the_next() -> None:
    first = decompress(4, memoryview(zstd_encode(b"a" * 1_000)))
    assert decompress(4, memoryview(zstd_encode(b"b" * 1_000))) == b"b" * 1_000
    assert first == b"a" * 1_000


def test_proportions() -> None:
    assert [limit(n) for n in (0, 4_000, 100_000, 1 << 20, 1 << 30)] == [
        64 << 20,
        64 << 20,
        102_400_000,
        256 << 20,
        256 << 20,
    ]
