"""The rows of one side as rows of state: chunks of them, column by column.

A chunk's key is the side, CHUNK, the chunk's number and which piece of its value this is: a value that is larger than a
record may be comes in pieces. Rows that match later than they were written are told by a row of state of their own per
chunk, with FLAGS in place of CHUNK. Numbers of chunks are those of their first rows, or of rows before it.

A chunk that is small is written anew with what comes next, so that few events at a time do not make many chunks. It is
deleted when all of its rows are gone; until then those of them that are gone are known by their times.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
import numpy as np
import polars as pl

from streamproc.columns import Column, Columns, Longs, Texts
from streamproc.errors import StateError
from streamproc.process.joins.interval_columns import Packed, pack, read_array, read_texts, row_sizes, some_keys
from streamproc.process.joins.interval_side import Side
from streamproc.process.keys import KeyCodes
from streamproc.process.measures import Values
from streamproc.process.state import items
from streamproc.process.words import key_bytes, keys_of

_LARGEST: Final = 384 << 10  # bytes of a chunk, unless it is a single row
_PIECE: Final = 512 << 10  # bytes of a value
_SMALL: Final = 8 << 10  # bytes, below which a chunk is written anew with more rows
_KEY: Final = struct.Struct("<BBqI")  # side, CHUNK or FLAGS, chunk, piece
_CHUNK, _FLAGS = 0, 1
_WORD: Final = np.dtype("<i8")
_BITS: Final = np.dtype(np.uint8)


class _Rows(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The value of a chunk; ``matched`` has a bit per row, where that matters."""

    first: int
    rows: int
    times: bytes
    stamps: bytes
    matched: bytes | None
    key: Packed
    columns: list[Packed]


