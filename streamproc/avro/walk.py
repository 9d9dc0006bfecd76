"""Steps over many records at once, to prove that a block of them was read right.

A reader that takes a record batch for an Avro block believes that every record has the shape it was told. Here each
record is walked over by its own lengths: Kafka's fields, the framing, every field of the value. Where all of them come
out at their ends, a reader that goes by the same grammar from the same start cannot have read anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.columns import Longs

Step = Callable[["Places"], None]
_U = np.uint64
_STOPS, _BITS = _U(0x8080808080808080), _U(0x7F7F7F7F7F7F7F7F)
_FOLDS = (
    (_U(0x007F007F007F007F), _U(0x7F007F007F007F00), _U(1)),
    (_U(0x00003FFF00003FFF), _U(0x3FFF00003FFF0000), _U(2)),
    (_U(0x000000000FFFFFFF), _U(0x0FFFFFFF00000000), _U(4)),
)


class Unproven(Exception):
    """The records are not, or not certainly, of the shape asked for."""


def require(condition: Any) -> None:
    """Raises Unproven."""
    if not condition:
        raise Unproven


class Places:
    """A place per record in a buffer, all moving on together. A step that meets what cannot be raises Unproven.

    Args:
        data: the buffer; places stay at least 16 bytes before its end, and so may look ahead.
        at: int64[n].
    """

    def __init__(self, data: bytes, at: Longs) -> None:
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._words: NDArray[np.uint64] = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        self.at = at

    def some(self, rows: Longs) -> Places:
        """The places of these rows, as they are now."""
        return Places(self._data, self.at[rows])

    def move(self, sizes: Longs | int) -> None:
        self.at = self.at + sizes
        require(not len(self.at) or self.at.max() <= len(self._data) - 16)

    def byte(self, allowed: int) -> NDArray[np.uint8]:
        """One byte each, of 0 to ``allowed``."""
        found = self._bytes[self.at]
        require((found <= allowed).all())
        self.move(1)
        return found

    def five(self, expected: bytes) -> None:
        """Five bytes, the same at every place."""
        word = _U(int.from_bytes(expected, "little"))
        require(((self._words[self.at] & _U(0xFFFFFFFFFF)) == word).all())
        self.move(5)

    def longs(self) -> Longs:
        """A zig-zag varint each."""
        first = self._bytes[self.at]
        if (first < 0x80).all():
            self.move(1)
            return _unzigzag(first.astype(np.uint64))
        word = self._words[self.at]
        stops = ~word & _STOPS
        stop = stops & (~stops + _U(1))  # the highest bit of each varint's last byte
        keep = (stop << _U(1)) - _U(1)
        sizes = (np.bitwise_count(keep) >> 3).astype(np.int64)
        word &= keep & _BITS
        for low, high, shift in _FOLDS:  # eight groups of 7 bits to four of 14, two of 28, one of 56
            word = (word & low) | ((word & high) >> shift)
        longer = np.flatnonzero(stop == 0)
        if len(longer):
            word[longer], sizes[longer] = self._long_varints(self.at[longer])
        self.move(sizes)
        return _unzigzag(word)

    def _long_varints(self, at: Longs) -> tuple[NDArray[np.uint64], Longs]:
        """Varints of nine or ten bytes."""
        value = np.zeros(len(at), np.uint64)
        for index in range(9):
            value |= (self._bytes[at + index] & np.uint8(0x7F)).astype(np.uint64) << _U(7 * index)
        ten = self._bytes[at + 8] >= 0x80
        tenth = np.where(ten, self._bytes[at + 9], np.uint8(0))
        require((tenth <= 1).all())
        return value | tenth.astype(np.uint64) << _U(63), 9 + ten.astype(np.int64)


def _unzigzag(value: NDArray[np.uint64]) -> Longs:
    return (value >> _U(1)).view(np.int64) ^ -(value & _U(1)).view(np.int64)


def varint_sizes(values: Longs) -> Longs:
    """How many bytes each value takes as a zig-zag varint."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    sizes = np.ones(len(values), np.int64)
    for shift in range(7, 64, 7):
        more = zigzag >= _U(1 << shift)
        if not more.any():
            break
        sizes += more
    return sizes


def steps_over(kinds: Sequence[Any]) -> list[Step]:
    """How to step over a value with fields of these types: plain ones, or a union of one with null."""
    steps: list[Step] = []
    fixed = 0
    for kind in kinds:
        if isinstance(kind, str) and kind in _FIXED:
            fixed += _FIXED[kind]
            continue
        if fixed:
            steps.append(_over_fixed(fixed))
            fixed = 0
        steps.append(_over_union(kind) if isinstance(kind, list) else _STEPS[kind])
    return [*steps, _over_fixed(fixed)] if fixed else steps


def _over_fixed(size: int) -> Step:
    return lambda places: places.move(size)


def _over_bytes(places: Places) -> None:
    sizes = places.longs()
    require((sizes >= 0).all() and (sizes < 1 << 31).all())
    places.move(sizes)


def _over_int(places: Places) -> None:
    values = places.longs()
    require((values >= -(1 << 31)).all() and (values < 1 << 31).all())


def _over_long(places: Places) -> None:
    places.longs()


def _over_boolean(places: Places) -> None:
    places.byte(1)


def _over_union(branches: list[Any]) -> Step:
    null = branches.index("null")
    (inner,) = steps_over([branches[1 - null]])

    def step(places: Places) -> None:
        branch = places.byte(2)  # 0 or 1 as a varint: the byte 0 or 2
        require((branch != 1).all())
        rows = np.flatnonzero(branch != 2 * null)
        if len(rows):
            some = places.some(rows)
            inner(some)
            places.at[rows] = some.at

    return step


_FIXED = {"float": 4, "double": 8}
_STEPS: dict[str, Step] = {
    "int": _over_int,
    "long": _over_long,
    "boolean": _over_boolean,
    "string": _over_bytes,
    "bytes": _over_bytes,
}
