"""Puts rows of several inputs into one order: by event time, then by the input's number, then as they lie in the log.

An input's *stream time* is the highest event time that came of it. A row is late when its own input had got further
than ``grace`` beyond it: that does not depend on the other inputs. The *frontier* is the least of all stream times,
less ``grace``: no row that is on time can come before it, so what lies before it is given out, in order. An input of
which nothing has come for ``idle`` does not hold the others back.

The idea is that of watermarks over several inputs (Akidau et al., The Dataflow Model, VLDB 2015). Here an input's time
is exact, so what is given out, and in which order, depends on the inputs alone, and not on how their arrival was
interleaved, as long as no input is idle.

Rows that wait are no part of the state: after a crash they are read again, from the begin of the oldest batch of which
one waits. Those of them that had been given out, or were late, are known by the frontier and the stream times of then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamproc.columns import Columns, Longs
from streamproc.process.engine import joined_columns
from streamproc.process.events import Events

_FARTHEST = 1 << 61  # ms; event times beyond count as this, so that sums of times stay in 64 bits
_NEVER = -(1 << 62)
CUT_NUMBERS = (" read", " before")  # ends of names in the header: what depends on how sources were cut into batches


class Arrived(NamedTuple):
    """Rows of a batch as they are, before they are in order."""

    events: Events
    offsets: Longs
    origins: Longs  # of a source that was rekeyed, the partition before; else 0
    reached: Longs | None = None  # of a source that was rekeyed, the stream time that each row's input had with it


class Released(NamedTuple):
    """Rows in order."""

    columns: tuple[Columns, ...]  # of each source
    times: Longs
    stamps: Longs
    offsets: Longs
    of: Longs  # which source each row is of; its k-th row of source i is row k of ``columns[i]``


@dataclass(slots=True)
class _Input:
    time: int = _NEVER  # stream time
    heard: int | None = None  # by the source's clock, when something came last


@dataclass(slots=True)
class _Waiting:
    """Rows of one batch, by event time."""

    begin: int  # the batch's first offset
    before: dict[int, int]  # stream times before that, by origin
    events: Events
    offsets: Longs
    origins: Longs
    at: int = 0  # rows before this have been given out


@dataclass(slots=True)
class _Source:
    inputs: dict[int, _Input]  # by origin
    next_offset: int = 0  # all before it has been seen
    read: int = 0  # all before it has been read; less than seen, while what waited before a crash is read again
    replayed: dict[int, int] | None = None  # stream times of what is read again after a crash
    waiting: list[_Waiting] = field(default_factory=list)


class Sequencer:
    """Rows of one partition of several sources.

    Args:
        origins: per source, how many inputs it has: 1, or the partitions before its rekeying.
        ranks: per source, its place among rows of one event time; the least comes first.
        grace: ms.
        idle: ms; None: an input is waited for, however long nothing comes of it.
    """

    def __init__(
        self, origins: Sequence[int], *, ranks: Sequence[int] | None = None, grace: int, idle: int | None
    ) -> None:
        self._sources = [_Source({origin: _Input() for origin in range(count)}) for count in origins]
        self._ranks = np.array(ranks if ranks is not None else range(len(origins)), np.int64)
        self._grace, self._idle = grace, idle
        self.frontier = _NEVER

    def reach(self, frontier: int) -> None:
        """Lets the frontier be no less than this, as where inputs have been idle."""
        self.frontier = max(self.frontier, frontier)

    def time_of(self, source: int) -> int:
        """How far a source is: the least stream time of its inputs."""
        return min(each.time for each in self._sources[source].inputs.values())

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return sum(len(part.offsets) - part.at for source in self._sources for part in source.waiting)

    def waiting_of(self, source: int) -> int:
        """The same, of one source."""
        return sum(len(part.offsets) - part.at for part in self._sources[source].waiting)

    def position(self, source: int) -> int:
        """From where a source must be read after a crash."""
        at = self._sources[source]
        return min((part.begin for part in at.waiting), default=at.read)

    def add(self, source: int, rows: Arrived, begin: int, end: int, now: int) -> Longs:
        """Takes in the rows of offsets ``begin`` to before ``end``. Returns those that are late.

        Args:
            now: the source's clock, in ms.
        """
        at = self._sources[source]
        seen_before = 0 if at.replayed is None else at.next_offset
        before = self._judged(at)
        judged = dict(before)
        times = np.clip(rows.events.times, -_FARTHEST, _FARTHEST)
        late = times < self.frontier
        origins = np.unique(rows.origins).tolist()
        for origin in origins:
            own = np.flatnonzero(rows.origins == origin)
            times_now = times[own] if rows.reached is None else np.maximum(times[own], rows.reached[own])
            reached = np.maximum(np.maximum.accumulate(times_now), judged.get(origin, _NEVER))
            late[own] |= reached - times[own] > self._grace
            judged[origin] = int(reached[-1])
        self._note(at, judged, end, now, origins)
        order = np.flatnonzero(~late)
        order = order[np.argsort(times[order], kind="stable")]
        if len(order):
            kept = Events(rows.events.columns.take(order), times[order], rows.events.stamps[order])
            at.waiting.append(_Waiting(begin, before, kept, rows.offsets[order], rows.origins[order]))
        return np.flatnonzero(late & (rows.offsets >= seen_before))

    def hear(self, source: int, origins: Longs, times: Longs, offset: int, now: int) -> None:
        """Takes in how far inputs are, of a record that tells nothing else, at ``offset``."""
        at = self._sources[source]
        judged = self._judged(at)
        for origin, time in zip(origins.tolist(), np.clip(times, -_FARTHEST, _FARTHEST).tolist(), strict=True):
            judged[origin] = max(judged.get(origin, _NEVER), time)
        self._note(at, judged, offset + 1, now, origins.tolist())

    def _judged(self, at: _Source) -> dict[int, int]:
        """The stream times by which the next rows are judged."""
        if at.replayed is not None:
            return dict(at.replayed)
        return {origin: each.time for origin, each in at.inputs.items()}

    def _note(self, at: _Source, judged: dict[int, int], end: int, now: int, heard: Sequence[int]) -> None:
        if at.replayed is not None:
            at.replayed = judged if end < at.next_offset else None
        at.read = max(at.read, end)
        for origin in heard:
            known = at.inputs.setdefault(origin, _Input())
            known.time, known.heard = max(known.time, judged[origin]), now
        at.next_offset = max(at.next_offset, end)

    def release(self, clock: Callable[[int], int]) -> Released | None:
        """What no row that is on time can come before; None where that is nothing. ``clock`` gives the clock of a
        source.
        """
        self.frontier = max(self.frontier, self._reached(clock))
        found: list[tuple[int, _Waiting, slice]] = []
        for number, source in enumerate(self._sources):
            for part in source.waiting:
                end = int(np.searchsorted(part.events.times, self.frontier))
                if end > part.at:
                    found.append((number, part, slice(part.at, end)))
                    part.at = end
            source.waiting = [part for part in source.waiting if part.at < len(part.offsets)]
        return self._in_order(found) if found else None

    def _reached(self, clock: Callable[[int], int]) -> int:
        """The least that any input has reached, less the grace."""
        if any(source.replayed is not None for source in self._sources):
            return _NEVER  # what waited before the crash comes first
        latest = max(each.time for source in self._sources for each in source.inputs.values())
        least: int | None = None
        rested: int | None = None  # how long all inputs have been idle
        for number, source in enumerate(self._sources):
            now = clock(number)
            for each in source.inputs.values():
                if each.heard is None:
                    each.heard = now
                quiet = now - each.heard
                if self._idle is None or quiet < self._idle:
                    least = each.time if least is None else min(least, each.time)
                else:
                    rested = quiet - self._idle if rested is None else min(rested, quiet - self._idle)
        if latest == _NEVER or least == _NEVER:
            return _NEVER
        return (least if least is not None else latest + (rested or 0)) - self._grace

    def _in_order(self, found: list[tuple[int, _Waiting, slice]]) -> Released:
        times = np.concatenate([part.events.times[rows] for _, part, rows in found])
        stamps = np.concatenate([part.events.stamps[rows] for _, part, rows in found])
        offsets = np.concatenate([part.offsets[rows] for _, part, rows in found])
        origins = np.concatenate([part.origins[rows] for _, part, rows in found])
        sources = np.repeat([number for number, _, _ in found], [rows.stop - rows.start for _, _, rows in found])
        order = np.lexsort((offsets, origins, self._ranks[sources], times))
        of = sources[order]
        columns: list[Columns] = []
        for number in range(len(self._sources)):
            parts = [part.events.columns.take(rows) for source, part, rows in found if source == number]
            if not parts:
                columns.append(Columns({}, 0))
                continue
            joined = joined_rows(parts)
            places = np.cumsum(sources == number) - 1  # found lists sources in ascending order
            rows = places[order[of == number]]
            columns.append(joined if (np.diff(rows) == 1).all() and len(rows) == len(joined) else joined.take(rows))
        return Released(tuple(columns), times[order], stamps[order], offsets[order], of)

    def restart(self, source: int) -> None:
        """A source's offsets begin again. What waits still does."""
        at = self._sources[source]
        at.next_offset, at.read, at.replayed = 0, 0, None
        for part in at.waiting:
            part.begin = 0

    # State.

    def header(self) -> dict[str, int | None]:
        """Where each input is, and was when what waits was read."""
        found: dict[str, int | None] = {"frontier": self.frontier}
        for number, source in enumerate(self._sources):
            found[seen(number)] = source.next_offset
            found[f"{number} read"] = self.position(number)
            oldest = min(source.waiting, key=lambda part: part.begin, default=None)
            before = self._judged(source) if oldest is None else oldest.before
            for origin, each in source.inputs.items():
                found[f"{number} {origin} time"] = each.time
                found[f"{number} {origin} before"] = before.get(origin, _NEVER)
        return found

    def restore(self, header: Mapping[str, int | None]) -> None:
        """Takes over where each input was; rows that waited then come again."""
        self.frontier = int(header["frontier"] or 0)
        for number, source in enumerate(self._sources):
            source.next_offset = header.get(seen(number)) or 0
            source.read = header.get(f"{number} read") or 0
            replayed: dict[int, int] = {}
            for name, value in header.items():
                at, origin, what = (*name.split(), "", "")[:3]
                if at == str(number) and value is not None and what in ("time", "before"):
                    if what == "before":
                        replayed[int(origin)] = value
                    else:
                        known = source.inputs.setdefault(int(origin), _Input())
                        known.time = max(known.time, value)
            source.replayed = replayed if source.read < source.next_offset else None


def seen(source: int) -> str:
    """The header's number of the offset of a source before which all has been seen."""
    return f"{source} seen"


def joined_rows(parts: Sequence[Columns]) -> Columns:
    """One behind the other, of the same columns."""
    if len(parts) == 1:
        return parts[0]
    names, length = list(parts[0]), sum(map(len, parts))
    return Columns({name: joined_columns([part[name] for part in parts]) for name in names}, length)