class _Matched(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The value of a chunk's flags."""

    first: int
    rows: int
    matched: bytes


T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(_Rows)
_matched = msgspec.msgpack.Decoder(_Matched)


@dataclass(slots=True)
class _Chunk:
    number: int
    end: int  # the number behind its last row's
    pieces: int
    size: int  # bytes
    flags: bool = False  # whether there is a row of them


class Chunks:
    """What a changelog knows of a side.

    Args:
        number: of the side.
        codes: of both sides' keys.
        kind: the keys' type.
    """

    def __init__(self, number: int, side: Side, codes: KeyCodes, kind: type, *, compiled: bool) -> None:
        self._number, self._side, self._codes = number, side, codes
        self._kind, self._compiled = kind, compiled
        self._chunks: list[_Chunk] = []
        self._ends: list[int] = []  # of the same
        self._stored = 0  # rows before this number are known
        self._newly: list[Longs] = []  # numbers of rows that matched, and are known not to have

    def __len__(self) -> int:
        return len(self._chunks)

    def match(self, numbers: Longs) -> None:
        """These rows have matched for the first time."""
        if self._stored and len(known := numbers[numbers < self._stored]):
            self._newly.append(known)

    def changes(self, put: dict[bytes, bytes], gone: list[bytes]) -> None:
        """Adds the rows of state that changed, and the keys of those that are no more; from now on they are known."""
        side = self._side
        over = bisect_right(self._ends, side.first)
        for chunk in self._chunks[:over]:
            gone += self._keys(chunk, 0)
        del self._chunks[:over], self._ends[:over]
        start, last = max(self._stored, side.first), None
        if side.end > start and self._chunks and self._chunks[-1].size < _SMALL:
            last, _ = self._chunks.pop(), self._ends.pop()
            start = max(last.number, side.first)
        self._write_flags(start, put)
        if side.end > start:
            self._write(start, last, put, gone)
        self._stored = side.end

    def _keys(self, chunk: _Chunk, first_piece: int) -> list[bytes]:
        keys = [_KEY.pack(self._number, _CHUNK, chunk.number, piece) for piece in range(first_piece, chunk.pieces)]
        return [*keys, _KEY.pack(self._number, _FLAGS, chunk.number, 0)] if chunk.flags else keys

    def _write(self, start: int, last: _Chunk | None, put: dict[bytes, bytes], gone: list[bytes]) -> None:
        """Writes the rows from ``start`` on; the first of them in the place of the chunk ``last``."""
        for first, end, value in self._values(start):
            chunk = _Chunk(first if last is None else last.number, end, -(-len(value) // _PIECE), len(value))
            if last is not None:
                gone += self._keys(last, chunk.pieces)  # its flags, too, as they are in the value now
                last = None
            for piece in range(chunk.pieces):
                key = _KEY.pack(self._number, _CHUNK, chunk.number, piece)
                put[key] = value[piece * _PIECE : (piece + 1) * _PIECE]
            self._chunks.append(chunk)
            self._ends.append(end)

    def single(self) -> Iterator[tuple[bytes, bytes]]:
        """Each row of the side as a chunk of its own: key and value."""
        for first, _, value in self._values(self._side.first, largest=1):
            yield _KEY.pack(self._number, _CHUNK, first, 0), value

    def _values(self, start: int, largest: int = _LARGEST) -> Iterator[tuple[int, int, bytes]]:
        """The rows from ``start`` on as chunks: the numbers of the first row and behind the last, and the value."""
        side = self._side
        first, stop = start - side.origin, side.live.stop
        held: list[Values | Texts] = [self._held_keys(first, stop)]
        held += [column.held(first, stop) for column in side.columns.values()]
        ends = np.cumsum(np.broadcast_to(16 + sum(map(row_sizes, held)), stop - first))
        row = 0
        while row < len(ends):
            most = largest + (int(ends[row - 1]) if row else 0)
            end = max(int(np.searchsorted(ends, most, side="right")), row + 1)
            at = slice(first + row, first + end)
            times, stamps = (array[at].astype(_WORD).tobytes() for array in (side.times, side.stamps))
            matched = None if side.matched is None else np.packbits(side.matched[at]).tobytes()
            key, *columns = (pack(column, slice(row, end)) for column in held)
            yield start + row, start + end, _encode(_Rows(start + row, end - row, times, stamps, matched, key, columns))
            row = end

    def _held_keys(self, start: int, stop: int) -> Texts:
        codes = self._side.codes[start:stop]
        known = codes[codes >= 0]
        column = some_keys(self._codes, known, self._kind)
        texts = key_bytes(column.to_numpy() if self._kind is int and isinstance(column, pl.Series) else column)
        if len(known) == len(codes):
            return texts
        sizes = np.full(len(codes), -1, np.int64)
        sizes[codes >= 0] = texts.sizes
        there = np.maximum(sizes, 0)
        return Texts(texts.data, np.cumsum(there) - there, sizes, binary=True)

    def _write_flags(self, stop: int, put: dict[bytes, bytes]) -> None:
        """Writes the flags of chunks of rows before ``stop`` in which some matched."""
        side, newly, self._newly = self._side, self._newly, []
        if not newly or side.matched is None:
            return
        numbers = np.unique(np.concatenate(newly))
        numbers = numbers[(numbers >= side.first) & (numbers < stop)]
        at = 0
        while at < len(numbers):
            chunk = self._chunks[bisect_right(self._ends, int(numbers[at]))]
            first = max(chunk.number, side.first)
            bits = np.packbits(side.matched[first - side.origin : chunk.end - side.origin]).tobytes()
            put[_KEY.pack(self._number, _FLAGS, chunk.number, 0)] = _encode(_Matched(first, chunk.end - first, bits))
            chunk.flags = True
            at = int(np.searchsorted(numbers, chunk.end))

    def restore(self, stored: Stored, end: int) -> None:
        """Takes the side's rows, of which ``end`` is the number behind the last one's. Raises StateError where they
        are not all there.
        """
        side = self._side
        for number in sorted(stored.chunks):
            pieces = stored.chunks[number]
            value = b"".join(pieces[piece] for piece in sorted(pieces))
            rows = _decoded(_rows, value)
            if not self._chunks:
                side.begin(rows.first)
            if rows.first != side.end:
                raise StateError(f"rows of a join: expected a chunk from row {side.end} on; got one from {rows.first}")
            self._append(rows)
            self._chunks.append(_Chunk(number, side.end, len(pieces), len(value), number in stored.flags))
            self._ends.append(side.end)
        if not self._chunks:
            side.begin(end)
        if side.end != end or stored.flags.keys() - stored.chunks.keys():
            raise StateError(f"rows of a join: expected chunks up to row {end}; got them up to {side.end}")
        for value in stored.flags.values():
            self._match(_decoded(_matched, value))
        self._stored = end

    def _append(self, rows: _Rows) -> None:
        side, count = self._side, rows.rows
        times, stamps = (read_array(data, _WORD, count) for data in (rows.times, rows.stamps))
        keys = read_texts(rows.key, count)
        known = np.flatnonzero(keys.sizes >= 0)
        codes = np.full(count, -1, np.int64)
        if len(known):
            there = Texts(keys.data, keys.starts[known], keys.sizes[known], binary=True)
            codes[known] = self._codes.codes(keys_of(there, self._kind, self._compiled))
        if len(rows.columns) != len(side.columns):
            raise StateError(f"rows of a join: expected {len(side.columns)} columns; got {len(rows.columns)}")
        columns: dict[str, Column] = {
            name: column.unpack(packed, count)
            for (name, column), packed in zip(side.columns.items(), rows.columns, strict=True)
        }
        side.append(times, stamps, codes, Columns(columns, count))
        if rows.matched is not None:
            self._match(_Matched(rows.first, count, rows.matched))

    def _match(self, flags: _Matched) -> None:
        side, at = self._side, flags.first - self._side.origin
        bits = read_array(flags.matched, _BITS, -(-flags.rows // 8))
        if side.matched is None or at < 0 or flags.first + flags.rows > side.end:
            raise StateError(f"rows of a join: flags of rows from {flags.first} on, which are not there")
        side.matched[at : at + flags.rows] |= np.unpackbits(bits, count=flags.rows).view(np.bool_)


@dataclass(slots=True)
class Stored:
    """The rows of state of one side: pieces of chunks, and flags, by the chunks' numbers."""

    chunks: dict[int, dict[int, bytes]] = field(default_factory=dict)
    flags: dict[int, bytes] = field(default_factory=dict)


def stored(keys: Texts, values: Texts) -> tuple[Stored, Stored]:
    """The rows of state of both sides. Raises StateError for a key that is no such row's."""
    sides = Stored(), Stored()
    for key, value in zip(items(keys), items(values), strict=True):
        if len(key) != _KEY.size or key[0] >= len(sides) or key[1] not in (_CHUNK, _FLAGS):
            raise StateError(f"a row of a join: expected the key of a chunk; got {key[:32]!r}")
        side, kind, number, piece = _KEY.unpack(key)
        if kind == _CHUNK:
            sides[side].chunks.setdefault(number, {})[piece] = value
        else:
            sides[side].flags[number] = value
    return sides


def _decoded(decoder: msgspec.msgpack.Decoder[T], value: bytes) -> T:
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise StateError(f"a row of a join: {error}") from None
