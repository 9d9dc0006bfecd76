"""Decompression of record batches, bounded: a few bytes can claim to be gigabytes.

Kafka names no limit for what a batch unpacks to. Here it is in proportion to what was sent (:func:`limit`): deflate
cannot do better than 1 to 1,032, and what unpacks to no more than 64 MiB passes anyway; none takes more than 256 MiB.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

import cramjam
import numpy as np

Room = memoryview

_KEPT = 16 << 20  # bytes; the room that each thread keeps, of which only what was used takes memory
_LEAST = 64 << 20  # more than a producer puts into a batch before it is compressed; zstd may make 10,000 to 1 of it
_MOST = 256 << 20
_RATIO = 1024
_XERIAL = b"\x82SNAPPY\x00"
_LZ4_MAGIC = 0x184D2204
_LZ4_VERSION, _LZ4_INDEPENDENT, _LZ4_BLOCK_SUMS, _LZ4_SIZED, _LZ4_SUM, _LZ4_DICTIONARY = 0xC0, 0x20, 0x10, 8, 4, 1


def limit(size: int) -> int:
    """How many bytes a batch of ``size`` compressed bytes may unpack to."""
    return min(_MOST, max(_LEAST, _RATIO * size))


def decompress(codec: int, data: memoryview) -> bytes:
    """What ``data`` unpacks to. ``codec`` is Kafka's number: 1 gzip, 2 snappy, 3 lz4, 4 zstd.

    Raises:
        KeyError: no such codec.
        ValueError, cramjam.DecompressionError: it is not of that codec, or unpacks to more than :func:`limit`.
    """
    unpack = _CODECS[codec]
    room = _scratch.room
    try:
        return room[: unpack(data, room)].tobytes()
    except (ValueError, cramjam.DecompressionError) as error:
        if limit(len(data)) <= len(room):
            raise _explained(error, len(room)) from error
    room = np.empty(limit(len(data)), np.uint8).data
    try:
        return room[: unpack(data, room)].tobytes()
    except (ValueError, cramjam.DecompressionError) as error:
        raise _explained(error, len(room)) from error


class _Scratch(threading.local):
    """Room to unpack into, so that the result is allocated once and in its size."""

    def __init__(self) -> None:
        self.room: Room = np.empty(_KEPT, np.uint8).data


_scratch = _Scratch()


def _explained(error: Exception, most: int) -> Exception:
    """cramjam says of a full room that it "failed to write whole buffer"."""
    return ValueError(f"it unpacks to more than {most} bytes") if "whole buffer" in str(error) else error


def _gzip(data: memoryview, room: Room) -> int:
    return int(cramjam.gzip.decompress_into(data, room))


def _zstd(data: memoryview, room: Room) -> int:
    return int(cramjam.zstd.decompress_into(data, room))


def _snappy(data: memoryview, room: Room) -> int:
    """Java's and librdkafka's snappy: framed by xerial's stream header, or one raw block."""
    if data[:8] != _XERIAL:
        return _snappy_block(data, room)
    filled, at = 0, 16
    while at + 4 <= len(data):
        (size,) = struct.unpack_from(">i", data, at)
        if not 0 < size <= len(data) - at - 4:
            raise ValueError(f"a chunk of {size} bytes where {len(data) - at - 4} are left")
        filled += _snappy_block(data[at + 4 : at + 4 + size], room[filled:])
        at += 4 + size
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes left after its chunks")
    return filled


def _snappy_block(data: memoryview, room: Room) -> int:
    if cramjam.snappy.decompress_raw_len(data) > len(room):
        raise ValueError("failed to write whole buffer")
    return int(cramjam.snappy.decompress_raw_into(data, room))


def _lz4(data: memoryview, room: Room) -> int:
    """An LZ4 frame. The usual one is taken apart here: cramjam's frame reader takes 17 µs per frame and more than twice
    as long per byte as its block reader. All others are left to it, and so is the verdict on what is wrong.
    """
    try:
        blocks, most = _lz4_blocks(data)
        filled = 0
        for start, end, packed in blocks:
            left = len(room) - filled
            if packed:
                filled += cramjam.lz4.decompress_block_into(data[start:end], room[filled:], output_len=min(most, left))
            elif end - start <= min(most, left):
                room[filled : filled + end - start] = data[start:end]
                filled += end - start
            else:
                raise ValueError
    except (ValueError, struct.error, cramjam.DecompressionError):
        return int(cramjam.lz4.decompress_into(data, room))
    return filled


def _lz4_blocks(data: memoryview) -> tuple[list[tuple[int, int, bool]], int]:
    """Where the blocks of a frame lie, whether each is packed, and how long one may be unpacked. Its checksums are not
    looked at: the record batch has one of its own.

    Source: LZ4 Frame Format 1.6.4, https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.

    Raises:
        ValueError, struct.error: it is no single frame of independent blocks.
    """
    magic, flags, descriptor = struct.unpack_from("<IBB", data)
    size_code = descriptor >> 4 & 7
    unusual = flags & _LZ4_VERSION != 0x40 or flags & (_LZ4_SIZED | _LZ4_DICTIONARY)
    if magic != _LZ4_MAGIC or unusual or size_code < 4:
        raise ValueError
    blocks, at = [], 7
    while True:
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if not size:
            break
        end = at + (size & 0x7FFFFFFF)
        blocks.append((at, end, size < 0x80000000))
        at = end + (4 if flags & _LZ4_BLOCK_SUMS else 0)
    linked = not flags & _LZ4_INDEPENDENT and len(blocks) > 1
    if linked or at + (4 if flags & _LZ4_SUM else 0) != len(data):
        raise ValueError
    return blocks, 1 << (8 + 2 * size_code)


_CODECS: dict[int, Callable[[memoryview, Room], int]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
