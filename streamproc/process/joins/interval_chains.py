"""Which rows of two sides match, found by kernels: the same pairs in the same order as those of
:mod:`streamproc.process.joins.interval_matches`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamproc.columns import Longs
from streamproc.process.joins import interval_matches
from streamproc.process.joins.interval_matches import Pairs
from streamproc.process.joins.interval_side import Side

_LEAST = 256  # pairs that there is room for, however few rows


class _Chains:
    """The rows of one side, by code."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.next = np.empty(side.room, np.int64)  # at a row's index: the next one's number
        self.origin = side.origin
        self.at = np.full((2, 0), -1, np.int64)  # by code: the first row that may still match, and the last one

    def fit(self, codes: int) -> None:
        """Has room where the side has, and for so many codes."""
        side = self.side
        if len(self.next) != side.room or self.origin != side.origin:
            old = self.next[side.first - self.origin :][: len(side)]
            self.next = np.empty(side.room, np.int64)
            self.next[side.first - side.origin :][: len(old)] = old
            self.origin = side.origin
        if codes > self.at.shape[1]:
            old, self.at = self.at, np.full((2, 2 * codes), -1, np.int64)
            self.at[:, : old.shape[1]] = old

    def arrays(self) -> tuple[int, Longs, Longs, Longs, Longs]:
        return self.origin, self.side.times, self.side.codes, self.next, self.at


class ChainMatches:
    """With kernels."""

    def __init__(self, left: Side, right: Side, low: int, high: int) -> None:
        self._chains = _Chains(left), _Chains(right)
        self._low, self._high = low, high

    def load(self) -> None:
        from streamproc.compiled import interval as kernels

        sides = [chains.side for chains in self._chains]
        self._chains = _Chains(sides[0]), _Chains(sides[1])
        codes = 1 + max(int(side.codes[side.live].max(initial=-1)) for side in sides)
        for chains, side in zip(self._chains, sides, strict=True):
            chains.fit(codes)
            kernels.link(side.first, side.end, side.origin, side.codes, chains.next, chains.at)

    def drop(self, left: int, right: int) -> None:
        from streamproc.compiled import interval as kernels

        for chains, first in zip(self._chains, (left, right), strict=True):
            side = chains.side
            if first > side.first:
                chains.fit(0)
                kernels.drop(side.first, first, side.origin, side.codes, chains.next, chains.at)

    def pairs(self, of: Longs) -> Iterator[Pairs]:
        from streamproc.compiled import interval as kernels

        starts = [chains.side.end - int(np.count_nonzero(of == number)) for number, chains in enumerate(self._chains)]
        codes = 1 + max(
            int(chains.side.codes[start - chains.side.origin : chains.side.live.stop].max(initial=-1))
            for chains, start in zip(self._chains, starts, strict=True)
        )
        for chains in self._chains:
            chains.fit(codes)
        first, second = (chains.arrays() for chains in self._chains)
        state = np.array([0, *starts, kernels.FRESH], np.int64)
        room = min(max(4 * len(of), _LEAST), interval_matches.AT_ONCE)
        while state[kernels.DONE] < len(of):
            left, right = np.empty(room, np.int64), np.empty(room, np.int64)
            count = kernels.pairs(of, self._low, self._high, *first, *second, state, left, right)
            if count:
                yield Pairs(left[:count], right[:count])
            room = min(2 * room, interval_matches.AT_ONCE)
