"""Open sessions of every key, and a walk over events that finds the session of each.

The same walk is compiled: :mod:`streamproc.compiled.sessions`.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple, Protocol

import numpy as np

from streamproc.columns import Longs
from streamproc.process.results import NOTHING


class Walked(NamedTuple):
    """What a walk over rows found.

    Args:
        slots: of each row, its session; -1 when it is late.
        levels: of each row, how many levels of mergers its session went through before it, in this walk.
        into, gone, level: mergers in order: session ``gone`` became part of session ``into``, which is earlier.
        closed: sessions that rows closed.
        causes: those rows.
        begun: rows at which sessions began; they took the first of the slots offered, in this order.
    """

    slots: Longs
    levels: Longs
    into: Longs
    gone: Longs
    level: Longs
    closed: Longs
    causes: Longs
    begun: Longs


class Walk(Protocol):
    """Sessions by the numbers of their slots. A closed one keeps its data until its slot is offered again."""

    def walk(self, times: Longs, seen: Longs, codes: Longs, first: int, offered: Longs, room: int) -> Walked:
        """Takes rows in; row ``i`` of them has number ``first + i`` among all. A new session takes the next of the
        slots ``offered``; all slots are below ``room``.
        """

    def close(self, time: int) -> Longs:
        """Closes what is over at this stream time."""

    def held(self, slots: Longs) -> tuple[Longs, Longs, Longs]:
        """Of sessions: the first event's time, the last one's, and the number of the row that came first."""

    def put(self, slots: Longs, codes: Longs, start: Longs, last: Longs, born: Longs, room: int) -> None:
        """Takes sessions over, into an empty walk."""

    def keep_codes(self, slots: Longs, codes: Longs) -> None:
        """The sessions that are open have these codes now."""


class _Session:
    __slots__ = ("born", "code", "last", "level", "open", "slot", "start")

    def __init__(self, slot: int, code: int, start: int, last: int, born: int) -> None:
        self.slot, self.code, self.start, self.last, self.born = slot, code, start, last, born
        self.level = 0
        self.open = True


class PlainWalk:
    """In Python."""

    def __init__(self, gap: int, grace: int) -> None:
        self._gap, self._grace = gap, grace
        self._sessions: dict[int, _Session] = {}  # by slot
        self._open: dict[int, list[_Session]] = {}  # by code, from early to late
        self._due: list[tuple[int, int, _Session]] = []  # a heap, by an end that each had once; and its number
        self._pushed = 0

    def walk(self, times: Longs, seen: Longs, codes: Longs, first: int, offered: Longs, room: int) -> Walked:
        gap, grace = self._gap, self._grace
        slots: list[int] = []
        levels: list[int] = []
        mergers: list[tuple[int, int, int]] = []
        closed: list[int] = []
        causes: list[int] = []
        merged: list[_Session] = []
        free = iter(offered.tolist())
        begun: list[int] = []
        for i, (t, now, code) in enumerate(zip(times.tolist(), seen.tolist(), codes.tolist(), strict=True)):
            if self._due and self._due[0][0] + grace <= now:
                over = self._close(now)
                closed += over
                causes += [i] * len(over)
            mine = self._open.get(code, [])
            at = 0
            while at < len(mine) and mine[at].last + gap <= t:
                at += 1
            if at == len(mine) or mine[at].start >= t + gap:
                if t + gap + grace <= now:
                    slots.append(-1)
                    levels.append(0)
                    continue
                session = _Session(next(free), code, t, t, first + i)
                begun.append(i)
                self._begin(session, at)
            else:
                session = mine[at]
                session.start, session.last = min(session.start, t), max(session.last, t)
                if at + 1 < len(mine) and mine[at + 1].start < session.last + gap:
                    other = mine.pop(at + 1)
                    session.last, session.born = other.last, min(session.born, other.born)
                    session.level = max(session.level, other.level) + 1
                    mergers.append((session.slot, other.slot, session.level))
                    merged.append(session)
                    other.open = False
            slots.append(session.slot)
            levels.append(session.level)
        for session in merged:
            session.level = 0
        table = np.array(mergers, np.int64).reshape(-1, 3)
        by_row = [np.array(values, np.int64) for values in (slots, levels)]
        rest = [np.array(values, np.int64) for values in (closed, causes, begun)]
        return Walked(*by_row, *table.T, *rest)

    def close(self, time: int) -> Longs:
        return np.array(self._close(time), np.int64)

    def held(self, slots: Longs) -> tuple[Longs, Longs, Longs]:
        if not len(slots):
            return NOTHING, NOTHING, NOTHING
        found = [self._sessions[slot] for slot in slots.tolist()]
        start, last, born = np.array([(s.start, s.last, s.born) for s in found], np.int64).T.copy()
        return start, last, born

    def put(self, slots: Longs, codes: Longs, start: Longs, last: Longs, born: Longs, room: int) -> None:
        for i in np.lexsort((start, codes)).tolist():
            session = _Session(*(int(column[i]) for column in (slots, codes, start, last, born)))
            self._begin(session, len(self._open.get(session.code, ())))

    def keep_codes(self, slots: Longs, codes: Longs) -> None:
        by_old = self._open
        for slot, code in zip(slots.tolist(), codes.tolist(), strict=True):
            self._sessions[slot].code = code
        self._open = {mine[0].code: mine for mine in by_old.values()}

    def _begin(self, session: _Session, at: int) -> None:
        self._sessions[session.slot] = session
        self._open.setdefault(session.code, []).insert(at, session)
        self._push(session)

    def _push(self, session: _Session) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (session.last + self._gap, self._pushed, session))

    def _close(self, now: int) -> list[int]:
        closed: list[int] = []
        while self._due and self._due[0][0] + self._grace <= now:
            end, _, session = heapq.heappop(self._due)
            if not session.open:
                continue
            if session.last + self._gap > end:
                self._push(session)
                continue
            session.open = False
            closed.append(session.slot)
            mine = self._open[session.code]
            mine.remove(session)
            if not mine:
                del self._open[session.code]
        return closed
