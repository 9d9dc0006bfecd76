"""What all engines of windows share: event time, keys, results and their place in the log.

Stream time is the highest event time seen. What an event finds is judged row by row: at a row it is the highest up to
and with that row. So results do not depend on how rows were cut into batches.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from streamproc import compiled as kernels
from streamproc.batch import Batch
from streamproc.columns import Column, Columns, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import fields
from streamproc.process.accumulators.own import Failure
from streamproc.process.keys import key_codes
from streamproc.process.measures import values_of
from streamproc.process.results import NOTHING, Closed, Late, nothing
from streamproc.process.state import Changes

_MANY_KEYS = 4096  # from here on it pays to look for keys that have gone
_LOOKED = 16  # slots are looked through for live keys in the time that it takes to give one result
_FARTHEST = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums of times stay in 64 bits
_FORMAT = 1  # of rows of state


class Part(NamedTuple):
    """Results that were made together: of each the key's code, the window, the aggregates, and the row of the batch
    that brought it (of no length when the clock did); and what classes of one's own did not give, by row of these.
    """

    codes: Longs
    start: Longs
    end: Longs
    values: Mapping[str, Column]
    causes: Longs
    final: bool = True
    broken: Sequence[Failure] = ()


class Engine(ABC):
    """One aggregation over one partition.

    Args:
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        self.definition = definition
        self.compiled = kernels.available() if compiled is None else compiled
        self._key = definition.key
        self._key_type = definition.fields[self._key].type
        self._time = definition.time
        self._has_final = "final" in fields(definition.sink.record)
        self._codes = key_codes(self._key_type, self.compiled)
        self.stream_time: int | None = None
        self._heard: int | None = None  # by the clock, when events last came
        self._heard_time = 0  # stream time then
        self._taken_over = False  # another worker's clock was restored, and nobody has asked since
        self._came = 0  # rows, so far
        self._given = 0  # results, since keys that have gone were last looked for

    @property
    def columns(self) -> frozenset[str]:
        """The fields that are read."""
        return self._fields | {self._key} | ({self._time} if self._time else set())

    @property
    def keys(self) -> int:
        return len(self._codes)

    @property
    @abstractmethod
    def open_panes(self) -> int:
        """How many panes, sessions or the like are held."""

    @property
    @abstractmethod
    def _fields(self) -> frozenset[str]:
        """What is read beside the key and the time."""

    def add(self, batch: Batch, now: int) -> Closed:
        """Takes a batch in; ``now`` is the clock, in milliseconds."""
        if not len(batch):
            return nothing()
        column = batch.column(self._time) if self._time else batch.timestamps
        times = _near(values_of(column, np.int64).data)
        seen = np.maximum.accumulate(times)
        if self.stream_time is not None and self.stream_time > seen[0]:
            np.maximum(seen, self.stream_time, out=seen)
        closed = self._take(batch, times, seen)
        self.stream_time = int(seen[-1])
        self._heard, self._heard_time, self._taken_over = now, self.stream_time, False
        self._came += len(times)
        self._forget_keys()
        return closed

    def advance(self, now: int) -> Closed:
        """Lets an idle partition's time go on by the clock; gives what this brings."""
        idle = self.definition.idle
        if self._taken_over:  # while nobody had the partition, events may have come: that time does not count
            self._taken_over = False
            if self._heard is not None and self.stream_time is not None:
                self._heard, self._heard_time = now, self.stream_time
        if idle is None or self._heard is None or self.stream_time is None or now - self._heard < idle:
            return nothing()
        return self.reach(self._heard_time + now - self._heard)

    def reach(self, time: int) -> Closed:
        """Lets stream time go on up to ``time``: nothing of before is to come."""
        if self.stream_time is None or time <= self.stream_time:
            return nothing()
        closed = self._pass(time)
        self.stream_time = time
        self._forget_keys()
        return closed

    @abstractmethod
    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        """Takes rows in: the event time of each, and the stream time."""

    @abstractmethod
    def _pass(self, time: int) -> Closed:
        """Brings what comes due when stream time gets there by the clock."""

    # State.

    def version(self) -> str:
        definition = self.definition
        source = definition.fields
        aggregates = [
            (str(aggregate), aggregate.options, [(name, str(source[name])) for name in aggregate.fields])
            for aggregate in definition.aggregates.values()
        ]
        meant = (_FORMAT, self._meant, str(definition.emit), str(source[self._key]), aggregates)
        return f"windows-{_FORMAT}-{hashlib.sha256(repr(meant).encode()).hexdigest()[:16]}"

    @property
    def _meant(self) -> str:
        """The window, as far as rows depend on it."""
        return str(self.definition.window)

    def header(self) -> dict[str, int | None]:
        return {
            "stream_time": self.stream_time,
            "heard": self._heard,
            "heard_time": self._heard_time,
            "came": self._came,
        }

    @abstractmethod
    def changes(self) -> Changes:
        """The rows that changed, and forgets that they did."""

    @abstractmethod
    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        """Takes all rows, each key once, in any order, into a state that is empty."""

    def _restore_header(self, header: Mapping[str, int | None]) -> None:
        self.stream_time, self._heard = header["stream_time"], header["heard"]
        self._heard_time, self._came = header["heard_time"] or 0, header["came"] or 0
        self._taken_over = True

    # For those who derive from this.

    def _periods(self, seen: Longs, every: int) -> Iterator[tuple[int, int, int | None]]:
        """The rows between two passings of a multiple of ``every``: from, to, and which period ended before the first
        of them, if one did.
        """
        periods = seen // every
        before = int(periods[0]) if self.stream_time is None else self.stream_time // every
        cuts = np.flatnonzero(np.diff(periods, prepend=before)).tolist()
        starts = cuts if cuts and not cuts[0] else [0, *cuts]
        for start, stop in zip(starts, [*starts[1:], len(seen)], strict=True):
            ended = int(periods[start - 1]) if start else before
            yield start, stop, ended if int(periods[start]) != ended else None

    def _ended(self, time: int, every: int | None) -> int | None:
        """Which period ends when stream time gets there by the clock, if one does."""
        if every is None or self.stream_time is None or self.stream_time // every == time // every:
            return None
        return self.stream_time // every

    def _give(self, parts: Sequence[Part], late: Late | None = None) -> Closed:
        """Results of several parts, in their order."""
        parts = [part for part in parts if len(part.codes)]
        if not parts:
            return nothing(late)
        codes = np.concatenate([part.codes for part in parts])
        columns: dict[str, Column] = {
            self._key: self._codes.column(codes),
            "start": np.concatenate([part.start for part in parts]),
            "end": np.concatenate([part.end for part in parts]),
        }
        if self._has_final:
            columns["final"] = pl.Series(np.repeat([part.final for part in parts], [len(part.codes) for part in parts]))
        for name in self.definition.aggregates:
            columns[name] = joined_columns([part.values[name] for part in parts])
        self._given += len(codes)
        causes = np.concatenate([part.causes for part in parts])
        broken = shifted([(part.broken, len(part.codes)) for part in parts])
        return Closed(Columns(columns, len(codes)), causes, late, self._codes.spread(codes), broken=broken)

    def _forget_keys(self) -> None:
        """Gives back the room of keys of which nothing is held, once they are most of many. Looking costs no more than
        giving out the results since the last look did.
        """
        if len(self._codes) < _MANY_KEYS or _LOOKED * self._given < self._work:
            return
        self._given = 0
        live = self._live_codes()
        if len(live) <= len(self._codes) // 2:
            self._keep_codes(live)
            self._codes.keep(live)

    @property
    def _work(self) -> int:
        """How many slots there are to look through for keys."""
        return self.open_panes

    @abstractmethod
    def _live_codes(self) -> Longs:
        """Codes of the keys of which something is held, ascending."""

    @abstractmethod
    def _keep_codes(self, live: Longs) -> None:
        """Gives these codes, which are all that are held, the numbers 0, 1, 2 …"""


