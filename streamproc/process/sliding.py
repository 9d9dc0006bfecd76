"""Sliding windows: for every event of a key what came up to ``size`` before it.

There is one result for each key and distinct event time ``t``: of the key's events in ``[t + 1 - size, t + 1)``, added
up in the order of their times, and where those are the same, of their coming. It is final when stream time reaches
``t + 1`` plus grace. An event is late when the window that ends with it is closed at its row; it then counts in no
other one either. Results come in the order of the rows that close them, of one row by their times, then by which had
the first event.

Events are kept until no window can need them. Each result adds up its own: as many steps as there are events in it.
What a class of one's own refuses is told once for an event, with the first window in which it was refused.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from typing import NamedTuple

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import SlidingWindow
from streamproc.process.accumulators.own import Failure
from streamproc.process.engine import Part
from streamproc.process.kept import KeptEvents
from streamproc.process.results import NOTHING, Closed, Late
from streamproc.process.slotted import SlottedEngine

_AT_ONCE = 1 << 20  # events that are added up at a time


class _Line:
    """One key's events, by time and coming."""

    __slots__ = ("slots", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.slots: list[int] = []


class _Window(NamedTuple):
    """A window that closed: its last millisecond, its key's code, its events, and the row that closed it."""

    last: int
    code: int
    slots: list[int]
    cause: int


class SlidingEngine(SlottedEngine):
    """Sliding windows of one partition."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, SlidingWindow)
        self._size, self._grace = window.size, definition.grace
        self._events = KeptEvents(definition, self._sums.fields)
        self._lines: dict[int, _Line] = {}  # by code
        self._open: list[tuple[int, int, int]] = []  # a heap of windows: last millisecond, first event, code
        self._told: deque[tuple[int, int]] = deque()  # those that closed, while their events may be needed
        self._failures: list[Failure] = []

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        codes = self._codes.codes(batch.column(self._key))
        slots = self._slots.take(len(times))
        self._make_room()
        self._events.put(slots, times, batch)
        idents = self._came + np.arange(len(times))
        closed: list[_Window] = []
        gone: list[int] = []
        late: list[int] = []
        rows = zip(times.tolist(), seen.tolist(), codes.tolist(), slots.tolist(), idents.tolist(), strict=True)
        for i, (t, now, code, slot, ident) in enumerate(rows):
            self._go_to(now, i, closed, gone)
            if t + 1 + self._grace <= now:
                late.append(i)
            else:
                self._insert(t, code, slot, ident)
        found = np.array(late, np.int64)
        kept = np.delete(np.arange(len(times)), found)
        self._slots.begin(slots[kept], idents[kept], codes[kept])
        self._slots.touch(slots[kept])
        parts = self._parts(closed)
        self._events.clear(slots[found])
        self._slots.put_back(slots[found])
        self._drop(gone)
        ones = np.ones(len(found), np.int64)
        return self._give(parts, Late(found, ones, ones) if len(found) else None)

    def _pass(self, time: int) -> Closed:
        closed: list[_Window] = []
        gone: list[int] = []
        self._go_to(time, -1, closed, gone)
        parts = [part._replace(causes=NOTHING) for part in self._parts(closed)]
        self._drop(gone)
        return self._give(parts)

    def _go_to(self, now: int, row: int, closed: list[_Window], gone: list[int]) -> None:
        """Closes what is over at this stream time, and lets go of events that nothing needs any more."""
        while self._open and self._open[0][0] + 1 + self._grace <= now:
            t, _, code = heapq.heappop(self._open)
            line = self._lines[code]
            low, high = bisect_left(line.times, t + 1 - self._size), bisect_right(line.times, t)
            closed.append(_Window(t, code, line.slots[low:high], row))
            self._told.append((t, code))
        while self._told and self._told[0][0] + self._size + self._grace <= now:
            t, code = self._told.popleft()
            line = self._lines[code]
            over = bisect_right(line.times, t)
            gone += line.slots[:over]
            del line.times[:over], line.slots[:over]
            if not line.times:
                del self._lines[code]

    def _insert(self, t: int, code: int, slot: int, ident: int) -> None:
        line = self._lines.get(code)
        if line is None:
            line = self._lines[code] = _Line()
        at = len(line.times) if not line.times or line.times[-1] <= t else bisect_right(line.times, t)
        if not at or line.times[at - 1] != t:
            heapq.heappush(self._open, (t, ident, code))
        line.times.insert(at, t)
        line.slots.insert(at, slot)

    def _parts(self, closed: list[_Window]) -> list[Part]:
        """Results of windows, some at a time."""
        parts: list[Part] = []
        first = events = 0
        for i, window in enumerate(closed):
            events += len(window.slots)
            if events >= _AT_ONCE or i == len(closed) - 1:
                parts.append(self._part(closed[first : i + 1]))
                first, events = i + 1, 0
        return parts

    def _part(self, closed: list[_Window]) -> Part:
        cells, rows = np.arange(len(closed)), np.array([len(window.slots) for window in closed], np.int64)
        slots = np.array([slot for window in closed for slot in window.slots], np.int64)
        self._sums.room(len(closed))
        self._sums.add(np.repeat(cells, rows), self._events.times[slots], self._events.columns(slots))
        self._note(self._sums.failures(), slots)
        values = self._sums.results(cells, rows, self._size)
        self._sums.clear(cells)
        end = np.array([window.last for window in closed], np.int64) + 1
        codes, causes = (np.array([window[i] for window in closed], np.int64) for i in (1, 3))
        return Part(codes, end - self._size, end, values, causes, broken=self._sums.unclosed)

    def _note(self, failures: list[Failure], slots: Longs) -> None:
        """Keeps those of the first window in which an event was refused."""
        last, offset = -1, None
        for failure in failures:
            if failure.row != last:
                last, slot = failure.row, int(slots[failure.row])
                offset = self._events.told(slot)
                self._slots.touch(slots[failure.row : failure.row + 1])
            if offset is not None:
                self._failures.append(failure._replace(row=-1, offset=offset))

    def _refused(self) -> list[Failure]:
        found, self._failures = self._failures, []
        return found

    def _drop(self, gone: list[int]) -> None:
        slots = np.array(gone, np.int64)
        self._events.clear(slots)
        self._slots.drop(slots)

    def _keep_codes(self, live: Longs) -> None:
        renamed = {code: i for i, code in enumerate(live.tolist())}
        self._slots.keep_codes(live)
        self._lines = {renamed[code]: line for code, line in self._lines.items()}
        self._open = [(t, ident, renamed[code]) for t, ident, code in self._open]  # which it is sorted by, never counts
        self._told = deque((t, renamed[code]) for t, code in self._told)

    def _make_room(self) -> None:
        self._events.room(self._slots.room)

    def _pack(self, slots: Longs) -> Texts:
        return self._events.pack(slots)

    def _unpack(self, slots: Longs, values: Texts) -> None:
        self._events.unpack(slots, values)
        times = self._events.times[slots]
        order = np.argsort(times, kind="stable")
        found = (times, self._slots.code[slots], slots, self._slots.ident[slots])
        for t, code, slot, ident in zip(*(column[order].tolist() for column in found), strict=True):
            self._insert(t, code, slot, ident)
        now = self.stream_time
        while now is not None and self._open and self._open[0][0] + 1 + self._grace <= now:
            t, _, code = heapq.heappop(self._open)  # closed before
            self._told.append((t, code))
