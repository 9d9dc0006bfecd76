"""Windows of one partition: which are open, what is late, what closes.

Stream time is the highest event time seen. A window is closed once stream time reaches its end plus grace; its result
is final and given once. An event is late for those of its windows that are closed when it comes, judged row by row
inside a batch too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from streamproc.batch import Batch, Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import fields
from streamproc.process.keys import KeyCodes
from streamproc.process.panes import Array, Measure, Panes, Values

_CELLS = 4_000_000  # of one array: how much is combined at a time
_MANY_KEYS = 4096  # from here on it pays to look for keys that have gone


class Late(NamedTuple):
    """Rows of a batch that came after the close of ``missed[i]`` of the ``of[i]`` windows that they belong to."""

    rows: Longs
    missed: Longs
    of: Longs


class Closed(NamedTuple):
    """What one step brought: final results (fields of the sink's record, window by window) and late rows."""

    results: list[pl.DataFrame]
    late: Late | None


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
        self._record_fields = fields(definition.source.record)
        self._panes = Panes(_measures(definition))
        self._codes = KeyCodes()
        self.stream_time: int | None = None
        self._closed_below: int | None = None  # windows of a lower number have been given out
        self._heard: int | None = None  # by the clock, when events last came
        self._heard_time = 0  # stream time then

    @property
    def columns(self) -> frozenset[str]:
        """The fields that are read."""
        named = {a.field for a in self.definition.aggregates.values() if a.field}
        return frozenset(named | {self._key} | ({self._time} if self._time else set()))

    @property
    def open_panes(self) -> int:
        return len(self._panes)

    @property
    def keys(self) -> int:
        return len(self._codes)

    def add(self, batch: Batch, now: int) -> Closed:
        """Takes a batch in; ``now`` is the clock, in milliseconds."""
        if not len(batch):
            return Closed([], None)
        times = batch[self._time].to_numpy() if self._time else batch.timestamps
        codes = self._codes.codes(batch[self._key])
        values = {m.field: _values(batch[m.field]) for m in self._panes.measures if m.field}
        before = np.iinfo(np.int64).min if self.stream_time is None else self.stream_time
        seen = np.maximum(np.maximum.accumulate(times), before)
        open_from = (seen - self._close_after) // self._step + 1
        first, last = (times - self._size) // self._step + 1, times // self._step
        if self._closed_below is None:
            self._closed_below = int(open_from[0])
        missed = np.clip(open_from - first, 0, last - first + 1)
        results: list[pl.DataFrame] = []
        panes = times // self._pane
        if not missed.any():
            self._panes.add(panes, codes, len(self._codes), values)
            late = None
        else:
            rows = np.flatnonzero(missed)
            late = Late(rows, missed[rows], (last - first + 1)[rows])
            self._add_with_late(panes, codes, values, open_from, missed, last >= open_from, results)
        self.stream_time = int(seen[-1])
        self._heard, self._heard_time = now, self.stream_time
        self._close(int(open_from[-1]), results)
        self._forget_keys()
        return Closed(results, late)

    def advance(self, now: int) -> list[pl.DataFrame]:
        """Lets an idle partition's time go on by the clock; gives the windows that this closes."""
        idle = self.definition.idle
        if idle is None or self._heard is None or self.stream_time is None or now - self._heard < idle:
            return []
        self.stream_time = max(self.stream_time, self._heard_time + now - self._heard)
        results: list[pl.DataFrame] = []
        self._close((self.stream_time - self._close_after) // self._step + 1, results)
        return results

    def _add_with_late(
        self,
        panes: Longs,
        codes: Longs,
        values: dict[str, Values],
        open_from: Longs,
        missed: Longs,
        counted: Array,
        results: list[pl.DataFrame],
    ) -> None:
        """Cuts the batch wherever a row is late for windows that have not been given out yet: they must not see it."""
        assert self._closed_below is not None
        start, n = 0, len(panes)
        while start < n:
            ahead = np.flatnonzero((missed[start:] > 0) & (open_from[start:] > self._closed_below) & counted[start:])
            stop = start + int(ahead[0]) if len(ahead) else n
            if stop == start:  # the row is late only for what the rows before it have closed
                self._close(int(open_from[start]), results)
                continue
            rows = np.flatnonzero(counted[start:stop]) + start
            part = {
                name: Values(v.data[rows], None if v.valid is None else v.valid[rows]) for name, v in values.items()
            }
            self._panes.add(panes[rows], codes[rows], len(self._codes), part)
            start = stop

    def _close(self, open_from: int, results: list[pl.DataFrame]) -> None:
        """Gives out the windows below number ``open_from`` that hold events, and drops the panes that no open window
        needs.
        """
        assert self._closed_below is not None
        if open_from <= self._closed_below:
            return
        live = self._panes.live()
        # Window w is panes [w * step / pane, w * step / pane + panes per window).
        stride, length = self._step // self._pane, self._panes_per_window
        low, high = -((length - 1 - live) // stride), live // stride
        numbers: set[int] = set()
        for a, b in zip(
            np.maximum(low, self._closed_below).tolist(), np.minimum(high, open_from - 1).tolist(), strict=True
        ):
            numbers.update(range(a, b + 1))
        windows = np.array(sorted(numbers), np.int64)
        at_once = max(1, _CELLS // max(1, self._panes.keys))
        results += [self._results(windows[i : i + at_once]) for i in range(0, len(windows), at_once)]
        self._panes.drop(live[high < open_from])
        self._closed_below = open_from

    def _results(self, windows: Longs) -> pl.DataFrame:
        measures = self._panes.combine(windows * (self._step // self._pane), self._panes_per_window)
        window, code = np.nonzero(measures[0])
        found = {m: array[window, code] for m, array in zip(self._panes.measures, measures, strict=True)}
        rows = found[self._panes.measures[0]]
        start = windows[window] * self._step
        key_type = pl.String if self._record_fields[self._key].type is str else pl.Int64
        keys = pl.Series(self._key, self._codes.keys, dtype=key_type).gather(code)
        columns = {self._key: keys, "start": pl.Series(start), "end": pl.Series(start + self._size)}
        by_op = {(m.op, m.field): array for m, array in found.items()}
        for name, aggregate in self.definition.aggregates.items():
            if aggregate.kind == "count":
                columns[name] = pl.Series(rows)
                continue
            some = by_op.get(("n", aggregate.field), rows)
            if aggregate.kind == "mean":
                with np.errstate(invalid="ignore", divide="ignore"):
                    data: Array = by_op["sum", aggregate.field] / some
            else:
                data = by_op[aggregate.kind, aggregate.field]
            series = pl.Series(data)
            columns[name] = series if aggregate.kind == "sum" or some.all() else series.set(pl.Series(some == 0), None)
        return pl.DataFrame(columns)

    def _forget_keys(self) -> None:
        """Gives back the room of keys that no open window holds, once they are most of many."""
        if len(self._codes) < _MANY_KEYS or len(self._codes) < self._panes.keys * 0.9:
            return
        live = self._panes.live_codes()
        if len(live) < len(self._codes) // 2:
            self._panes.keep_codes(live)
            self._codes.keep(live)


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


def _values(series: pl.Series) -> Values:
    if not series.null_count():
        return Values(series.to_numpy(), None)
    return Values(series.fill_null(0).to_numpy(), series.is_not_null().to_numpy())
