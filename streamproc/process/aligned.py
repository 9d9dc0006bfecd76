"""Aligned windows of one partition: which are open, what is late, what closes.

A window is closed once stream time reaches its end plus grace; its result is final and given once. An event is late for
those of its windows that are closed when it comes. With updates, open windows are told about, too, whenever stream time
passes a multiple of the period: as they are before the row that takes it there, and after what this row closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from streamproc.batch import Batch
from streamproc.columns import Column, Columns, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import AlignedWindow
from streamproc.process.accumulators import Accumulators, Beside
from streamproc.process.accumulators.own import Failure
from streamproc.process.engine import Engine, columns_of, joined_columns, shifted
from streamproc.process.grid import grid_of
from streamproc.process.measures import ROWS, SIMPLE, Array, Measure, Values, measures_of, values_of
from streamproc.process.pane_rows import ARRIVAL, BORN, LAST, PaneRows
from streamproc.process.panes import AdaptivePanes, Found, Panes
from streamproc.process.results import NOTHING, Closed, Late, nothing, results_of
from streamproc.process.state import Changes

_PERIOD = Measure("max", "", np.int64)  # in which a pane's key last had an event; a field cannot have no name


class _Given(NamedTuple):
    """Windows that are told about together, by their numbers; what they hold; and the row that this comes before, when
    they stay open.
    """

    windows: Longs
    found: Found
    row: int | None
    columns: Mapping[str, Column]  # of what is beside the measures
    broken: Sequence[Failure]


class AlignedEngine(Engine):
    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, AlignedWindow)
        self._size, self._step, self._grace = window.size, window.step, definition.grace
        self._stride, self._panes_per_window = window.step // window.pane, window.size // window.pane
        self._grid = grid_of(window)
        self._every = definition.emit.every if definition.emit else None
        measures = [ROWS, *measures_of(definition)]
        self._types = {m.field: definition.fields[m.field].type for m in measures if m.field}
        measures += [BORN, LAST, *([_PERIOD] if self._every else [])]
        beside = {name: agg for name, agg in definition.aggregates.items() if agg.kind not in SIMPLE}
        self._beside = Accumulators(definition, beside, self.compiled) if beside else None
        self._panes = _panes(measures, window.pane, self.compiled, self._beside)
        self._state = PaneRows(self._panes, self._codes, window.pane, with_more=bool(beside))
        self._closed_below: int | None = None  # windows of a lower number have been given out

    @property
    def open_panes(self) -> int:
        return len(self._panes)

    @property
    def _fields(self) -> frozenset[str]:
        return frozenset(self._types) | (self._beside.fields if self._beside else frozenset())

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        if self._closed_below is None:
            self._closed_below = self._open_from(int(seen[0]))
        given: list[_Given] = []
        late: list[Late] = []
        if self._every is None:
            self._add(batch, times, seen, 0, given, late)
        else:
            for start, stop, ended in self._periods(seen, self._every):
                if ended is not None:
                    self._close(self._open_from(int(seen[start])), given)
                    self._update(ended, start, given)
                rows = slice(start, stop)
                self._add(batch.take(rows), times[rows], seen[rows], start, given, late)
        self._close(self._open_from(int(seen[-1])), given)
        return self._told(given, seen, Late(*map(np.concatenate, zip(*late, strict=True))) if late else None)

    def _pass(self, time: int) -> Closed:
        given: list[_Given] = []
        self._close(self._open_from(time), given)
        if (ended := self._ended(time, self._every)) is not None:
            self._update(ended, 0, given)
        return self._told(given, None, None)

    def _open_from(self, stream_time: int) -> int:
        """The first window that is not closed at this stream time."""
        return int(self._open_from_each(np.array([stream_time]))[0])

    def _open_from_each(self, stream_times: Longs) -> Longs:
        return (self._grid.places(stream_times - self._grace) - self._size) // self._step + 1

    def _columns(self, batch: Batch, rows: Longs | None) -> tuple[Longs, int, dict[str, Values]]:
        """The key codes of a batch's rows (None: of all), how many codes there are, and the rows' values."""
        columns = {name: batch.column(name) for name in (self._key, *self._types)}
        if rows is not None:
            columns = {name: column[rows] for name, column in columns.items()}
        codes = self._codes.codes(columns[self._key])
        return codes, len(self._codes), {name: values_of(columns[name], kind) for name, kind in self._types.items()}

    def _beside_of(self, batch: Batch, times: Longs, rows: Longs | None, before: int) -> Beside | None:
        if self._beside is None:
            return None
        found = Beside(times, columns_of(batch, self._beside.fields), before + np.arange(len(times)))
        return found if rows is None else found.part(rows)

    def _add(self, batch: Batch, times: Longs, seen: Longs, before: int, given: list[_Given], late: list[Late]) -> None:
        """Adds rows, ``before`` of the batch's come before them, in between which no period ends."""
        places = self._grid.places(times)
        suspects = np.flatnonzero(seen - times > self._grace)
        if len(suspects):
            self._add_with_late(batch, times, places, seen, suspects, before, given, late)
            return
        codes, keys, values = self._columns(batch, None)
        self._state.touch(places)
        values = self._with_ours(values, before + np.arange(len(codes)), seen)
        self._panes.add(places, codes, keys, values, self._beside_of(batch, times, None, before))

    def _with_ours(self, values: dict[str, Values], rows: Longs, seen: Longs) -> dict[str, Values]:
        """With the arrival numbers of these rows, and the period."""
        values[ARRIVAL] = Values(self._came + rows, None)
        if self._every is not None:
            values[_PERIOD.field or ""] = Values(np.full(len(rows), int(seen[0]) // self._every), None)
        return values

    def _add_with_late(
        self,
        batch: Batch,
        times: Longs,
        places: Longs,
        seen: Longs,
        suspects: Longs,
        before: int,
        given: list[_Given],
        late: list[Late],
    ) -> None:
        """Adds the rows that are not too late for all of their windows; only ``suspects`` may be. Closes windows before
        the first row that is late for them: they must not see it, though it shares a pane with them.
        """
        at = places[suspects]
        open_from = self._open_from_each(seen[suspects])
        first, last = (at - self._size) // self._step + 1, at // self._step
        of = last - first + 1
        missed = np.clip(open_from - first, 0, of)
        rows: Longs | None = None
        if (gone := missed == of).any():
            rows = np.delete(np.arange(len(places)), suspects[gone])
            places = places[rows]
        # Both open_from and what has been given out only ever rise, so one look tells where the cuts are.
        partly = np.flatnonzero((missed > 0) & ~gone)
        cuts = partly[np.diff(open_from[partly], prepend=self._closed_below or 0) > 0]
        if len(places):
            codes, keys, values = self._columns(batch, rows)
            values = self._with_ours(values, before + (np.arange(len(codes)) if rows is None else rows), seen)
            self._state.touch(places)
            cut_at = suspects[cuts] if rows is None else np.searchsorted(rows, suspects[cuts])
            beside = self._beside_of(batch, times, rows, before)
            start = 0
            for cut, stop in zip([None, *cuts.tolist()], [*cut_at.tolist(), len(places)], strict=True):
                if cut is not None:
                    self._close(int(open_from[cut]), given)
                part = slice(start, stop)
                some = {name: v.part(part) for name, v in values.items()}
                self._panes.add(places[part], codes[part], keys, some, beside.part(part) if beside else None)
                start = stop
        if len(found := np.flatnonzero(missed)):
            late.append(Late(suspects[found] + before, missed[found], of[found]))

    def _close(self, open_from: int, given: list[_Given]) -> None:
        """Gives out the windows below number ``open_from`` that hold events, and drops the panes that no open window
        needs.
        """
        assert self._closed_below is not None
        if open_from <= self._closed_below:
            return
        live = self._panes.live()
        windows = _windows_over(live, self._stride, self._panes_per_window, self._closed_below, open_from)
        if len(windows):
            beside = self._beside.fresh() if self._beside else None
            found = self._panes.combine(windows * self._stride, self._panes_per_window, beside)
            given.append(_Given(windows, found, None, *_results(beside, np.arange(len(found.code)))))
        if len(done := live[live // self._stride < open_from]):
            self._state.forget(done)
            self._panes.drop(done)
        self._closed_below = open_from

    def _update(self, ended: int, row: int, given: list[_Given]) -> None:
        """Tells about open windows, of those keys of which something came in the period that ended."""
        if not len(live := self._panes.live()):
            return
        windows = _windows_over(
            live, self._stride, self._panes_per_window, self._closed_below or 0, int(live[-1]) // self._stride + 1
        )
        beside = self._beside.fresh() if self._beside else None
        window, code, measures = self._panes.combine(windows * self._stride, self._panes_per_window, beside)
        changed = np.flatnonzero(measures[self._panes.measures.index(_PERIOD)] == ended)
        if len(changed):
            found = Found(window[changed], code[changed], [measure[changed] for measure in measures])
            given.append(_Given(windows, found, row, *_results(beside, changed)))

    def _told(self, given: list[_Given], seen: Longs | None, late: Late | None) -> Closed:
        """Results of what was found."""
        if not given:
            return nothing(late)._replace(refused=self._refused())
        windows, (window, code, measures) = given[0].windows, given[0].found
        counts = [len(part.found.code) for part in given]
        if len(given) > 1:
            before = np.cumsum([0, *(len(part.windows) for part in given)])
            windows = np.concatenate([part.windows for part in given])
            window = np.concatenate([part.found.window + n for part, n in zip(given, before, strict=False)])
            code = np.concatenate([part.found.code for part in given])
            measures = [_joined(arrays) for arrays in zip(*(part.found.measures for part in given), strict=True)]
        begins = windows * self._step
        starts, ends = self._grid.instants(begins), self._grid.instants(begins + self._size)
        by_measure = dict(zip(self._panes.measures, measures, strict=True))
        final = np.repeat([part.row is None for part in given], counts)
        keys = self._codes.column(code)
        beside = {name: joined_columns([part.columns[name] for part in given]) for name in given[0].columns}
        spans = starts[window], ends[window]
        results = results_of(self.definition, *spans, keys, by_measure, by_measure[ROWS], beside)
        if self._has_final:
            results = Columns({**{name: results[name] for name in results}, "final": pl.Series(final)}, len(code))
        causes = NOTHING
        if seen is not None:
            causes = np.searchsorted(seen, ends + self._grace)[window]
            if not final.all():
                causes = np.where(final, causes, np.repeat([part.row or 0 for part in given], counts))
        self._given += len(code)
        broken = shifted((part.broken, len(part.found.code)) for part in given)
        return Closed(results, causes, late, self._codes.spread(code), self._refused(), broken)

    def _refused(self) -> Sequence[Failure]:
        return self._beside.failures() if self._beside else ()

    def header(self) -> dict[str, int | None]:
        return {**super().header(), "closed_below": self._closed_below}

    def changes(self) -> Changes:
        return self._state.changes(self._came)

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        self._restore_header(header)
        self._closed_below = header["closed_below"]
        self._state.restore(self._came, keys, values, self._key_type, self.compiled)

    @property
    def _work(self) -> int:
        return self._panes.work

    def _live_codes(self) -> Longs:
        return self._panes.live_codes()

    def _keep_codes(self, live: Longs) -> None:
        self._panes.keep_codes(live)


def _results(beside: Accumulators | None, rows: Longs) -> tuple[Mapping[str, Column], Sequence[Failure]]:
    """What is beside the measures, of some rows of what was found."""
    if beside is None:
        return {}, ()
    return beside.results(rows, np.zeros(len(rows), np.int64), None), beside.unclosed


def _panes(measures: list[Measure], length: int, compiled: bool, beside: Accumulators | None) -> Panes:
    if not compiled:
        return AdaptivePanes(measures, length, beside)
    from streamproc.process.cells import CellPanes  # numba is only there when it is wanted

    return CellPanes(measures, length, beside)


def _joined(arrays: tuple[Array, ...]) -> Array:
    return np.concatenate(arrays)


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
