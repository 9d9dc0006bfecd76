"""Kafka's record batches (message format v2): headers, bodies, records.

All integers of the header are big-endian; records use zig-zag varints.
Source: Kafka's documentation, "Message Format", https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np

from streamproc.errors import UndecodableRecord
from streamproc.log.compression import decompress
from streamproc.log.ports import Headers

HEADER = struct.Struct(">qiibIhiqqqhii")
OVERHEAD = 12  # base offset and length: what the length does not count
_START = struct.Struct(">qiib")  # base offset, length, (leader epoch or checksum), magic: the same in all formats
_CRC_FROM = 21  # the checksum is over all from the attributes on
_MAGIC_AT = 16  # where in a batch its format's number is
_TRIES = 64  # places that look like a batch, of which checksums are taken, until it is given up
_LEGACY = 14  # the least length of a v0 message: checksum, magic, attributes, two lengths
_LONGS = range(-(1 << 63), 1 << 63)
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record of a batch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """One record batch as it came, its records still packed."""

    base_offset: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    count: int
    data: memoryview

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def append_time(self) -> int | None:
        """The broker's timestamp of every record, where the topic keeps those; None where each has its own."""
        return self.max_timestamp if self.attributes & _LOG_APPEND_TIME else None

    @property
    def size(self) -> int:
        return HEADER.size + len(self.data)

    def body(self) -> bytes | memoryview:
        """The records, decompressed.

        Raises:
            UndecodableRecord: unknown codec, data that is not of the codec named, or more than
                :func:`streamproc.log.compression.limit` of it.
        """
        codec = self.attributes & _CODEC
        if codec == 0:
            return self.data
        try:
            return decompress(codec, self.data)
        except KeyError:
            said = f"unknown compression codec {codec}"
        except Exception as error:  # cramjam raises types of its own per codec
            said = f"cannot decompress: {error}"
        # Raised here, so that it does not keep the other error, whose frames hold what was unpacked.
        raise UndecodableRecord(f"batch at offset {self.base_offset}: {said}")

    def records(self) -> Iterator[RawRecord]:
        """The records one by one, offsets rising.

        Raises:
            UndecodableRecord: the body does not hold what the header says; what came before the fault was yielded.
        """
        body = bytes(self.body())
        at, offset = 0, self.base_offset - 1
        append_time = self.append_time
        try:
            for _ in range(self.count):
                length, at = varint(body, at)
                end = at + length
                if length < 0 or end > len(body):
                    raise IndexError
                time_delta, at = varint(body, at + 1)  # behind the attributes, which are unused
                offset_delta, at = varint(body, at)
                key, at = _bytes(body, at)
                value, at = _bytes(body, at)
                headers, at = _headers(body, at)
                timestamp = self.first_timestamp + time_delta if append_time is None else append_time
                before, offset = offset, self.base_offset + offset_delta
                if at != end or not before < offset < self.next_offset or timestamp not in _LONGS:
                    raise IndexError
                yield RawRecord(offset, timestamp, key, value, headers)
        except IndexError:
            raise UndecodableRecord(
                f"batch at offset {self.base_offset}: malformed near byte {at} of {len(body)}"
            ) from None
        if at != len(body):
            raise UndecodableRecord(
                f"batch at offset {self.base_offset}: {len(body) - at} bytes left after its records"
            )


@dataclass(frozen=True, slots=True)
class CorruptBatch(RecordBatch):
    """What lies in the place of a record batch and is none: its body is its bytes, and asking for it raises. It counts
    as one record, which becomes one dead letter.
    """

    error: UndecodableRecord

    @classmethod
    def of(cls, base_offset: int, next_offset: int, data: memoryview, error: UndecodableRecord) -> CorruptBatch:
        """All from ``base_offset`` to before ``next_offset``, given up."""
        return cls(base_offset, 0, next_offset - base_offset - 1, -1, -1, -1, 1, data, error)

    @property
    def size(self) -> int:
        return len(self.data)

    def body(self) -> bytes | memoryview:
        raise self.error


