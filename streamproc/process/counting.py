"""Windows of so many events of a key."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import CountWindow
from streamproc.process.counted import CountedEngine, Rows
from streamproc.process.engine import Part
from streamproc.process.results import Closed, nothing


class CountEngine(CountedEngine):
    """Windows of ``size`` events of a key, a new one after every ``step``: sums of panes of gcd(size, step) events."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, CountWindow)
        self._size, self._step = window.size, window.step
        self._pane = gcd(window.size, window.step)
        self._panes: dict[int, list[int]] = {}  # by code: the slots of panes that windows still need, in order

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        given = self._rows_of(batch, times, seen)
        parts: list[Part] = []
        for span in self._spans(seen, 0, len(seen)):
            parts += self._take_span(span, given)
        return self._give(parts)

    def _pass(self, time: int) -> Closed:
        self._look(time)
        return nothing()

    def _take_span(self, span: Longs, given: Rows) -> list[Part]:
        codes = given.codes[span]
        order = np.argsort(codes, kind="stable")
        slots = np.empty(len(codes), np.int64)
        windows: list[list[int]] = []
        causes: list[int] = []
        gone: list[int] = []
        offered = self._slots.take(len(codes))
        free = iter(offered.tolist())
        new: list[tuple[int, int, int]] = []
        begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(order)], strict=True):
            rows, code = order[begin:end], int(codes[order[begin]])
            if self._ttl is not None and self._is_over(code, int(given.seen[span[rows[0]]]), self._ttl):
                gone += self._panes.pop(code)
            self._fill(code, rows, slots, windows, causes, gone, free, new)
        key, row, number = np.array(new, np.int64).reshape(-1, 3).T.copy()
        self._begin_in(offered[: len(new)], key, self._came + span[row], number)
        self._slots.put_back(offered[len(new) :])
        self._put(slots, span, given)
        parts = self._windows(windows, span[np.array(causes, np.int64)])
        self._drop(np.array(gone, np.int64))
        return parts

    def _is_over(self, code: int, seen: int, ttl: int) -> bool:
        """Whether a key that has panes is over at this stream time."""
        mine = self._panes.get(code)
        return mine is not None and seen - int(self._last[mine[-1]]) >= ttl

    def _unlink(self, slots: Longs) -> None:
        for code in np.unique(self._slots.code[slots]).tolist():
            del self._panes[code]

    def _fill(
        self,
        code: int,
        rows: Longs,
        slots: Longs,
        windows: list[list[int]],
        causes: list[int],
        gone: list[int],
        free: Iterator[int],
        new: list[tuple[int, int, int]],
    ) -> None:
        """Finds the panes of one key's rows, ``new`` ones in ``free`` slots, and the windows that are complete."""
        mine = self._panes.setdefault(code, [])
        number = int(self._word[mine[-1]]) if mine else -1
        left = self._pane - int(self._rows[mine[-1]]) if mine else 0
        at = 0
        while at < len(rows):
            if not left:
                number += 1
                mine.append(next(free))
                new.append((code, int(rows[at]), number))
                left = self._pane
            some = min(left, len(rows) - at)
            slots[rows[at : at + some]] = mine[-1]
            left -= some
            at += some
            past = (number + 1) * self._pane - self._size  # where a window began that ends with this pane
            if not left and past >= 0 and past % self._step == 0:
                windows.append(mine[-(self._size // self._pane) :])
                causes.append(int(rows[at - 1]))
                over = max(0, len(mine) - (self._size - self._step) // self._pane)
                gone += mine[:over]
                del mine[:over]
        if not mine:
            del self._panes[code]

    def _windows(self, windows: list[list[int]], causes: Longs) -> list[Part]:
        """Their results, in the order of their causes."""
        if not len(windows):
            return []
        order = np.argsort(causes)
        panes = np.array(windows, np.int64)[order]
        if panes.shape[1] == 1:
            return [self._part(panes[:, 0], causes[order])]
        first = panes[:, 0]
        slots = self._begin(self._slots.code[first], self._slots.ident[first], np.zeros(len(first), np.int64))
        for pane in panes.T:
            self._sums.merge(slots, self._sums, pane)
            self._rows[slots] += self._rows[pane]
            self._low[slots] = np.minimum(self._low[slots], self._low[pane])
            self._high[slots] = np.maximum(self._high[slots], self._high[pane])
        part = self._part(slots, causes[order])
        self._drop(slots)
        return [part]

    def _keep_codes(self, live: Longs) -> None:
        renamed = {code: i for i, code in enumerate(live.tolist())}
        self._slots.keep_codes(live)
        self._panes = {renamed[code]: mine for code, mine in self._panes.items()}

    def _adopt(self, slots: Longs) -> None:
        for slot, code in zip(slots.tolist(), self._slots.code[slots].tolist(), strict=True):
            self._panes.setdefault(code, []).append(slot)
