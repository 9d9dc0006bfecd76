"""What windows must give, written from their definitions: row by row, window by window, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from streamproc.define.windows import AlignedWindow, CountWindow, GlobalWindow, SessionWindow, SlidingWindow

_EPOCH = datetime(1970, 1, 1)


class Wanted(NamedTuple):
    """One result: whose, of which window, of which rows (in the order in which they are added up), brought by which
    row, and whether it is the last of its window. ``sums`` says how rows are added up, where that is not one by one:
    those that are tuples first, each for itself, and then as one.
    """

    key: Any
    start: int
    end: int
    rows: tuple[int, ...]
    cause: int
    final: bool
    sums: tuple[Any, ...] | None = None


class Outcome(NamedTuple):
    """All results, and of late rows (row, missed, of)."""

    results: list[Wanted]
    late: list[tuple[int, int, int]]


def expected(rows: Sequence[Any], window: Any, grace: int = 0, every: int | None = None) -> Outcome:
    """Of rows with ``unit`` and ``ts``, in the order in which they lie in Kafka."""
    if isinstance(window, AlignedWindow):
        return _aligned(rows, window, grace, every)
    if isinstance(window, SessionWindow):
        return _sessions(rows, window.gap, grace, every)
    if isinstance(window, SlidingWindow):
        return _sliding(rows, window.size, grace)
    if isinstance(window, CountWindow):
        return _counted(rows, window.size, window.step, window.ttl)
    assert isinstance(window, GlobalWindow)
    return _each(rows, window.each, window.ttl) if window.each else _every(rows, window.every or 0, window.ttl)


def _passes(before: float, now: int, every: int | None) -> bool:
    """Whether stream time passes a multiple."""
    return every is not None and before > -math.inf and before // every != now // every


# Aligned windows.


def bounds(window: AlignedWindow) -> Callable[[int], tuple[int, int]]:
    """From a window's number to its start and end."""
    if window.zone is None:
        return lambda w: (w * window.step + window.offset, w * window.step + window.offset + window.size)
    zone, day = ZoneInfo(window.zone), 86_400_000

    def instant(number: int) -> int:
        wall = _EPOCH + timedelta(days=number, milliseconds=window.offset)
        return round((wall.replace(tzinfo=zone).timestamp()) * 1000)

    return lambda w: (instant(w * window.step // day), instant(w * window.step // day + window.size // day))


def _numbers(window: AlignedWindow, bound: Callable[[int], tuple[int, int]], t: int) -> list[int]:
    """The windows that a time is in."""
    near = (t - window.offset) // window.step
    back = window.size // window.step + 3
    return [w for w in range(near - back, near + 3) if bound(w)[0] <= t < bound(w)[1]]


def _aligned(rows: Sequence[Any], window: AlignedWindow, grace: int, every: int | None) -> Outcome:
    bound = bounds(window)
    held: dict[int, dict[Any, list[int]]] = {}  # by window and key
    changed: set[tuple[int, Any]] = set()
    out = Outcome([], [])
    now = -math.inf

    def tell(w: int, keys: Any, cause: int, final: bool) -> None:
        for key in _as_they_came(rows, {key: held[w][key] for key in held[w]}, window, bound, w):
            if key in keys:
                members = tuple(sorted(held[w][key], key=lambda i: (_pane(rows[i].ts, window, bound), i)))
                by_pane = groupby(members, lambda i: _pane(rows[i].ts, window, bound))
                sums = tuple(tuple(part) for _, part in by_pane)
                out.results.append(Wanted(key, *bound(w), members, cause, final, sums))

    for at, row in enumerate(rows):
        before, now = now, max(now, row.ts)
        for w in sorted(w for w in held if bound(w)[1] + grace <= now):
            tell(w, held[w].keys(), at, True)
            del held[w]
            changed = {(v, key) for v, key in changed if v != w}
        if _passes(before, int(now), every):
            for w in sorted(held):
                tell(w, {key for v, key in changed if v == w}, at, False)
            changed.clear()
        mine = _numbers(window, bound, row.ts)
        shut = [w for w in mine if bound(w)[1] + grace <= now]
        if shut:
            out.late.append((at, len(shut), len(mine)))
        for w in set(mine) - set(shut):
            held.setdefault(w, {}).setdefault(row.unit, []).append(at)
            changed.add((w, row.unit))
    return out


def _pane(t: int, window: AlignedWindow, bound: Callable[[int], tuple[int, int]]) -> int:
    if window.zone is None:
        return (t - window.offset) // math.gcd(window.size, window.step)
    days = math.gcd(window.size, window.step)
    daily = bounds(AlignedWindow(days, days, window.offset, window.zone))
    return _numbers(AlignedWindow(days, days, window.offset, window.zone), daily, t)[-1]


def _as_they_came(
    rows: Sequence[Any], held: dict[Any, list[int]], window: AlignedWindow, bound: Any, w: int
) -> list[Any]:
    """A window's keys, by the first pane that has one, and then by its first event there."""
    return sorted(held, key=lambda key: min((_pane(rows[i].ts, window, bound), i) for i in held[key]))


# Sessions.


class _Session(NamedTuple):
    key: Any
    start: int
    last: int
    rows: tuple[int, ...]
    changed: bool
    sums: tuple[Any, ...]  # rows, and sessions that it took in


def _sessions(rows: Sequence[Any], gap: int, grace: int, every: int | None) -> Outcome:
    sessions: list[_Session] = []  # that are open
    out = Outcome([], [])
    now = -math.inf

    def in_order(some: list[_Session]) -> list[_Session]:
        return sorted(some, key=lambda s: (s.last, min(s.rows)))

    def tell(some: list[_Session], cause: int, final: bool) -> None:
        for s in in_order(some):
            out.results.append(Wanted(s.key, s.start, s.last + gap, s.rows, cause, final, s.sums))

    for at, row in enumerate(rows):
        before, now = now, max(now, row.ts)
        over = [s for s in sessions if s.last + gap + grace <= now]
        tell(over, at, True)
        sessions = [s for s in sessions if s not in over]
        if _passes(before, int(now), every):
            tell([s for s in sessions if s.changed], at, False)
            sessions = [s._replace(changed=False) for s in sessions]
        t = row.ts
        mine = [s for s in sessions if s.key == row.unit and s.start < t + gap and t < s.last + gap]
        if not mine and t + gap + grace <= now:
            out.late.append((at, 1, 1))
            continue
        mine.sort(key=lambda s: s.start)
        joined = _Session(
            row.unit,
            min([t, *(s.start for s in mine)]),
            max([t, *(s.last for s in mine)]),
            (*(i for s in mine for i in s.rows), at),
            True,
            (*(mine[0].sums if mine else ()), *(s.sums for s in mine[1:]), at),
        )
        sessions = [s for s in sessions if s not in mine] + [joined]
    return out


# Sliding windows.


def _sliding(rows: Sequence[Any], size: int, grace: int) -> Outcome:
    kept: list[int] = []
    told: set[tuple[Any, int]] = set()
    out = Outcome([], [])
    now = -math.inf
    for at, row in enumerate(rows):
        now = max(now, row.ts)
        due: dict[tuple[int, int], Any] = {}
        for i in kept:
            key, t = rows[i].unit, rows[i].ts
            if t + 1 + grace <= now and (key, t) not in told:
                told.add((key, t))
                due[t, i] = key
        for (t, _), key in sorted(due.items()):
            members = [i for i in kept if rows[i].unit == key and t - size < rows[i].ts <= t]
            members.sort(key=lambda i: (rows[i].ts, i))
            out.results.append(Wanted(key, t + 1 - size, t + 1, tuple(members), at, True))
        if row.ts + 1 + grace <= now:
            out.late.append((at, 1, 1))
        else:
            kept.append(at)
    return out


# Windows that events fill.


def _span(rows: Sequence[Any], members: Sequence[int]) -> tuple[int, int]:
    times = [rows[i].ts for i in members]
    return min(times), max(times) + 1


def _lives(rows: Sequence[Any], ttl: int | None) -> list[tuple[Any, int]]:
    """Of each row its key, and how often that had been forgotten before."""
    last: dict[Any, int] = {}
    lives: dict[Any, int] = {}
    now = -math.inf
    found = []
    for row in rows:
        now = max(now, row.ts)
        if ttl is not None and row.unit in last and now >= last[row.unit] + ttl:
            lives[row.unit] = lives.get(row.unit, 0) + 1
        last[row.unit] = int(now)
        found.append((row.unit, lives.get(row.unit, 0)))
    return found


def _counted(rows: Sequence[Any], size: int, step: int, ttl: int | None) -> Outcome:
    out = Outcome([], [])
    by_life: dict[Any, list[int]] = {}
    for at, (row, life) in enumerate(zip(rows, _lives(rows, ttl), strict=True)):
        mine = by_life.setdefault(life, [])
        mine.append(at)
        begin = len(mine) - size
        if begin >= 0 and begin % step == 0:
            members, pane = tuple(mine[begin:]), math.gcd(size, step)
            sums = tuple(members[i : i + pane] for i in range(0, size, pane))
            out.results.append(Wanted(row.unit, *_span(rows, members), members, at, True, sums))
    return out


def _each(rows: Sequence[Any], each: int, ttl: int | None) -> Outcome:
    out = Outcome([], [])
    by_life: dict[Any, list[int]] = {}
    for at, (row, life) in enumerate(zip(rows, _lives(rows, ttl), strict=True)):
        mine = by_life.setdefault(life, [])
        mine.append(at)
        if len(mine) % each == 0:
            out.results.append(Wanted(row.unit, *_span(rows, mine), tuple(mine), at, True))
    return out


def _every(rows: Sequence[Any], every: int, ttl: int | None) -> Outcome:
    out = Outcome([], [])
    by_life: dict[Any, list[int]] = {}
    changed: set[Any] = set()
    now = -math.inf
    for at, (row, life) in enumerate(zip(rows, _lives(rows, ttl), strict=True)):
        before, now = now, max(now, row.ts)
        if _passes(before, int(now), every):
            for one, mine in by_life.items():
                if one in changed:
                    out.results.append(Wanted(one[0], *_span(rows, mine), tuple(mine), at, True))
            changed.clear()
        by_life.setdefault(life, []).append(at)
        changed.add(life)
    return out
