from __future__ import annotations

import struct

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import HEADER, LegacyBatch, RawRecord, next_batch, varint
from tests.log.wire import (
    CODECS,
    LOG_APPEND_TIME,
    Row,
    batch,
    batch_bytes,
    changed,
    legacy_bytes,
    parsed,
    rows,
    varint_bytes,
)

SOME: list[Row] = [
    (0, 1_700_000_000_000, b"key", b"value", []),
    (1, 1_699_999_999_000, None, b"no key, and earlier", []),
    (2, 1_700_000_000_001, b"", b"", [("h", b"1"), ("h", b"2"), ("é", b"")]),
    (5, 1_700_000_000_002, b"tombstone", None, []),
    (9, 1_700_000_000_003, b"long" * 100, bytes(range(256)) * 20, []),
]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_reads_what_aiokafka_reads(codec: int) -> None:
    data = batch_bytes(SOME, base=1_000, codec=codec, producer=77)
    ours, theirs = parsed(data), DefaultRecordBatch(data)
    assert ours.attributes & 7 == codec
    assert (ours.base_offset, ours.next_offset, ours.producer_id) == (1_000, 1_010, 77)
    assert (ours.next_offset, ours.max_timestamp) == (theirs.next_offset, theirs.max_timestamp)
    assert (ours.count, ours.size, ours.append_time) == (5, len(data), None)
    assert list(ours.records()) == [RawRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.none() | st.binary(max_size=300),
            st.none() | st.binary(max_size=300),
            st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3),
        ),
        min_size=1,
    ),
    st.sampled_from(list(CODECS.values())),
)
@settings(max_examples=100, deadline=None)
def test_reads_back_any_batch(given_rows: list[tuple[int, bytes | None, bytes | None, list]], codec: int) -> None:
    data = [(i, *row) for i, row in enumerate(given_rows)]
    assert list(batch(data, codec=codec, base=3).records()) == [
        RawRecord(3 + i, t, k, v, tuple(h)) for i, t, k, v, h in data
    ]


def test_append_time_is_that_of_every_record() -> None:
    found = batch(SOME, flags=LOG_APPEND_TIME, max_time=42)
    assert found.append_time == 42
    assert {r.timestamp for r in found.records()} == {42}


def test_a_missing_header_value_and_a_name_that_is_no_text_are_read() -> None:
    name, data = b"h\xff", b"\x02\x04h\xff\x01"
    inner = b"\x00\x00\x00\x01\x01" + data
    one = changed(batch_bytes(rows([b"x"])), body=varint_bytes(len(inner)) + inner)
    assert [r.headers for r in parsed(one).records()] == [((name.decode(errors="replace"), b""),)]


# Compression as other clients do it.


def test_snappy_in_xerials_chunks_and_raw() -> None:
    plain = batch_bytes(SOME)
    body = plain[HEADER.size :]
    chunks = [bytes(cramjam.snappy.compress_raw(body[i : i + 1_000])) for i in range(0, len(body), 1_000)]
    framed = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(c)) + c for c in chunks)
    raw = bytes(cramjam.snappy.compress_raw(body))
    for packed in (framed, raw):
        assert bytes(parsed(changed(plain, body=packed, codec=2)).body()) == body


@pytest.mark.parametrize("size", [-4, 0, -1, 2**31 - 1, 5])
def test_a_xerial_chunk_that_is_not_there_is_refused(size: int) -> None:
    body = b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, size)
    with pytest.raises(UndecodableRecord, match="at offset 7: cannot decompress"):
        parsed(changed(batch_bytes(SOME), body=body, codec=2, base=7)).body()


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_what_is_not_of_its_codec_is_refused(codec: int) -> None:
    with pytest.raises(UndecodableRecord, match="at offset 7: cannot decompress"):
        list(parsed(changed(batch_bytes(SOME), codec=codec, base=7)).records())


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(UndecodableRecord, match="unknown compression codec 6"):
        parsed(changed(batch_bytes(SOME), codec=6)).body()


# Finding batches in a buffer.


def test_walks_over_batches_and_stops_at_a_cut() -> None:
    first, second = batch_bytes(SOME), batch_bytes(SOME, base=10)
    both = memoryview(first + second)
    found = next_batch(both, 0)
    assert found is not None
    again = next_batch(both, found[1])
    assert again is not None
    assert again[0].base_offset == 10
    assert next_batch(both, again[1]) is None
    for cut in range(len(second)):
        assert next_batch(both[: len(first) + cut], len(first)) is None


