"""Sessions: events of a key that lie less than a gap apart.

An event is a session ``[t, t + gap)`` of its own; sessions of a key that overlap and are open are one. A session closes
when stream time reaches its end, ``last + gap``, plus grace. An event is late when the session that it makes or joins
would be closed at its row: so only one that joins no open session can be.

Results come in the order of the rows that close them, and of one row by their ends, then by which session had the first
event. Two sessions that become one are added up earlier session first; that is all there is to the order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import SessionWindow
from streamproc.process.engine import Part, columns_of, picked, same_cause
from streamproc.process.results import Closed, Late
from streamproc.process.session_walk import PlainWalk, Walk, Walked
from streamproc.process.slots import grown
from streamproc.process.slotted import SlottedEngine
from streamproc.process.words import behind, read_words, rest, words

_WORDS = 5  # of a row: the first event's time, the last one's, which row came first, how many, the period of the last


class SessionEngine(SlottedEngine):
    """Sessions of one partition."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, SessionWindow)
        self._gap, self._grace = window.gap, definition.grace
        self._every = definition.emit.every if definition.emit else None
        self._walk = _walk(window.gap, definition.grace, self.compiled)
        self._rows, self._period = np.empty(0, np.int64), np.empty(0, np.int64)  # by slot

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        given = _Rows(times, seen, self._codes.codes(batch.column(self._key)), columns_of(batch, self._sums.fields))
        parts: list[Part] = []
        late: list[Longs] = []
        if self._every is None:
            late.append(self._walk_over(given, 0, len(times), parts))
        else:
            for start, stop, ended in self._periods(seen, self._every):
                if ended is not None:
                    self._pass_to(int(seen[start]), ended, start, parts)
                late.append(self._walk_over(given, start, stop, parts))
        rows = np.concatenate(late)
        ones = np.ones(len(rows), np.int64)
        return self._give(parts, Late(rows, ones, ones) if len(rows) else None)

    def _pass(self, time: int) -> Closed:
        parts: list[Part] = []
        self._pass_to(time, self._ended(time, self._every), None, parts)
        return self._give(parts)

    def _walk_over(self, given: _Rows, start: int, stop: int, parts: list[Part]) -> Longs:
        """Takes rows in between which nobody asks how things stand; gives those that are late."""
        times, seen, codes, columns = given
        offered = self._slots.take(stop - start)
        self._make_room()
        at, first = slice(start, stop), self._came + start
        walked = self._walk.walk(times[at], seen[at], codes[at], first, offered, self._slots.room)
        begun = offered[: len(walked.begun)]
        self._slots.begin(begun, first + walked.begun, codes[at][walked.begun])
        self._slots.put_back(offered[len(begun) :])
        self._add(walked, start, times, columns)
        there = walked.slots >= 0
        touched = walked.slots[there]
        self._slots.touch(touched)
        if self._every is not None:
            self._period[touched] = int(seen[start]) // self._every
        self._slots.touch(walked.into)
        if len(walked.closed):
            parts.append(self._part(walked.closed, walked.causes + start))
        self._drop(np.concatenate([walked.gone, walked.closed]))
        return start + np.flatnonzero(~there)

    def _add(self, walked: Walked, start: int, times: Longs, columns: Mapping[str, Column]) -> None:
        """Adds rows to their sessions, and sessions to one another, such that each has its own in their order."""
        for level in range(int(walked.level.max(initial=0)) + 1):
            now = walked.level == level
            if level and now.any():
                into, gone = walked.into[now], walked.gone[now]
                self._sums.merge(into, self._sums, gone)
                self._rows[into] += self._rows[gone]
            rows = np.flatnonzero((walked.levels == level) & (walked.slots >= 0))
            if not len(rows):
                continue
            slots = walked.slots[rows]
            np.add.at(self._rows, slots, 1)
            if start or len(rows) < len(times):
                rows += start
                self._sums.add(slots, times[rows], picked(columns, rows), rows)
            else:
                self._sums.add(slots, times, columns)

    def _pass_to(self, time: int, ended: int | None, row: int | None, parts: list[Part]) -> None:
        """Brings what comes due when stream time gets there, before the row that takes it there: final results, and
        where a period ended, those of open sessions that changed in it.
        """
        if len(closed := self._walk.close(time)):
            parts.append(self._part(closed, same_cause(row, len(closed))))
            self._drop(closed)
        if ended is None:
            return
        live = self._slots.live()
        live = live[self._period[live] == ended]
        parts.append(self._part(live, same_cause(row, len(live)), final=False))

    def _part(self, slots: Longs, causes: Longs, *, final: bool = True) -> Part:
        start, last, born = self._walk.held(slots)
        order = np.lexsort((born, last, *([causes] if len(causes) else [])))
        slots, start, end = slots[order], start[order], last[order] + self._gap
        values = self._sums.results(slots, self._rows[slots], None)
        causes = causes[order] if len(causes) else causes
        return Part(self._slots.code[slots], start, end, values, causes, final, self._sums.unclosed)

    def _drop(self, slots: Longs) -> None:
        self._sums.clear(slots)
        self._rows[slots] = 0
        self._slots.drop(slots)

    def _make_room(self) -> None:
        room = self._slots.room
        self._rows, self._period = grown(self._rows, room, 0), grown(self._period, room, 0)
        self._sums.room(room)

    def _keep_codes(self, live: Longs) -> None:
        self._slots.keep_codes(live)
        held = self._slots.live()
        self._walk.keep_codes(held, self._slots.code[held])

    def _pack(self, slots: Longs) -> Texts:
        start, last, born = self._walk.held(slots)
        fixed = words(start, last, born, self._rows[slots], self._period[slots])
        return behind(fixed, self._sums.pack(slots))

    def _unpack(self, slots: Longs, values: Texts) -> None:
        start, last, born, self._rows[slots], self._period[slots] = read_words(values, _WORDS)
        self._walk.put(slots, self._slots.code[slots], start, last, born, self._slots.room)
        self._sums.unpack(slots, rest(values, _WORDS))


class _Rows(NamedTuple):
    times: Longs
    seen: Longs
    codes: Longs
    columns: dict[str, Column]


def _walk(gap: int, grace: int, compiled: bool) -> Walk:
    if not compiled:
        return PlainWalk(gap, grace)
    from streamproc.process.compiled_walk import CompiledWalk  # numba is only there when it is wanted

    return CompiledWalk(gap, grace)
