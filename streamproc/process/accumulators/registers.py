"""How many different values: HyperLogLog, of 64-bit hashes.

Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007; the estimate is Ertl's improved raw estimator,
https://arxiv.org/abs/1702.01284, which needs no tables of bias. What a cell holds depends on nothing but which values
came: not on their order, nor on what was merged when.

A cell lists its registers as long as they are few, index and rank in 32 bits each, and then gets room for all of them,
a byte each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamproc.columns import Longs
from streamproc.process.accumulators.inputs import Inputs, loops_of
from streamproc.process.accumulators.parts import Part, Word
from streamproc.process.measures import Array

_LISTED = 32  # registers
_RANKS = 53  # the highest rank: of the 52 bits that are looked at, none is set


class Registers(Part):
    """HyperLogLogs with ``2 ** precision`` registers."""

    has_blobs = True
    packed_words = 0

    def __init__(self, field: str, precision: int, compiled: bool) -> None:
        self._listed = min(_LISTED, 1 << precision - 2)
        lists = {"count": Word(np.int64, 0), "coupons": Word(np.int32, 0, self._listed)}
        super().__init__({**lists, "dense_at": Word(np.int64, -1)})
        self._field, self._precision, self._loops = field, precision, loops_of(compiled)
        self._dense = np.zeros((0, 1 << precision), np.uint8)
        self._spare = np.empty(0, np.int64)  # the first ``_left`` are free
        self._left = np.zeros(1, np.int64)

    @property
    def nbytes(self) -> int:
        return super().nbytes + self._dense.nbytes

    def add(self, inputs: Inputs) -> None:
        cells, hashed = inputs.hashed(self._field)
        low = np.uint64(self._precision)
        indices = (hashed >> np.uint64(64 - self._precision)).astype(np.int64)
        top = (hashed << low) >> np.uint64(12)
        ranks = _RANKS - np.frexp(top.astype(np.float64))[1].astype(np.int64)
        self._put(cells, indices, ranks)

    def _put(self, cells: Longs, indices: Longs, ranks: Longs) -> None:
        at = 0
        while True:
            lists = (self.arrays["count"], self.arrays["coupons"], self.arrays["dense_at"])
            at = self._loops.add_coupons(cells, indices, ranks, at, *lists, self._spare, self._left)
            if at == len(cells):
                break
            self._more_dense()
        dense_at = self.arrays["dense_at"][cells]
        rows = np.flatnonzero(dense_at >= 0)
        if len(rows):
            self._spread(cells[rows])
            places = (dense_at[rows] << self._precision) + indices[rows]
            np.maximum.at(self._dense.reshape(-1), places, ranks[rows].astype(np.uint8))

    def _spread(self, cells: Longs) -> None:
        """Moves what these cells list into their registers."""
        counts = self.arrays["count"]
        for cell in np.unique(cells[counts[cells] > 0]).tolist():
            coupons = self.arrays["coupons"][cell, : counts[cell]]
            self._dense[self.arrays["dense_at"][cell], coupons >> 6] = coupons & 63
            counts[cell] = 0

    def _more_dense(self) -> None:
        have = len(self._dense)
        more = max(16, have)
        self._dense = np.concatenate([self._dense, np.zeros((more, self._dense.shape[1]), np.uint8)])
        self._spare = np.arange(have + more - 1, -1, -1, dtype=np.int64)
        self._spare[:more] = np.arange(have + more - 1, have - 1, -1)
        self._left[0] = more

    def clear(self, cells: Longs) -> None:
        slots = self.arrays["dense_at"][cells]
        slots = slots[slots >= 0]
        self._dense[slots] = 0
        self._spare[self._left[0] : self._left[0] + len(slots)] = slots
        self._left[0] += len(slots)
        super().clear(cells)

    def shrink(self, cells: int) -> None:
        super().shrink(cells)
        slots = self.arrays["dense_at"]
        if (used := np.flatnonzero(slots >= 0)).size * 4 < len(self._dense):
            self._dense = self._dense[slots[used]]
            self.arrays["dense_at"][used] = np.arange(len(used))
            self._spare, self._left = np.empty(len(used), np.int64), np.zeros(1, np.int64)

    def merge(self, into: Longs, other: Registers, cells: Longs) -> None:
        counts, slots = other.arrays["count"][cells], other.arrays["dense_at"][cells]
        listed = np.flatnonzero(counts)
        parts = [other.arrays["coupons"][cell, :n] for cell, n in zip(cells[listed], counts[listed], strict=True)]
        if parts:
            coupons = np.concatenate(parts).astype(np.int64)
            self._put(np.repeat(into[listed], counts[listed]), coupons >> 6, coupons & 63)
        for row in np.flatnonzero(slots >= 0).tolist():
            slot = self._dense_for(int(into[row]))
            np.maximum(self._dense[slot], other._dense[slots[row]], out=self._dense[slot])

    def _dense_for(self, cell: int) -> int:
        """A cell's room for all registers, made if need be."""
        slots = self.arrays["dense_at"]
        if slots[cell] < 0:
            if not self._left[0]:
                self._more_dense()
            self._left[0] -= 1
            slots[cell] = self._spare[self._left[0]]
            self._spread(np.array([cell]))
        return int(slots[cell])

    def pack(self, cells: Longs) -> Longs:
        return np.empty((len(cells), 0), np.int64)

    def unpack(self, cells: Longs, words: Longs) -> None:
        """All is in the blobs."""

    def blobs(self, cells: Longs) -> list[bytes]:
        found = []
        for cell in cells.tolist():
            if (slot := self.arrays["dense_at"][cell]) >= 0:
                found.append(b"\1" + self._dense[slot].tobytes())
            else:
                coupons = np.sort(self.arrays["coupons"][cell, : self.arrays["count"][cell]])
                found.append(b"\0" + coupons.astype("<i4").tobytes())
        return found

    def take_blobs(self, cells: Longs, blobs: Sequence[bytes]) -> None:
        for cell, blob in zip(cells.tolist(), blobs, strict=True):
            if blob[:1] == b"\1":
                slot = self._dense_for(cell)  # may make another array of all
                self._dense[slot] = np.frombuffer(blob, np.uint8, offset=1)
            else:
                coupons = np.frombuffer(blob, "<i4", offset=1)
                self.arrays["coupons"][cell, : len(coupons)] = coupons
                self.arrays["count"][cell] = len(coupons)

    def estimates(self, cells: Longs) -> Longs:
        """int64[n]: about how many different values came."""
        counts, slots = self.arrays["count"][cells], self.arrays["dense_at"][cells]
        ranks = np.where(np.arange(self._listed) < counts[:, None], self.arrays["coupons"][cells] & 63, 0)
        numbers = np.zeros((len(cells), _RANKS + 1), np.int64)  # of registers of each rank
        np.add.at(numbers, (np.arange(len(cells))[:, None], ranks), 1)
        numbers[:, 0] = (1 << self._precision) - counts
        for row in np.flatnonzero(slots >= 0).tolist():
            numbers[row] = np.bincount(self._dense[slots[row]], minlength=_RANKS + 1)
        return np.rint(_estimate(numbers.astype(np.float64), 1 << self._precision)).astype(np.int64)


def _estimate(numbers: Array, registers: int) -> Array:
    """Algorithm 6 of Ertl's; ``numbers[n, 54]`` of registers of rank 0, 1 …"""
    total = registers * _tau(1.0 - numbers[:, -1] / registers)
    for rank in range(numbers.shape[1] - 2, 0, -1):
        total = 0.5 * (total + numbers[:, rank])
    empty = numbers[:, 0] == registers
    total = total + registers * _sigma(np.where(empty, 0.0, numbers[:, 0] / registers))
    found: Array = registers * registers / (2.0 * 0.6931471805599453) / np.where(empty, 1.0, total)
    return np.where(empty, 0.0, found)


def _sigma(x: Array) -> Array:
    power, found = 1.0, x
    while True:
        x = x * x
        before, found = found, found + x * power
        power += power
        if (found == before).all():
            return found


def _tau(x: Array) -> Array:
    some = (x > 0.0) & (x < 1.0)
    x = np.where(some, x, 1.0)
    power, found = 1.0, 1.0 - x
    while True:
        x = np.sqrt(x)
        power *= 0.5
        before, found = found, found - (1.0 - x) ** 2 * power
        if (found == before).all():
            return np.where(some, found / 3.0, 0.0)