def test_a_wrong_checksum_is_found_wherever_it_is() -> None:
    good = batch_bytes(rows([b"abc", b"def"]))
    for at in range(17, len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        with pytest.raises(UndecodableRecord, match="checksum"):
            next_batch(memoryview(bytes(bad)), 0)
    assert next_batch(memoryview(bytes(bad)), 0, check_crc=False) is not None


@pytest.mark.parametrize("magic", [3, 127, -1, -128])
def test_an_unknown_format_is_refused(magic: int) -> None:
    data = bytearray(batch_bytes(SOME))
    struct.pack_into("b", data, 16, magic)
    with pytest.raises(UndecodableRecord, match=f"got {magic}"):
        next_batch(memoryview(data), 0)


@pytest.mark.parametrize("magic", [0, 1, 2])
@pytest.mark.parametrize("length", [-(2**31), -12, -1, 0, 13])
def test_a_length_that_leads_nowhere_is_refused(magic: int, length: int) -> None:
    data = bytearray(batch_bytes(SOME))
    struct.pack_into(">ii b", data, 8, length, 0, magic)
    with pytest.raises(UndecodableRecord, match=f"got {length}"):
        next_batch(memoryview(data), 0)


@pytest.mark.parametrize(
    "change", [{"count": -1}, {"last_delta": -1}, {"base": -1}, {"base": 2**63 - 1}], ids=lambda c: next(iter(c))
)
def test_a_header_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(UndecodableRecord, match="records up to offset"):
        parsed(changed(batch_bytes(SOME), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_older_formats_are_handed_on_whole(magic: int, codec: int) -> None:
    one, two = legacy_bytes(magic, rows([b"v"]), codec=codec), batch_bytes(SOME)
    for after in (b"", two):
        with pytest.raises(LegacyBatch) as caught:
            next_batch(memoryview(one + after), 0)
        assert caught.value.args[0] == one
    assert next_batch(memoryview(one[:-1]), 0) is None


# Bodies that are not what the header says. A broker checks what it takes in; a wrong one must still end as an error.


@pytest.mark.parametrize("count", [1, 4, 6, 2**31 - 1])
def test_another_number_of_records_than_said(count: int) -> None:
    found = parsed(changed(batch_bytes(SOME), count=count))
    read: list[RawRecord] = []
    with pytest.raises(UndecodableRecord, match=r"malformed|left after"):
        read.extend(found.records())
    assert len(read) <= 5


def test_a_body_cut_anywhere_gives_the_first_records_then_the_error() -> None:
    whole = batch_bytes(SOME, base=100)
    expected = list(parsed(whole).records())
    for cut in range(HEADER.size, len(whole)):
        read = []
        with pytest.raises(UndecodableRecord, match="at offset 100: malformed"):
            for record in parsed(changed(whole, body=whole[HEADER.size : cut])).records():
                read.append(record)  # noqa: PERF402  what was read before it raises is what counts
        assert read == expected[: len(read)]


@pytest.mark.parametrize(
    "inner",
    [
        b"\x00\x00\x00\x03\x00\x00",  # a key of length -2
        b"\x00\x00\x00\x01\x03\x00",  # a value of length -2
        b"\x00\x00\x00\x01\x01\x01",  # -1 headers
        b"\x00\x00\x00\x01\x01\x00\x00",  # a byte too many
        b"\x00\x00\x01\x01\x01\x00",  # before the batch's first offset
        b"\x00\x00\x14\x01\x01\x00",  # behind its last
        b"\x00" + varint_bytes(2**63 - 1) + b"\x00\x01\x01\x00",  # a time past 64 bits
        b"\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00",  # a length past 64 bits
        b"\x00\x00\x00" + b"\xff" * 11 + b"\x01\x00",  # a varint that does not end
    ],
)
def test_a_malformed_record(inner: bytes) -> None:
    one = changed(batch_bytes(rows([b"x"]), last_delta=9), body=varint_bytes(len(inner)) + inner)
    with pytest.raises(UndecodableRecord, match="malformed"):
        list(parsed(one).records())


def test_offsets_that_do_not_rise_are_malformed() -> None:
    inner = b"\x00\x00\x04\x01\x01\x00"
    body = (varint_bytes(len(inner)) + inner) * 2
    with pytest.raises(UndecodableRecord, match="malformed"):
        list(parsed(changed(batch_bytes(rows([b"x", b"y"])), body=body, last_delta=5)).records())


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
@settings(max_examples=300)
def test_varints(value: int, before: bytes, after: bytes) -> None:
    data = varint_bytes(value)
    assert varint(before + data + after, len(before)) == (value, len(before) + len(data))


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_garbage_ends(body: bytes, head: bytes, count: int) -> None:
    good = batch_bytes(SOME)
    with pytest.raises(UndecodableRecord):
        list(parsed(changed(good, body=body + b"\x01", count=count)).records())
    try:
        next_batch(memoryview(head + good[len(head) :]), 0)
    except (UndecodableRecord, LegacyBatch):
        pass
