"""Record batches (message format v2) built from records: bodies, compression, header, checksum.

Source: Kafka's documentation, "Message Format", https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import cramjam
import google_crc32c
import numpy as np

from streamproc import compiled
from streamproc.log.batches import HEADER, OVERHEAD, varint
from streamproc.log.ports import Headers

LIMIT: Final = 960 << 10  # bytes of a body: a batch fits a broker's limit (1 MiB) even if it does not get smaller
BATCH_OVERHEAD: Final = 100  # bytes, at least, that a batch takes beside its records
_RECORD_OVERHEAD = 40  # bytes, at most, that a record takes beside its key, value and headers
_TRANSACTIONAL = 0x10
_CHECKED = struct.Struct(">hiqqqhii")  # the header from the attributes on: what the checksum covers
_UNCHECKED = struct.Struct(">qiibI")
_SMALL = 128  # bytes: a body of less does not get smaller by compression


class Body(NamedTuple):
    """The records of a batch, packed. Offsets count from 0, timestamps from ``first_timestamp``."""

    data: bytes
    records: int
    first_timestamp: int
    max_timestamp: int


def record_size(key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
    """How many bytes a batch of this record alone has at most, uncompressed."""
    extra = sum(len(name.encode()) + len(data) + 10 for name, data in headers)
    return len(key or b"") + len(value or b"") + extra + _RECORD_OVERHEAD + BATCH_OVERHEAD


def packed_headers(headers: Headers) -> bytes:
    """What follows a record's value: how many headers there are, and these."""
    parts = [_varint(len(headers))]
    for name, data in headers:
        encoded = name.encode()
        parts += (_varint(len(encoded)), encoded, _varint(len(data)), data)
    return b"".join(parts)


def packed(
    timestamps: Sequence[int],
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    limit: int = LIMIT,
    headers: Sequence[Headers] | None = None,
) -> Iterator[Body]:
    """Records as bodies of at most ``limit`` bytes; one record may be more."""
    out, count, first, highest = bytearray(), 0, 0, 0
    for i, (timestamp, key, value) in enumerate(zip(timestamps, keys, values, strict=True)):
        extra = headers[i] if headers else ()
        record = _record(count, timestamp - first, key, value, extra) if count else b""
        if count and len(out) + len(record) > limit:
            yield Body(bytes(out), count, first, highest)
            out, count = bytearray(), 0
        if not count:
            first = highest = timestamp
            record = _record(0, 0, key, value, extra)
        out += record
        count += 1
        highest = max(highest, timestamp)
    if count:
        yield Body(bytes(out), count, first, highest)


def joined(bodies: Sequence[Body]) -> Body:
    """Bodies as one, in order."""
    if len(bodies) == 1:
        return bodies[0]
    first = bodies[0].first_timestamp
    shifts = [body.first_timestamp - first for body in bodies]
    data = _join_compiled(bodies, shifts) if compiled.available() else _join(bodies, shifts)
    return Body(data, sum(body.records for body in bodies), first, max(body.max_timestamp for body in bodies))


def build(
    body: Body,
    *,
    codec: str = "none",
    transactional: bool = False,
    producer_id: int = -1,
    producer_epoch: int = -1,
    sequence: int = -1,
) -> bytes:
    """A record batch as it goes over the wire, its base offset 0.

    Args:
        codec: Kafka's name of the compression. A body that it does not make smaller is sent as it is.
        sequence: of its first record, within the partition and the producer's epoch; -1 without a producer id.
    """
    data, number = body.data, 0
    if codec != "none" and len(data) >= _SMALL:
        smaller = compress(data, codec)
        if len(smaller) < len(data):
            data, number = smaller, _CODECS[codec][0]
    checked = _CHECKED.pack(
        number | (_TRANSACTIONAL if transactional else 0),
        body.records - 1,
        body.first_timestamp,
        body.max_timestamp,
        producer_id,
        producer_epoch,
        sequence,
        body.records,
    )
    checksum = google_crc32c.extend(google_crc32c.value(checked), data)
    return b"".join((_UNCHECKED.pack(0, HEADER.size - OVERHEAD + len(data), -1, 2, checksum), checked, data))


