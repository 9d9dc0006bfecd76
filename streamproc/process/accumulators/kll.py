"""Quantiles: KLL, with coins that are the same in every replay.

Source: Karnin, Lang, Liberty, "Optimal quantile approximation in streams", https://arxiv.org/abs/1603.05346. Values of
level ``h`` stand for ``2 ** h`` each. A level that is full is sorted, and every other value goes up; whether it is the
even or the odd ones says a hash of its median and of how often that was done before, where the paper tosses a coin:
the same in every replay, and another one for every key.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs
from streamproc.process.accumulators.inputs import Inputs, grouped
from streamproc.process.accumulators.parts import Objects

_LEAST = 16  # values, that the lowest levels but the first have room for
_HEAD = struct.Struct("<QQddI")
Doubles = NDArray[np.float64]


class Kll:
    """One sketch. Adding values one by one or at once is the same."""

    __slots__ = ("compactions", "count", "greatest", "k", "least", "levels")

    def __init__(self, k: int) -> None:
        self.k = k
        self.count = 0  # of numbers; there is a sketch of none where only NaN came
        self.compactions = 0
        self.least, self.greatest = np.inf, -np.inf
        self.levels = [array("d")]

    def add(self, values: Doubles) -> None:
        """Takes numbers in, and leaves NaN out."""
        numbers = values[~np.isnan(values)] + 0.0  # zero has no sign: sorting could leave either first
        if len(numbers):
            self.extend(numbers)

    def add_one(self, number: float) -> None:
        """Takes one number in."""
        self.count += 1
        if number < self.least:
            self.least = number
        if number > self.greatest:
            self.greatest = number
        self.levels[0].append(number)
        if len(self.levels[0]) >= self.k:
            self._compact()

    def extend(self, values: Doubles) -> None:
        """Takes numbers in, at least one, of which none is NaN or less than zero by its sign alone."""
        self.count += len(values)
        self.least, self.greatest = min(self.least, float(values.min())), max(self.greatest, float(values.max()))
        at = 0
        while at < len(values):
            some = values[at : at + self.k - len(self.levels[0])]
            self.levels[0].frombytes(some.tobytes())
            at += len(some)
            if len(self.levels[0]) >= self.k:
                self._compact()

    def merge(self, other: Kll) -> None:
        self.count += other.count
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        self.levels += [array("d") for _ in range(len(other.levels) - len(self.levels))]
        for level, more in zip(self.levels, other.levels, strict=False):
            level.extend(more)
        for height in range(len(self.levels)):
            if len(self.levels[height]) >= self._room(height):
                self._compact(height)

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """For each share the least value that so much of all does not exceed; NaN where there are no numbers."""
        if not self.count:
            return [np.nan] * len(shares)
        values = np.concatenate([np.frombuffer(level) for level in self.levels])
        weights = np.repeat([1 << h for h in range(len(self.levels))], [len(level) for level in self.levels])
        order = np.argsort(values, kind="stable")
        values, ranks = values[order], np.cumsum(weights[order])
        at = np.minimum(np.searchsorted(ranks, np.array(shares) * self.count), len(values) - 1)
        return [
            self.least if share == 0 else self.greatest if share == 1 else value
            for share, value in zip(shares, values[at].tolist(), strict=True)
        ]

    def copy(self) -> Kll:
        made = Kll(self.k)
        made.count, made.compactions = self.count, self.compactions
        made.least, made.greatest = self.least, self.greatest
        made.levels = [level[:] for level in self.levels]
        return made

    def dump(self) -> bytes:
        head = _HEAD.pack(self.count, self.compactions, self.least, self.greatest, len(self.levels))
        sizes = np.array([len(level) for level in self.levels], "<u4").tobytes()
        return head + sizes + b"".join(level.tobytes() for level in self.levels)

    @classmethod
    def load(cls, k: int, data: bytes) -> Kll:
        made = cls(k)
        made.count, made.compactions, made.least, made.greatest, levels = _HEAD.unpack_from(data)
        at = _HEAD.size + 4 * levels
        made.levels = []
        for size in np.frombuffer(data, "<u4", levels, _HEAD.size).tolist():
            made.levels.append(array("d", data[at : at + 8 * size]))
            at += 8 * size
        return made

    def _room(self, height: int) -> int:
        """How many values a level has room for: the highest and the first ``k``, each one below two thirds of it."""
        if height == 0:
            return self.k
        return max(_LEAST, int(self.k * (2 / 3) ** (len(self.levels) - 1 - height)))

    def _compact(self, height: int = 0) -> None:
        """Halves a level that is full, and then the next one, if that made it full."""
        while True:
            values = np.sort(np.frombuffer(self.levels[height]))
            coin = _coin(self.compactions ^ int(values.view(np.uint64)[len(values) // 2]))
            self.compactions += 1
            left = array("d")
            if len(values) & 1:  # one stays: the least or the greatest
                left.append(values[0] if coin & 2 else values[-1])
                values = values[1:] if coin & 2 else values[:-1]
            if height + 1 == len(self.levels):
                self.levels.append(array("d"))
            self.levels[height] = left
            self.levels[height + 1].frombytes(values[coin & 1 :: 2].tobytes())
            height += 1
            if len(self.levels[height]) < self._room(height):
                return


class Quantiles(Objects):
    """A sketch by cell."""

    def __init__(self, field: str, k: int) -> None:
        super().__init__()
        self._field, self._k = field, k

    def add(self, inputs: Inputs) -> None:
        cells, data = inputs.numbers(self._field, np.float64)
        data = data + 0.0
        wrong = bool(np.isnan(data).any())
        groups = inputs.groups() if len(cells) == len(inputs) else grouped(cells)
        for cell, rows in groups:
            if (sketch := self.held[cell]) is None:
                sketch = self.held[cell] = Kll(self._k)
            if wrong:
                sketch.add(data[rows])
            elif len(rows) == 1:
                sketch.add_one(float(data[rows[0]]))
            else:
                sketch.extend(data[rows])

    def size_of(self, item: Kll) -> int:
        return 200 + sum(64 + 8 * len(level) for level in item.levels)

    def copy_of(self, item: Kll) -> Kll:
        return item.copy()

    def merge_item(self, item: Kll, other: Kll) -> Kll:
        item.merge(other)
        return item

    def dump(self, item: Kll) -> bytes:
        return item.dump()

    def load(self, data: bytes) -> Kll:
        return Kll.load(self._k, data)

    def quantile(self, cells: Longs, share: float) -> Column:
        found = [None if item is None else item.quantiles([share])[0] for item in self._at(cells)]
        return pl.Series(found, dtype=pl.Float64)

    def quantiles(self, cells: Longs, shares: tuple[float, ...]) -> Column:
        found = [None if item is None else item.quantiles(shares) for item in self._at(cells)]
        return pl.Series(found, dtype=pl.List(pl.Float64))

    def _at(self, cells: Longs) -> list[Kll | None]:
        return [self.held[cell] for cell in cells.tolist()]


def _coin(number: int) -> int:
    """64 bits that look random: splitmix64 (Steele, Lea, Flood 2014)."""
    mask = (1 << 64) - 1
    x = (number + 1) * 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return x ^ x >> 31
