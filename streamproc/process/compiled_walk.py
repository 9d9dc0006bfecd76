"""The walk of :mod:`streamproc.process.session_walk`, compiled."""

from __future__ import annotations

import numpy as np

from streamproc.columns import Longs
from streamproc.compiled import sessions as kernels
from streamproc.compiled.keys import resized
from streamproc.process.session_walk import Walked
from streamproc.process.slots import grown

_LEAST = 64


class CompiledWalk:
    """See :class:`~streamproc.process.session_walk.Walk`."""

    def __init__(self, gap: int, grace: int) -> None:
        self._gap, self._grace = gap, grace
        self._state = np.zeros((0, kernels.WORDS), np.int64)
        self._heads = np.empty(0, np.int64)  # by code: the first of its sessions; -1 where there is none
        self._heap = np.empty((0, 3), np.int64)
        self._at = np.zeros(2, np.int64)

    def walk(self, times: Longs, seen: Longs, codes: Longs, first: int, offered: Longs, room: int) -> Walked:
        n, due = len(times), int(self._at[kernels.DUE])
        self._make_room(room, int(codes.max()) + 1, n)
        rows, mergers, counts = np.empty((3, n), np.int64), np.empty((3, n), np.int64), np.zeros(3, np.int64)
        closed = np.empty((2, due + n), np.int64)
        state = (self._state, self._heads, self._heap, self._at)
        kernels.walk(times, seen, codes, first, offered, self._gap, self._grace, *state, rows, mergers, closed, counts)
        begun, merged, over = counts.tolist()
        into, gone, level = mergers[:, :merged]
        return Walked(rows[0], rows[1], into, gone, level, closed[0, :over], closed[1, :over], rows[2, :begun])

    def close(self, time: int) -> Longs:
        closed = np.empty(int(self._at[kernels.DUE]), np.int64)
        state = (self._state, self._heads, self._heap, self._at)
        count = kernels.close(time - self._grace, self._gap, *state, closed)
        return closed[:count]

    def held(self, slots: Longs) -> tuple[Longs, Longs, Longs]:
        found = self._state[slots]
        return found[:, kernels.START], found[:, kernels.LAST], found[:, kernels.BORN]

    def put(self, slots: Longs, codes: Longs, start: Longs, last: Longs, born: Longs, room: int) -> None:
        self._make_room(room, int(codes.max(initial=-1)) + 1, len(slots))
        for word, column in zip(
            (kernels.START, kernels.LAST, kernels.BORN, kernels.CODE), (start, last, born, codes), strict=True
        ):
            self._state[slots, word] = column
        order = np.lexsort((-start, codes))
        kernels.put(slots[order], self._gap, self._state, self._heads, self._heap, self._at)

    def keep_codes(self, slots: Longs, codes: Longs) -> None:
        firsts = self._heads[self._heads >= 0]
        self._state[slots, kernels.CODE] = codes
        self._heads = np.full(max(_LEAST, 2 * len(firsts)), -1)
        self._heads[self._state[firsts, kernels.CODE]] = firsts

    def _make_room(self, slots: int, codes: int, more: int) -> None:
        if slots > len(self._state):
            state = np.zeros((slots, kernels.WORDS), np.int64)
            state[: len(self._state)] = self._state
            self._state = state
        if codes > len(self._heads):
            self._heads = grown(self._heads, max(_LEAST, 2 * codes), -1)
        if (due := int(self._at[kernels.DUE])) + more > len(self._heap):
            self._heap = resized(self._heap, due, max(_LEAST, 2 * (due + more)))