def compress(data: bytes, codec: str) -> bytes:
    """A body compressed as every client reads it. Raises ValueError for a codec that Kafka does not have."""
    if codec not in _CODECS:
        raise ValueError(f"expected one of {', '.join(_CODECS)}; got {codec!r}")
    return _CODECS[codec][1](data)


# LZ4's frame descriptor, with its checksum: version 1, independent blocks (the broker refuses linked ones) of at most
# 64 KiB, no content size or checksums. As the Java client and librdkafka have it: readers set so much room aside. With
# larger ones compression takes a fifth longer, and makes a tenth less of it.
_LZ4_FRAME = b"\x04\x22\x4d\x18\x60\x40\x82"
_LZ4_BLOCK = 64 << 10
_XERIAL = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK = 32 << 10  # bytes, as Java's library has it


def _lz4(data: bytes) -> bytes:
    """Source: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md."""
    out: list[Any] = [_LZ4_FRAME]  # bytes, and what joins as bytes do
    whole = memoryview(data)
    for start in range(0, len(data), _LZ4_BLOCK):
        block = whole[start : start + _LZ4_BLOCK]
        smaller = cramjam.lz4.compress_block(block, store_size=False)
        if len(smaller) < len(block):
            out += (len(smaller).to_bytes(4, "little"), smaller)
        else:  # the highest bit says: as it is
            out += ((len(block) | 0x80000000).to_bytes(4, "little"), block)
    out.append(bytes(4))
    return b"".join(out)


def _snappy(data: bytes) -> bytes:
    """Framed by xerial's stream header, as Java's client does; librdkafka reads both ways."""
    out = [_XERIAL]
    for start in range(0, len(data), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK]))
        out += (len(block).to_bytes(4, "big"), block)
    return b"".join(out)


_CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, lambda data: data),
    "gzip": (1, lambda data: bytes(cramjam.gzip.compress(data, 1))),
    "snappy": (2, _snappy),
    "lz4": (3, _lz4),
    "zstd": (4, lambda data: bytes(cramjam.zstd.compress(data, 1))),
}


def _varint(value: int) -> bytes:
    left = (value << 1) ^ (value >> 63)
    if left < 0x80:
        return _ONE[left]
    out = bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


_ONE = [bytes((i,)) for i in range(0x80)]


def _record(offset: int, time: int, key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    parts = [b"\0", _varint(time), _varint(offset)]
    for part in (key, value):
        parts += (_varint(-1),) if part is None else (_varint(len(part)), part)
    parts.append(packed_headers(headers) if headers else b"\0")
    inner = b"".join(parts)
    return _varint(len(inner)) + inner


def _join(bodies: Sequence[Body], shifts: Sequence[int]) -> bytes:
    out: list[bytes] = []
    before = 0
    for body, shift in zip(bodies, shifts, strict=True):
        at = 0
        for offset in range(before, before + body.records):
            length, at = varint(body.data, at)
            end = at + length
            time, at = varint(body.data, at + 1)
            _, at = varint(body.data, at)
            inner = b"".join((b"\0", _varint(time + shift), _varint(offset), body.data[at:end]))
            out += (_varint(len(inner)), inner)
            at = end
        before += body.records
    return b"".join(out)


def _join_compiled(bodies: Sequence[Body], shifts: Sequence[int]) -> bytes:
    from streamproc.compiled.writer import join

    data = b"".join([body.data for body in bodies])
    ends = np.cumsum([len(body.data) for body in bodies])
    counts = np.array([body.records for body in bodies], np.int64)
    return join(np.frombuffer(data, np.uint8), ends, counts, np.array(shifts, np.int64)).tobytes()
