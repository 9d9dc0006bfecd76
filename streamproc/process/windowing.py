"""Windows of one partition: which are open, what is late, what closes.

Stream time is the highest event time seen. A window is closed once stream time reaches its end plus grace; its result
is final and given once. An event is late for those of its windows that are closed when it comes, judged row by row
inside a batch too.
"""

from __future__ import annotations

import numpy as np

from streamproc import compiled as kernels
from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import fields
from streamproc.process.keys import key_codes
from streamproc.process.measures import ROWS, Measure, Values, measures_of, values_of
from streamproc.process.panes import AdaptivePanes, Found, Panes
from streamproc.process.results import NOTHING, Closed, Late, nothing, results_of

Given = tuple[Longs, Found]  # windows that were closed together, by their numbers, and what they hold

_MANY_KEYS = 4096  # from here on it pays to look for keys that have gone
_LOOKED = 16  # cells are looked through for live keys in the time that it takes to give one result
_FARTHEST = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums of times stay in 64 bits


class WindowTask:
    """One aggregation over one partition.

    Args:
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        self.definition = definition
        window = definition.window
        self._size, self._step, self._pane = window.size, window.step, window.pane
        self._stride, self._panes_per_window = window.step // window.pane, window.size // window.pane
        self._close_after = window.size + definition.grace
        self._key = definition.source.key or ""
        self._time = definition.source.time
        compiled = kernels.available() if compiled is None else compiled
        measures = [ROWS, *measures_of(definition)]
        self._types = {m.field: fields(definition.source.record)[m.field].type for m in measures if m.field}
        self._codes = key_codes(fields(definition.source.record)[self._key].type, compiled)
        self._panes = _panes(measures, window.pane, compiled)
        self.stream_time: int | None = None
        self._closed_below: int | None = None  # windows of a lower number have been given out
        self._heard: int | None = None  # by the clock, when events last came
        self._heard_time = 0  # stream time then
        self._given = 0  # results, since keys that have gone were last looked for

    @property
    def columns(self) -> frozenset[str]:
        """The fields that are read."""
        return frozenset(self._types.keys() | {self._key} | ({self._time} if self._time else set()))

    @property
    def open_panes(self) -> int:
        return len(self._panes)

    @property
    def keys(self) -> int:
        return len(self._codes)

    def add(self, batch: Batch, now: int) -> Closed:
        """Takes a batch in; ``now`` is the clock, in milliseconds."""
        if not len(batch):
            return nothing()
        column = batch.column(self._time) if self._time else batch.timestamps
        times = _near(values_of(column, np.int64).data)
        seen = np.maximum.accumulate(times)
        if self.stream_time is not None and self.stream_time > seen[0]:
            np.maximum(seen, self.stream_time, out=seen)
        if self._closed_below is None:
            self._closed_below = self._open_from(int(seen[0]))
        found: list[Given] = []
        late: Late | None = None
        suspects = np.flatnonzero(seen - times > self.definition.grace)
        if len(suspects):
            late = self._add_with_late(batch, times, seen, suspects, found)
        else:
            self._panes.add(times, *self._columns(batch, None))
        self.stream_time = int(seen[-1])
        self._heard, self._heard_time = now, self.stream_time
        self._close(self._open_from(self.stream_time), found)
        return self._give(found, seen, late)

    def advance(self, now: int) -> Closed:
        """Lets an idle partition's time go on by the clock; gives the windows that this closes."""
        idle = self.definition.idle
        if idle is None or self._heard is None or self.stream_time is None or now - self._heard < idle:
            return nothing()
        self.stream_time = max(self.stream_time, self._heard_time + now - self._heard)
        found: list[Given] = []
        self._close(self._open_from(self.stream_time), found)
        return self._give(found, None, None)

    def _open_from(self, stream_time: int) -> int:
        """The first window that is not closed at this stream time."""
        return (stream_time - self._close_after) // self._step + 1

    def _columns(self, batch: Batch, rows: Longs | None) -> tuple[Longs, int, dict[str, Values]]:
        """The key codes of a batch's rows (None: of all), how many codes there are, and the rows' values."""
        columns = {name: batch.column(name) for name in (self._key, *self._types)}
        if rows is not None:
            columns = {name: column[rows] for name, column in columns.items()}
        codes = self._codes.codes(columns[self._key])
        return codes, len(self._codes), {name: values_of(columns[name], kind) for name, kind in self._types.items()}

    def _add_with_late(
        self, batch: Batch, times: Longs, seen: Longs, suspects: Longs, found: list[Given]
    ) -> Late | None:
        """Adds the rows that are not too late for all of their windows; only ``suspects`` may be. Closes windows before
        the first row that is late for them: they must not see it, though it shares a pane with them.
        """
        at = times[suspects]
        open_from = (seen[suspects] - self._close_after) // self._step + 1
        first, last = (at - self._size) // self._step + 1, at // self._step
        of = last - first + 1
        missed = np.clip(open_from - first, 0, of)
        rows: Longs | None = None
        if (gone := missed == of).any():
            rows = np.delete(np.arange(len(times)), suspects[gone])
            times = times[rows]
        # Both open_from and what has been given out only ever rise, so one look tells where the cuts are.
        partly = np.flatnonzero((missed > 0) & ~gone)
        cuts = partly[np.diff(open_from[partly], prepend=self._closed_below or 0) > 0]
        if len(times):
            codes, keys, values = self._columns(batch, rows)
            places = suspects[cuts] if rows is None else np.searchsorted(rows, suspects[cuts])
            start = 0
            for cut, stop in zip([None, *cuts.tolist()], [*places.tolist(), len(times)], strict=True):
                if cut is not None:
                    self._close(int(open_from[cut]), found)
                part = slice(start, stop)
                self._panes.add(times[part], codes[part], keys, {name: v.part(part) for name, v in values.items()})
                start = stop
        late = np.flatnonzero(missed)
        return Late(suspects[late], missed[late], of[late]) if len(late) else None

    def _close(self, open_from: int, found: list[Given]) -> None:
        """Gives out the windows below number ``open_from`` that hold events, and drops the panes that no open window
        needs.
        """
        assert self._closed_below is not None
        if open_from <= self._closed_below:
            return
        live = self._panes.live()
        windows = _windows_over(live, self._stride, self._panes_per_window, self._closed_below, open_from)
        if len(windows):
            window, code, measures = self._panes.combine(windows * self._stride, self._panes_per_window)
            found.append((windows, Found(window, code, measures)))
        if len(done := live[live // self._stride < open_from]):
            self._panes.drop(done)
        self._closed_below = open_from

    def _give(self, found: list[Given], seen: Longs | None, late: Late | None) -> Closed:
        """Results of what was found. Then keys may be forgotten."""
        if not found:
            return nothing(late)
        windows, (window, code, measures) = found[0]
        if len(found) > 1:
            windows = np.concatenate([numbers for numbers, _ in found])
            before = np.cumsum([0, *(len(numbers) for numbers, _ in found)])
            window = np.concatenate([part.window + n for (_, part), n in zip(found, before, strict=False)])
            code = np.concatenate([part.code for _, part in found])
            measures = [np.concatenate(arrays) for arrays in zip(*(part.measures for _, part in found), strict=True)]
        starts = windows * self._step
        by_measure = dict(zip(self._panes.measures, measures, strict=True))
        keys = self._codes.column(code)
        results = results_of(self.definition, starts[window], keys, by_measure, by_measure[ROWS])
        causes = NOTHING if seen is None else np.searchsorted(seen, starts + self._close_after)[window]
        closed = Closed(results, causes, late, self._codes.spread(code))
        self._given += len(code)
        self._forget_keys()
        return closed

    def _forget_keys(self) -> None:
        """Gives back the room of keys that no open window holds, once they are most of many. Looking costs no
        more than giving out the results since the last look did.
        """
        if len(self._codes) < _MANY_KEYS or _LOOKED * self._given < self._panes.work:
            return
        self._given = 0
        live = self._panes.live_codes()
        if len(live) <= len(self._codes) // 2:
            self._panes.keep_codes(live)
            self._codes.keep(live)


def _panes(measures: list[Measure], length: int, compiled: bool) -> Panes:
    if not compiled:
        return AdaptivePanes(measures, length)
    from streamproc.process.cells import CellPanes  # numba is only there when it is wanted

    return CellPanes(measures, length)


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


def _near(times: Longs) -> Longs:
    if int(times.min()) < -_FARTHEST or int(times.max()) > _FARTHEST:
        return np.clip(times, -_FARTHEST, _FARTHEST)
    return times