#: A record batch, or the records of one of a format before v2.
Part = RecordBatch | Sequence[RawRecord]


def varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A zig-zag varint at ``at``, and where it ends. Raises IndexError past the end or past 64 bits."""
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise IndexError
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise IndexError


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = varint(data, at)
    if length == -1:
        return None, at
    if length < -1 or at + length > len(data):
        raise IndexError
    return data[at : at + length], at + length


def _headers(data: bytes, at: int) -> tuple[Headers, int]:
    count, at = varint(data, at)
    if count < 0:
        raise IndexError
    headers = []
    for _ in range(count):
        name, at = _bytes(data, at)
        value, at = _bytes(data, at)
        headers.append(((name or b"").decode(errors="replace"), value or b""))
    return tuple(headers), at


def said_next_offset(buffer: memoryview, at: int) -> int | None:
    """The offset behind the batch at ``at`` by its own header, right or wrong; None where there is none."""
    if at + HEADER.size > len(buffer):
        return None
    base, _, _, magic = _START.unpack_from(buffer, at)
    if magic != 2:  # v0 and v1: the set has its last record's offset
        return int(base) + 1
    return int(base + HEADER.unpack_from(buffer, at)[6]) + 1


def find_batch(buffer: memoryview, at: int, after: int) -> tuple[RecordBatch, int] | None:
    """The first whole v2 batch with a right checksum that begins at ``at`` or behind, and where it begins. Its base
    offset must be more than ``after``. For what lies behind damage, where no length can be trusted.
    """
    data = np.frombuffer(buffer, np.uint8)
    starts = np.flatnonzero(data[at + _MAGIC_AT :] == 2) + at
    starts = starts[starts + HEADER.size <= len(data)]
    heads = data[starts[:, None] + np.arange(_MAGIC_AT)].copy()
    bases, lengths = heads[:, :8].copy().view(">i8")[:, 0], heads[:, 8:12].copy().view(">i4")[:, 0]
    fits = (bases > after) & (lengths >= HEADER.size - OVERHEAD) & (lengths <= len(data) - OVERHEAD - starts)
    for start in starts[fits][:_TRIES].tolist():
        try:
            found = next_batch(buffer, start)
        except UndecodableRecord:
            continue
        if found is not None:
            return found[0], start
    return None


class LegacyBatch(Exception):
    """A batch of message format v0 or v1, which this module does not read; ``args[0]`` is its bytes."""


def next_batch(buffer: memoryview, at: int, *, check_crc: bool = True) -> tuple[RecordBatch, int] | None:
    """The batch at ``at`` and where it ends; None where the rest is no whole batch (brokers cut fetches anywhere).

    Raises:
        LegacyBatch: it is older than v2.
        UndecodableRecord: its checksum or its header is wrong.
    """
    if at + _START.size > len(buffer):
        return None
    base, length, _, magic = _START.unpack_from(buffer, at)
    if magic not in (0, 1, 2):
        raise UndecodableRecord(f"batch at offset {base}: expected message format 0, 1 or 2; got {magic}")
    least = HEADER.size - OVERHEAD if magic == 2 else _LEGACY
    if length < least:
        raise UndecodableRecord(f"batch at offset {base}: expected a length of at least {least}; got {length}")
    end = at + OVERHEAD + length
    if end > len(buffer):
        return None
    if magic < 2:
        raise LegacyBatch(bytes(buffer[at:end]))
    _, _, _, _, crc, attributes, last_delta, first, last, producer, _, _, count = HEADER.unpack_from(buffer, at)
    if check_crc and google_crc32c.value(np.frombuffer(buffer[at + _CRC_FROM : end], np.uint8)) != crc:
        raise UndecodableRecord(f"batch at offset {base}: its checksum is wrong")
    if count < 0 or last_delta < 0 or not 0 <= base <= _LONGS[-1] - last_delta - 1:
        raise UndecodableRecord(f"batch at offset {base}: {count} records up to offset {base} + {last_delta}")
    data = buffer[at + HEADER.size : end]
    return RecordBatch(base, attributes, last_delta, first, last, producer, count, data), end
