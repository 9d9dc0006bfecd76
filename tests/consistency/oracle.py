"""What a run without faults gives, computed event by event, from what lies in the source topic.

Results of a sink are ``{identity: values}``: of an event its id, of a window its unit, start and end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import NamedTuple

from tests.consistency.topology import GAP_MS, GRACE_MS, SIZE_MS, STEP_MS, Event

#: Sinks by their short names, and of which fields a result's identity is made.
IDENTITY: dict[str, tuple[str, ...]] = {
    "counted": ("event",),
    "rising": ("id",),
    "windows": ("unit", "start", "end"),
    "windows-late": ("id",),
    "sessions": ("unit", "start", "end"),
    "sessions-late": ("id",),
}


class Sums(NamedTuple):
    n: int
    sum: float
    greatest: float

    def add(self, other: Sums) -> Sums:
        return Sums(self.n + other.n, self.sum + other.sum, max(self.greatest, other.greatest))


class Session(NamedTuple):
    first: int
    last: int
    sums: Sums


class Oracle:
    """One partition of the source. Takes its events in order."""

    def __init__(self) -> None:
        self.events = 0
        self.of_unit: defaultdict[str, int] = defaultdict(int)  # the row agent's table
        self.highest: defaultdict[str, float] = defaultdict(float)  # the batch agent's
        self.time = -(1 << 62)  # stream time
        self._windows: defaultdict[int, dict[str, Sums]] = defaultdict(dict)  # by start
        self._sessions: defaultdict[str, list[Session]] = defaultdict(list)
        #: By sink, results that nobody has asked for yet.
        self.results: dict[str, dict[Hashable, tuple[object, ...]]] = {sink: {} for sink in IDENTITY}

    def take(self, event: Event) -> None:
        self.events += 1
        self.time = max(self.time, event.ts)
        self._count(event)
        self._close_windows()
        self._close_sessions()
        one = Sums(1, event.x, event.x)
        self._to_windows(event, one)
        self._to_session(event, one)

    def _give(self, sink: str, identity: tuple[object, ...], values: tuple[object, ...]) -> None:
        self.results[sink][identity] = values

    def _count(self, event: Event) -> None:
        unit, x = event.unit, event.x
        self.of_unit[unit] += 1
        self._give("counted", (event.id,), (event.id, unit, self.of_unit[unit], x))
        if x > self.highest[unit]:
            self._give("rising", (event.id,), _of(event))
        self.highest[unit] = max(self.highest[unit] - 1, x)

    def _close_windows(self) -> None:
        for start in [start for start in self._windows if start + SIZE_MS + GRACE_MS <= self.time]:
            for unit, sums in self._windows.pop(start).items():
                self._give("windows", (unit, start, start + SIZE_MS), (unit, start, start + SIZE_MS, *sums))

    def _to_windows(self, event: Event, one: Sums) -> None:
        missed = False
        for start in range(event.ts // STEP_MS * STEP_MS, event.ts - SIZE_MS, -STEP_MS):
            if start + SIZE_MS + GRACE_MS <= self.time:
                missed = True
                continue
            window = self._windows[start]
            window[event.unit] = window[event.unit].add(one) if event.unit in window else one
        if missed:
            self._give("windows-late", (event.id,), _of(event))

    def _close_sessions(self) -> None:
        for unit, sessions in self._sessions.items():
            for session in [s for s in sessions if s.last + GAP_MS + GRACE_MS <= self.time]:
                sessions.remove(session)
                end = session.last + GAP_MS
                self._give("sessions", (unit, session.first, end), (unit, session.first, end, *session.sums))

    def _to_session(self, event: Event, one: Sums) -> None:
        ts, sessions = event.ts, self._sessions[event.unit]
        joined = [s for s in sessions if s.first < ts + GAP_MS and ts < s.last + GAP_MS]
        if not joined and ts + GAP_MS + GRACE_MS <= self.time:
            self._give("sessions-late", (event.id,), _of(event))
            return
        whole = Session(ts, ts, one)
        for other in joined:
            sessions.remove(other)
            whole = Session(min(whole.first, other.first), max(whole.last, other.last), whole.sums.add(other.sums))
        sessions.append(whole)


def _of(event: Event) -> tuple[object, ...]:
    return (event.id, event.unit, event.ts, event.x)
