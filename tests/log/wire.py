"""Record batches as producers make them, by aiokafka's builder, with whatever a test wants changed afterwards."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import google_crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from streamproc.log.batches import HEADER, RecordBatch, next_batch

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20

#: offset, timestamp, key, value, headers
Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def rows(values: Sequence[bytes | None], *, key: bytes | None = b"k", first: int = 0, time: int = 1_000) -> list[Row]:
    return [(first + i, time + i, key, value, []) for i, value in enumerate(values)]


def batch_bytes(
    records: Sequence[Row],
    *,
    base: int = 0,
    codec: int = 0,
    flags: int = 0,
    producer: int = -1,
    last_delta: int | None = None,
    max_time: int | None = None,
) -> bytes:
    """A v2 batch; offsets of ``records`` count from ``base``."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 30,
    )
    for offset, timestamp, key, value, headers in records:
        assert builder.append(offset, timestamp, key, value, headers) is not None
    return changed(bytes(builder.build()), base=base, flags=flags, last_delta=last_delta, max_time=max_time)


def changed(
    data: bytes,
    *,
    base: int | None = None,
    flags: int = 0,
    codec: int | None = None,
    body: bytes | None = None,
    count: int | None = None,
    last_delta: int | None = None,
    first_time: int | None = None,
    max_time: int | None = None,
) -> bytes:
    """A batch with these parts changed, and its length and checksum made right again."""
    head = list(HEADER.unpack_from(data))
    body = data[HEADER.size :] if body is None else body
    head[1] = HEADER.size - 12 + len(body)
    head[5] |= flags
    if codec is not None:
        head[5] = head[5] & ~7 | codec
    for index, value in ((0, base), (6, last_delta), (7, first_time), (8, max_time), (12, count)):
        if value is not None:
            head[index] = value
    out = bytearray(HEADER.pack(*head) + body)
    struct.pack_into(">I", out, 17, google_crc32c.value(bytes(out[21:])))
    return bytes(out)


def parsed(data: bytes) -> RecordBatch:
    found = next_batch(memoryview(data), 0)
    assert found is not None
    assert found[1] == len(data)
    return found[0]


def batch(records: Sequence[Row], **options: int) -> RecordBatch:
    return parsed(batch_bytes(records, **options))  # type: ignore[arg-type]


def control_bytes(base: int, producer: int, *, commit: bool) -> bytes:
    """The marker that ends a transaction."""
    marker = struct.pack(">HH", 0, int(commit))
    return batch_bytes(
        [(0, 1_000, marker, struct.pack(">HI", 0, 0), [])], base=base, producer=producer, flags=TRANSACTIONAL | CONTROL
    )


def legacy_bytes(magic: int, records: Sequence[Row], *, codec: int = 0) -> bytes:
    """A message set of format v0 or v1."""
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=codec, batch_size=1 << 30)
    for offset, timestamp, key, value, _ in records:
        builder.append(offset, timestamp, key, value)
    return bytes(builder.build())


def varint_bytes(value: int, *, size: int = 0) -> bytes:
    """A zig-zag varint, of ``size`` bytes where that is more than it needs."""
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
