"""Windows of one partition: which are open, what is late, what closes.

Stream time is the highest event time seen. A window is closed once stream time reaches its end plus grace; its result
is final and given once. An event is late for those of its windows that are closed when it comes, judged row by row
inside a batch too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import fields
from streamproc.process.keys import KeyCodes
from streamproc.process.panes import Array, Measure, Panes, Values

_CELLS = 4_000_000  # of one array: how much is combined at a time
_MANY_KEYS = 4096  # from here on it pays to look for keys that have gone
_FARTHEST = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums of times stay in 64 bits


class Late(NamedTuple):
    """Rows of a batch that came after the close of ``missed[i]`` of the ``of[i]`` windows that they belong to."""

    rows: Longs
    missed: Longs
    of: Longs


class Closed(NamedTuple):
    """What a batch brought: final results (fields of the sink's record), window by window and in each by key, and late
    rows. ``causes`` has for each result the row of the batch that closed its window.
    """

    results: pl.DataFrame
    causes: Longs
    late: Late | None


class Found(NamedTuple):
    """Windows given out, one row per window and key: the window's number, the key's code, and the measures."""

    window: Longs
    code: Longs
    measures: list[Array]


class WindowTask:
    """One aggregation over one partition."""

    def __init__(self, definition: Aggregation) -> None:
        self.definition = definition
        window = definition.window
        self._size, self._step, self._pane = window.size, window.step, window.pane
        self._panes_per_window = window.size // window.pane
        self._close_after = window.size + definition.grace
        self._key = definition.source.key or ""
        self._time = definition.source.time
        self._panes = Panes(_measures(definition))
        self._fields = {m.field for m in self._panes.measures if m.field}
        self._codes = KeyCodes()
        self.stream_time: int | None = None
        self._closed_below: int | None = None  # windows of a lower number have been given out
        self._heard: int | None = None  # by the clock, when events last came
        self._heard_time = 0  # stream time then

    @property
    def columns(self) -> frozenset[str]:
        """The fields that are read."""
        return frozenset(self._fields | {self._key} | ({self._time} if self._time else set()))

    @property
    def open_panes(self) -> int:
        return len(self._panes)

    @property
    def keys(self) -> int:
        return len(self._codes)

    def add(self, batch: Batch, now: int) -> Closed:
        """Takes a batch in; ``now`` is the clock, in milliseconds."""
        if not len(batch):
            return Closed(pl.DataFrame(), np.empty(0, np.int64), None)
        times = _near(batch[self._time].to_numpy() if self._time else batch.timestamps)
        seen = np.maximum.accumulate(times)
        if self.stream_time is not None:
            np.maximum(seen, self.stream_time, out=seen)
        if self._closed_below is None:
            self._closed_below = self._open_from(int(seen[0]))
        found: list[Found] = []
        late: Late | None = None
        if int((seen - times).max()) <= self.definition.grace:  # then no row can be late
            self._panes.add(times // self._pane, *self._columns(batch, None))
        else:
            late = self._add_with_late(batch, times, seen, found)
        self.stream_time = int(seen[-1])
        self._heard, self._heard_time = now, self.stream_time
        self._close(self._open_from(self.stream_time), found)
        results = self._give(found)
        ends = results["end"].to_numpy() + self.definition.grace if found else np.empty(0, np.int64)
        return Closed(results, np.searchsorted(seen, ends), late)

    def advance(self, now: int) -> pl.DataFrame:
        """Lets an idle partition's time go on by the clock; gives the windows that this closes."""
        idle = self.definition.idle
        if idle is None or self._heard is None or self.stream_time is None or now - self._heard < idle:
            return pl.DataFrame()
        self.stream_time = max(self.stream_time, self._heard_time + now - self._heard)
        found: list[Found] = []
        self._close(self._open_from(self.stream_time), found)
        return self._give(found)

    def _open_from(self, stream_time: int) -> int:
        """The first window that is not closed at this stream time."""
        return (stream_time - self._close_after) // self._step + 1

    def _columns(self, batch: Batch, rows: Longs | None) -> tuple[Longs, int, dict[str, Values]]:
        """The key codes of a batch's rows (None: of all), how many codes there are, and the rows' values."""
        keys = batch[self._key]
        if rows is not None and len(rows) == len(batch):
            rows = None
        codes = self._codes.codes(keys if rows is None else keys.gather(rows))
        return codes, len(self._codes), {field: _values(batch[field], rows) for field in self._fields}

    def _add_with_late(self, batch: Batch, times: Longs, seen: Longs, found: list[Found]) -> Late | None:
        """Adds the rows that are not too late for all of their windows. Closes windows before the first row that is
        late for them: they must not see it, though it shares a pane with them.
        """
        open_from = (seen - self._close_after) // self._step + 1
        first, last = (times - self._size) // self._step + 1, times // self._step
        of = last - first + 1
        missed = np.clip(open_from - first, 0, of)
        rows = np.flatnonzero(missed < of)
        # Both open_from and what has been given out only ever rise, so one look tells where the cuts are.
        partly = np.flatnonzero(missed[rows] > 0)
        cuts = partly[np.diff(open_from[rows[partly]], prepend=self._closed_below or 0) > 0]
        panes = times[rows] // self._pane
        codes, keys, values = self._columns(batch, rows)
        start = 0
        for cut in [*cuts.tolist(), len(rows)] if len(rows) else ():
            part = slice(start, cut)
            self._panes.add(panes[part], codes[part], keys, {name: v.part(part) for name, v in values.items()})
            if cut < len(rows):
                self._close(int(open_from[rows[cut]]), found)
            start = cut
        late = np.flatnonzero(missed)
        return Late(late, missed[late], of[late]) if len(late) else None

    def _close(self, open_from: int, found: list[Found]) -> None:
        """Gives out the windows below number ``open_from`` that hold events, and drops the panes that no open window
        needs.
        """
        assert self._closed_below is not None
        if open_from <= self._closed_below:
            return
        live = self._panes.live()
        stride, length = self._step // self._pane, self._panes_per_window
        windows = _windows_over(live, stride, length, self._closed_below, open_from)
        at_once = max(1, _CELLS // max(1, self._panes.keys))
        found += [self._look(windows[i : i + at_once]) for i in range(0, len(windows), at_once)]
        self._panes.drop(live[live // stride < open_from])
        self._closed_below = open_from

    def _look(self, windows: Longs) -> Found:
        measures = self._panes.combine(windows * (self._step // self._pane), self._panes_per_window)
        ascending = self._codes.ascending()
        window, place = np.nonzero(measures[0][:, ascending])
        code = ascending[place]
        return Found(windows[window], code, [array[window, code] for array in measures])

    def _give(self, found: list[Found]) -> pl.DataFrame:
        """Results of what was found. Then keys may be forgotten."""
        if not found:
            return pl.DataFrame()
        window, code = (np.concatenate([f[i] for f in found]) for i in (0, 1))
        measures = [np.concatenate(arrays) for arrays in zip(*(f.measures for f in found), strict=True)]
        by_op = {(m.op, m.field): array for m, array in zip(self._panes.measures, measures, strict=True)}
        start = window * self._step
        columns = {
            self._key: self._codes.column().gather(code),
            "start": pl.Series(start),
            "end": pl.Series(start + self._size),
        }
        columns |= self._aggregates(by_op)
        self._forget_keys()
        return pl.DataFrame(columns)

    def _aggregates(self, found: Mapping[tuple[Any, str | None], Array]) -> dict[str, pl.Series]:
        columns: dict[str, pl.Series] = {}
        rows = found["n", None]
        for name, aggregate in self.definition.aggregates.items():
            if aggregate.kind == "count":
                columns[name] = pl.Series(rows)
                continue
            some = found.get(("n", aggregate.field), rows)  # of a field that is never null, none are counted
            data: Array = found["sum" if aggregate.kind == "mean" else aggregate.kind, aggregate.field]
            if aggregate.kind == "mean":
                with np.errstate(invalid="ignore"):
                    data = data / np.maximum(some, 1)
            series = pl.Series(_plain(data))
            columns[name] = series if aggregate.kind == "sum" or some.all() else series.set(pl.Series(some == 0), None)
        return columns

    def _forget_keys(self) -> None:
        """Gives back the room of keys that no open window holds, once they are most of many. Looking costs no more than
        giving out a window did.
        """
        if len(self._codes) < _MANY_KEYS:
            return
        live = self._panes.live_codes()
        if len(live) <= len(self._codes) // 2:
            self._panes.keep_codes(live)
            self._codes.keep(live)


def _windows_over(panes: Longs, stride: int, length: int, low: int, high: int) -> Longs:
    """Numbers of the windows in ``[low, high)`` that have one of these panes, ascending. Window ``w`` is panes
    ``[w * stride, w * stride + length)``.
    """
    first = np.maximum(-((length - 1 - panes) // stride), low)
    last = np.minimum(panes // stride, high - 1)
    first[1:] = np.maximum(first[1:], last[:-1] + 1)  # both ascend: what overlaps, overlaps with the one before
    counts = np.maximum(last - first + 1, 0)
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(int(counts.sum()))


def _measures(definition: Aggregation) -> list[Measure]:
    """What must be kept to give the aggregates; each thing once."""
    known = fields(definition.source.record)
    wanted: dict[Measure, None] = {}
    for aggregate in definition.aggregates.values():
        if aggregate.field is None:
            continue
        field = known[aggregate.field]
        dtype = np.int64 if field.type is int else np.float64
        op = "sum" if aggregate.kind in ("sum", "mean") else aggregate.kind
        wanted[Measure(op, aggregate.field, dtype)] = None  # type: ignore[arg-type]
        if field.nullable:
            wanted[Measure("n", aggregate.field, np.int64)] = None
    return list(wanted)


def _values(series: pl.Series, rows: Longs | None) -> Values:
    if not series.null_count():
        data, valid = series.to_numpy(), None
    else:
        data, valid = series.fill_null(0).to_numpy(), series.is_not_null().to_numpy()
    if rows is None:
        return Values(data, valid)
    return Values(data[rows], None if valid is None else valid[rows])


def _near(times: Longs) -> Longs:
    if int(times.min()) < -_FARTHEST or int(times.max()) > _FARTHEST:
        return np.clip(times, -_FARTHEST, _FARTHEST)
    return times


def _plain(data: Array) -> Array:
    """One NaN and one zero, whatever their signs: which one a sum or a comparison leaves is up to the processor."""
    return np.where(np.isnan(data), np.nan, data + 0.0) if data.dtype == np.float64 else data
