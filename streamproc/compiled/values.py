"""An interpreter of programs over Avro values; nothing is compiled per schema.

A program (see :mod:`streamproc.compiled.ops`) reads one value. It accepts only what a strict reader accepts: a value
that it finds bad may still be good to a lenient one, never the other way round.
Source: Apache Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.ops import (
    ARRAY,
    BAD,
    BOOLEAN,
    BRANCH,
    CALL,
    CONST,
    CONST_BOOLEAN,
    CONST_TEXT,
    DEPTH,
    DOUBLE,
    EMPTY,
    EMPTY_ITEMS,
    END,
    FIXED,
    FLOAT,
    GOOD,
    LONG,
    LONG_TO_DOUBLE,
    LOOP,
    NULL,
    NULL_BOOLEAN,
    NULL_TEXT,
    OTHER,
    RETURN,
    SKIP,
    STRING,
    TEXT,
    TOMBSTONE,
)
from streamproc.compiled.types import Bytes, Longs
from streamproc.compiled.varint import varint

_U = np.uint64
_FRAME = 5  # bytes: a zero and the schema's id
_TOP_BITS = _U(0x8080808080808080)
_WORDS = types.int64[:, ::1]


@inlined
def _eight(data: Bytes, at: int) -> Any:
    """Eight bytes as a number, the least first. Unsigned indices spare a look whether they are negative."""
    return (
        _U(data[_U(at)])
        | _U(data[_U(at + 1)]) << _U(8)
        | _U(data[_U(at + 2)]) << _U(16)
        | _U(data[_U(at + 3)]) << _U(24)
        | _U(data[_U(at + 4)]) << _U(32)
        | _U(data[_U(at + 5)]) << _U(40)
        | _U(data[_U(at + 6)]) << _U(48)
        | _U(data[_U(at + 7)]) << _U(56)
    )


@inlined
def _four(data: Bytes, at: int) -> Any:
    return (
        np.uint32(data[_U(at)])
        | np.uint32(data[_U(at + 1)]) << np.uint32(8)
        | np.uint32(data[_U(at + 2)]) << np.uint32(16)
        | np.uint32(data[_U(at + 3)]) << np.uint32(24)
    )


@inlined
def _is_ascii(data: Bytes, at: int, end: int) -> Any:
    high = _U(0)
    while end - at >= 8:
        high |= _eight(data, at)
        at += 8
    while at < end:
        high |= _U(data[_U(at)])
        at += 1
    return high & _TOP_BITS == _U(0)


@njit(boundscheck=True)
def _is_utf8(data: Bytes, at: int, end: int) -> bool:
    """Whether ``data[at:end]`` is well-formed UTF-8. Source: The Unicode Standard, table 3-7."""
    while at < end:
        byte = data[at]
        at += 1
        if byte < 0x80:
            continue
        low, high = 0x80, 0xBF  # what the second byte may be
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
            if byte == 0xE0:
                low = 0xA0
            elif byte == 0xED:
                high = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            more = 3
            if byte == 0xF0:
                low = 0x90
            elif byte == 0xF4:
                high = 0x8F
        else:
            return False
        if more > end - at:
            return False
        for _ in range(more):
            if not low <= data[at] <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@inlined
def _count(data: Bytes, at: int, end: int) -> tuple[Any, Any, Any]:
    """How many items an array's next block has, where it must end (-1 where it does not say), and the place behind the
    count; -1 where that cannot be.
    """
    until = np.int64(-1)
    count, at = varint(data, at, end)
    if at >= 0 and count < 0:  # then the block's size in bytes follows: who skips the block goes by it
        count = -count
        size, at = varint(data, at, end)
        if size < 0 or size > end - at:
            at = -1
        until = at + size
    if count < 0:  # the least number there is has no counterpart
        at = -1
    return count, until, at


@inlined
def _empty_items(data: Bytes, at: int, end: int, left: Any) -> tuple[Any, Any]:
    """Blocks of items that take no bytes, of which ``left`` may come: how many still may, and the place behind."""
    count = np.int64(1)
    while count != 0:
        count, until, at = _count(data, at, end)
        if at < 0 or count > left or (until >= 0 and until != at):
            return left, np.int64(-1)
        left -= count
    return left, at


@kernel(
    types.int64(
        BYTES, LONGS, LONGS, LONGS, LONGS, _WORDS, _WORDS, types.float64[:, ::1], types.uint8[:, ::1], types.uint8[::1]
    )
)
def _run(
    data: Bytes,
    places: Longs,
    sizes: Longs,
    ids: Longs,
    entries: Longs,
    code: Longs,
    words: Longs,
    doubles: Any,
    flags: Bytes,
    status: Bytes,
) -> int:
    """Reads the rows whose status is OTHER. How many are not good."""
    # One function, though a long one: a call for each value would count references to every array, which takes as long
    # as all that is done here.
    stack = np.empty((DEPTH, 3), np.int64)  # where to go on, how many items are left, and where they must end
    bits = np.empty(1, np.uint32)
    single = bits.view(np.float32)
    known, entry = np.int64(-1), np.int64(0)
    odd = 0
    for row in range(len(places)):
        if status[row] != OTHER:
            continue
        at, end = places[row], places[row] + sizes[row]
        odd += 1
        if sizes[row] < 0:
            status[row] = TOMBSTONE
            continue
        if sizes[row] < _FRAME or at < 0 or end > len(data) or data[_U(at)] != 0:
            status[row] = BAD
            continue
        schema = np.int64(0)
        for i in range(1, _FRAME):
            schema = schema << 8 | np.int64(data[_U(at + i)])
        if schema != known:
            found = -1
            for i in range(len(ids)):
                if ids[i] == schema:
                    found = i
                    break
            if found < 0:
                continue
            known, entry = schema, entries[found]
        at += _FRAME
        pc = entry
        top = 0
        empty = np.int64(EMPTY_ITEMS)
        good = False
        while True:
            op = code[_U(pc), _U(0)]
            slot = code[_U(pc), _U(2)]
            if op == TEXT or op == STRING:  # noqa: SIM109 (a tuple would be searched by a loop)
                value, at = varint(data, at, end)
                if at < 0 or value < 0 or value > end - at:
                    break
                if op == TEXT and not _is_ascii(data, at, at + value) and not _is_utf8(data, at, at + value):
                    break
                if slot >= 0:
                    words[slot, row] = at
                    words[slot + 1, row] = value
                at += value
            elif op == LONG:
                value, at = varint(data, at, end)
                if at < 0:
                    break
                if slot >= 0:
                    words[slot, row] = value
            elif op == DOUBLE:
                if end - at < 8:
                    break
                if slot >= 0:
                    words[slot, row] = np.int64(_eight(data, at))
                at += 8
            elif op == SKIP:
                if code[pc, 3] > end - at:
                    break
                at += code[pc, 3]
            elif op == LONG_TO_DOUBLE:
                value, at = varint(data, at, end)
                if at < 0:
                    break
                if slot >= 0:
                    doubles[slot, row] = np.float64(value)
            elif op == BOOLEAN:
                if at >= end or data[_U(at)] > 1:
                    break
                if slot >= 0:
                    flags[slot, row] = data[_U(at)]
                at += 1
            elif op == END:
                good = at == end
                break
            elif op == BRANCH:
                value, at = varint(data, at, end)
                if at < 0 or value < 0 or value >= code[pc, 3]:
                    break
                pc += 1 + value
            elif op == FLOAT:
                if end - at < 4:
                    break
                if slot >= 0:
                    bits[0] = _four(data, at)
                    doubles[slot, row] = np.float64(single[0])
                at += 4
            elif op == FIXED:
                if code[pc, 3] > end - at:
                    break
                if slot >= 0:
                    words[slot, row] = at
                    words[slot + 1, row] = code[pc, 3]
                at += code[pc, 3]
            elif op == NULL:
                words[slot, row] = 0
                flags[code[pc, 4], row] = 0
            elif op == NULL_BOOLEAN:
                flags[slot, row] = 0
                flags[code[pc, 4], row] = 0
            elif op == NULL_TEXT:
                words[slot, row] = 0
                words[slot + 1, row] = -1
            elif op == CONST:
                words[slot, row] = code[pc, 3]
            elif op == CONST_BOOLEAN:
                flags[slot, row] = code[pc, 3]
            elif op == CONST_TEXT:
                words[slot, row] = code[pc, 3]
                words[slot + 1, row] = code[pc, 4]
            elif op == ARRAY or op == LOOP:  # noqa: SIM109
                if op == ARRAY:
                    if top >= DEPTH:
                        break
                    stack[top, 0] = pc
                    stack[top, 1] = 1
                    stack[top, 2] = -1
                    top += 1
                pc = stack[top - 1, 0]
                left = stack[top - 1, 1] - 1  # every item takes a byte at least: no count leads far
                if left == 0:
                    if stack[top - 1, 2] >= 0 and stack[top - 1, 2] != at:
                        break
                    left, stack[top - 1, 2], at = _count(data, at, end)
                    if at < 0:
                        break
                if left > 0:
                    stack[top - 1, 1] = left
                    pc = code[pc, 3]
                    continue
                top -= 1
            elif op == EMPTY:
                empty, at = _empty_items(data, at, end, empty)
                if at < 0:
                    break
            elif op == CALL:
                if top >= DEPTH:
                    break
                stack[top, 0] = code[pc, 1]
                top += 1
                pc = code[pc, 3]
                continue
            elif op == RETURN:
                top -= 1
                pc = stack[top, 0]
                continue
            else:  # FAIL
                break
            pc = code[_U(pc), _U(1)]
        if good:
            status[row] = GOOD
            odd -= 1
        else:
            status[row] = BAD
    return odd


class Values:
    """The values of ``n`` rows, read as far as programs for their schemas are known.

    Attributes:
        words: int64[., n], numbers, doubles' bits, places and sizes of strings.
        flags: uint8[., n], booleans, and which numbers are there.
        status: uint8[n]: GOOD, TOMBSTONE, BAD, or OTHER, whose schema has no program yet.
    """

    __slots__ = ("_data", "_places", "_sizes", "flags", "status", "words")

    def __init__(self, data: Bytes, places: Longs, sizes: Longs, words: int, flags: int) -> None:
        n = len(places)
        self._data, self._places, self._sizes = data, places, sizes
        self.words = np.empty((words, n), np.int64)
        self.flags = np.ones((flags, n), np.uint8)
        self.status = np.full(n, OTHER, np.uint8)

    def run(self, ids: Longs, entries: Longs, code: Longs) -> int:
        """Reads the rows of these schemas, each by the program that begins at its entry. How many rows are not
        GOOD.
        """
        doubles = self.words.view(np.float64)
        return int(  # no row is read twice
            _run(
                self._data, self._places, self._sizes, ids, entries, code, self.words, doubles, self.flags, self.status
            )
        )

    def others(self) -> list[int]:
        """The schemas of the rows that no program has read yet."""
        at = self._places[self.status == OTHER]
        ids = np.zeros(len(at), np.int64)
        for i in range(1, _FRAME):
            ids = ids << 8 | self._data[at + i]
        return np.unique(ids).tolist()  # type: ignore[no-any-return]