def joined_columns(columns: Sequence[Column]) -> Column:
    """One behind the other."""
    if len(columns) == 1:
        return columns[0]
    if all(isinstance(column, np.ndarray) for column in columns):
        return np.concatenate(columns)  # type: ignore[arg-type]
    return pl.concat([column.series() if isinstance(column, Texts) else pl.Series(column) for column in columns])


def shifted(parts: Iterable[tuple[Sequence[Failure], int]]) -> list[Failure]:
    """Failures of parts, each of so many rows, by their rows in all."""
    found: list[Failure] = []
    before = 0
    for failures, rows in parts:
        found += [failure._replace(row=before + failure.row) for failure in failures]
        before += rows
    return found


def picked(columns: Mapping[str, Column], rows: Longs) -> dict[str, Column]:
    """Some of the rows."""
    return {name: column[rows] for name, column in columns.items()}


def columns_of(batch: Batch, names: frozenset[str]) -> dict[str, Column]:
    """These columns of a batch, as they lie."""
    return {name: batch.column(name) for name in names}


def same_cause(row: int | None, count: int) -> Longs:
    """The cause of so many results: a row, or none where it is the clock."""
    return NOTHING if row is None else np.full(count, row, np.int64)


def _near(times: Longs) -> Longs:
    if int(times.min()) < -_FARTHEST or int(times.max()) > _FARTHEST:
        return np.clip(times, -_FARTHEST, _FARTHEST)
    return times
