"""Which rows of two sides match: each new row, in the order of the sequence, with the rows of the other side before it.

Kept are, of each side, words that are a row's code and number in one. They lie in sorted runs, from old to new: the
rows of a take are a new run, and runs are merged such that each is some times longer than the next one, as in a
log-structured merge tree (O'Neil et al., 1996). So a row is merged a few times in its life, and a look-up asks a few
runs. Times do not fall with numbers, so the rows between two times are those between two numbers.

The same with kernels: :mod:`streamproc.process.joins.interval_chains`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

import numpy as np

from streamproc.columns import Longs
from streamproc.process.joins.interval_side import Side

AT_ONCE: Final = 1 << 15  # pairs that are made at a time
_LONGER = 6  # times, that a run is longer than the next one
_NUMBERS = 32  # bits of a word that are the row's number
_MASK = (1 << _NUMBERS) - 1


class Pairs(NamedTuple):
    """The numbers of rows that match."""

    left: Longs
    right: Longs


NO_PAIRS: Final = Pairs(np.empty(0, np.int64), np.empty(0, np.int64))


class Matches(Protocol):
    """Finds rows of two sides that match: ``low <= right's time - left's <= high``, and equal codes, not -1."""

    def pairs(self, of: Longs) -> Iterator[Pairs]:
        """The pairs that the newest rows of both sides make; ``of`` says which side each of them is of, 0 or 1, in the
        order of the sequence. By the later row, and then by the other one. It must be gone through to its end.
        """

    def drop(self, left: int, right: int) -> None:
        """The rows before these numbers are about to go."""

    def load(self) -> None:
        """Takes all rows of both sides anew, which have made all of their pairs."""


class _Run(NamedTuple):
    words: Longs
    end: int  # the number behind its last row's


class Runs:
    """Sorted words of the rows of one side."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._base = 0  # a word has a row's number less this
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return len(self._runs)

    def load(self) -> None:
        """Takes all of the side's rows anew."""
        self._base, self._runs = self._side.first, []
        self.push(self._side.first)

    def push(self, start: int) -> None:
        """Takes the rows from this number on."""
        side = self._side
        if side.end - self._base > _MASK:
            self.load()
            return
        codes = side.codes[start - side.origin : side.end - side.origin]
        rows = np.flatnonzero(codes >= 0)
        words = np.sort((codes[rows] << _NUMBERS) + (rows + (start - self._base)))
        while self._runs and _LONGER * len(words) > len(self._runs[-1].words):
            words = np.concatenate([self._kept(self._runs.pop().words), words])
            words.sort(kind="stable")  # which merges what is in order already
        self._runs.append(_Run(words, side.end))

    def drop(self, first: int) -> None:
        """Forgets the runs all of whose rows are before this number."""
        while self._runs and self._runs[0].end <= first:
            del self._runs[0]

    def find(self, codes: Longs, start: Longs, stop: Longs) -> Iterator[tuple[Longs, Longs]]:
        """For each run, from old to new: of each query the first place of the rows of its code, from one number to
        before another one, and how many they are.
        """
        low = (codes << _NUMBERS) + (start - self._base)
        high = low + np.maximum(stop - start, 0)
        order = np.argsort(low)  # neighbours look at the same places
        low, high = low[order], high[order]
        for run in self._runs:
            places, counts = np.empty_like(low), np.empty_like(low)
            places[order] = at = np.searchsorted(run.words, low)
            counts[order] = np.searchsorted(run.words, high) - at
            yield places, counts

    def numbers(self, run: int, places: Longs) -> Longs:
        """The rows at these places of a run."""
        return (self._runs[run].words[places] & _MASK) + self._base

    def _kept(self, words: Longs) -> Longs:
        gone = self._side.first - self._base
        return words[words & _MASK >= gone] if gone else words


class _Ranges(NamedTuple):
    """Of rows of the sequence: their numbers, and where in the runs of the other side (which that is) those lie that
    they match.
    """

    row: Longs
    own: Longs
    other: Longs
    run: Longs
    place: Longs
    size: Longs


class RunMatches:
    """With numpy alone."""

    def __init__(self, left: Side, right: Side, low: int, high: int) -> None:
        self._sides = left, right
        self._runs = Runs(left), Runs(right)
        #: How far from a row of either side the times of the other one's may be.
        self._near = (low, high), (-high, -low)

    def load(self) -> None:
        for runs in self._runs:
            runs.load()

    def drop(self, left: int, right: int) -> None:
        self._runs[0].drop(left)
        self._runs[1].drop(right)

    def pairs(self, of: Longs) -> Iterator[Pairs]:
        fresh = [np.flatnonzero(of == number) for number in (0, 1)]
        for runs, side, rows in zip(self._runs, self._sides, fresh, strict=True):
            if len(rows):
                runs.push(side.end - len(rows))
        parts = [part for number in (0, 1) for part in self._ranges(number, fresh)]
        if parts:
            yield from self._pairs(_Ranges(*map(np.concatenate, zip(*parts, strict=True))))

    def _ranges(self, number: int, fresh: list[Longs]) -> Iterator[_Ranges]:
        """Where those rows lie that the new rows of a side match: rows of the other one that came before."""
        side, other = self._sides[number], self._sides[1 - number]
        rows, others = fresh[number], fresh[1 - number]
        if not len(rows) or not len(other):
            return
        mine = slice(side.end - len(rows) - side.origin, side.end - side.origin)
        times, codes = side.times[mine], side.codes[mine]
        low, high = self._near[number]
        start = np.searchsorted(other.times[other.live], times + low) + other.first
        stop = np.searchsorted(others, rows) + (other.end - len(others))
        if high < 0:  # else no row that came before is too late
            stop = np.minimum(stop, np.searchsorted(other.times[other.live], times + high, side="right") + other.first)
        for run, (places, counts) in enumerate(self._runs[1 - number].find(codes, start, stop)):
            if len(some := np.flatnonzero(counts)):
                where = np.full(len(some), 1 - number), np.full(len(some), run)
                yield _Ranges(rows[some], some + (side.end - len(rows)), *where, places[some], counts[some])

    def _pairs(self, found: _Ranges) -> Iterator[Pairs]:
        order = np.lexsort((found.run, found.row))
        found = _Ranges(*(column[order] for column in found))
        ends = np.cumsum(found.size)
        for start in range(0, int(ends[-1]), AT_ONCE):
            stop = min(start + AT_ONCE, int(ends[-1]))
            first, last = np.searchsorted(ends, (start, stop - 1), side="right").tolist()
            some = _Ranges(*(column[first : last + 1] for column in found))
            end = ends[first : last + 1]
            begin = end - some.size
            which = np.repeat(np.arange(len(end)), np.minimum(end, stop) - np.maximum(begin, start))
            others = self._numbers(some, which, np.arange(start, stop) + (some.place - begin)[which])
            own, is_left = some.own[which], some.other[which] == 1
            yield Pairs(np.where(is_left, own, others), np.where(is_left, others, own))

    def _numbers(self, ranges: _Ranges, which: Longs, places: Longs) -> Longs:
        """The rows at these places of the runs of their ranges."""
        out = np.empty(len(places), np.int64)
        for other, runs in enumerate(self._runs):
            for run in range(len(runs)):
                here = (ranges.other == other) & (ranges.run == run)
                if here.all():
                    return runs.numbers(run, places)
                if here.any():
                    rows = np.flatnonzero(here[which])
                    out[rows] = runs.numbers(run, places[rows])
        return out
