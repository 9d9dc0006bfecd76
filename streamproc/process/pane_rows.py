"""Rows of state of panes: one for each pane and key that has events. What changed is told by arrival numbers, which are
kept as two measures more, the least and the greatest: a row is new to the changelog, or changed, when they are not
below the number of rows that there were when the changelog last asked. A row is the measures as words, and behind them
what accumulators have packed, where there is more than measures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.process.keys import KeyCodes
from streamproc.process.measures import Array, Measure, Values
from streamproc.process.panes import AdaptivePanes, Found, Panes
from streamproc.process.sparse import SparsePanes
from streamproc.process.state import NO_TEXTS, Changes, joined
from streamproc.process.words import behind, key_bytes, keys_of, read_words, rest, words

ARRIVAL = "\0"  # a field that no record has: how many rows came before
BORN, LAST = Measure("min", ARRIVAL, np.int64), Measure("max", ARRIVAL, np.int64)


class PaneRows:
    """What a changelog must hear of one partition's panes, whose measures have BORN and LAST."""

    def __init__(self, panes: Panes, codes: KeyCodes, length: int, *, with_more: bool) -> None:
        self._panes, self._codes, self._length, self._with_more = panes, codes, length, with_more
        self._kept = [i for i, measure in enumerate(panes.measures) if measure != LAST]
        self._born, self._last = panes.measures.index(BORN), panes.measures.index(LAST)
        self._known = 0  # rows that came before the changelog last asked
        self._stored = np.empty(0, np.int64)  # panes that it knows
        self._touched: tuple[int, int] | None = None  # the first and the last pane that rows came to since
        self._gone: list[Texts] = []

    def touch(self, places: Longs) -> None:
        """Rows have come there."""
        low, high = int(places.min()) // self._length, int(places.max()) // self._length
        if self._touched is not None:
            low, high = min(low, self._touched[0]), max(high, self._touched[1])
        self._touched = low, high

    def forget(self, panes: Longs) -> None:
        """These are about to be dropped."""
        if not len(self._stored) or not len(panes := np.intersect1d(panes, self._stored)):
            return
        pane, code, measures = self._cells(panes)
        known = measures[self._born] < self._known
        self._gone.append(self._keys(panes[pane[known]], code[known]))

    def changes(self, came: int) -> Changes:
        """After so many rows."""
        gone, self._gone = joined(self._gone), []
        live = self._panes.live()
        low, high = self._touched or (0, -1)
        panes = live[(live >= low) & (live <= high)]
        known, self._known, self._stored, self._touched = self._known, came, live, None
        if not len(panes):
            return Changes(NO_TEXTS, NO_TEXTS, gone)
        pane, code, measures = self._cells(panes)
        changed = np.flatnonzero(measures[self._last] >= known)
        if not len(changed):
            return Changes(NO_TEXTS, NO_TEXTS, gone)
        values = words(*(measures[i][changed] for i in self._kept))
        if self._with_more:
            values = behind(values, self._panes.pack(panes, changed))
        return Changes(self._keys(panes[pane[changed]], code[changed]), values, gone)

    def restore(self, came: int, keys: Texts, values: Texts, kind: type, compiled: bool) -> None:
        """Fills panes that are empty."""
        self._known = came
        if not len(keys):
            return
        (panes,) = read_words(keys, 1)
        found = dict(zip(self._kept, read_words(values, len(self._kept)), strict=True))
        order = np.lexsort((found[self._born], panes))
        codes = self._codes.codes(keys_of(rest(keys, 1), kind, compiled))
        found[self._last] = found[self._born]
        measures: list[Array] = [found[i][order].view(measure.dtype) for i, measure in enumerate(self._panes.measures)]
        packed = rest(values, len(self._kept))[order] if self._with_more else None
        _put(self._panes, panes[order], codes[order], measures, len(self._codes), self._length, packed)
        self._stored = self._panes.live()

    def _cells(self, panes: Longs) -> Found:
        """What these panes hold, one by one."""
        share = getattr(self._panes, "_share", None)  # from which compiled panes tell how long windows' results will be
        found = self._panes.combine(panes, 1)
        if share is not None:
            self._panes._share = share  # type: ignore[attr-defined]
        return found

    def _keys(self, panes: Longs, codes: Longs) -> Texts:
        return behind(words(panes), key_bytes(self._codes.column(codes)))


def _put(
    panes: Panes, numbers: Longs, codes: Longs, measures: list[Array], keys: int, length: int, packed: Texts | None
) -> None:
    """Takes cells over, of panes that ascend and in each in order of coming."""
    if not isinstance(panes, AdaptivePanes):
        _put_cells(panes, numbers * length, codes, measures, keys, packed)
        return
    panes._choose(numbers, keys)
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(numbers)], strict=True):
        pane, some = int(numbers[begin]), slice(begin, end)
        values = [measure[some] for measure in measures]
        if packed is not None and isinstance(panes.form, SparsePanes):
            panes.form.put(pane, codes[some], values, keys, packed[some])
        else:
            panes.form.put(pane, codes[some], values, keys)


def _put_cells(panes: Any, times: Longs, codes: Longs, measures: list[Array], keys: int, packed: Texts | None) -> None:
    """Makes cells by adding a row to each, and then sets what they hold."""
    from streamproc.compiled.cells import MEASURES, ROWS

    nothing = {m.field: Values(np.zeros(len(times), m.dtype), None) for m in panes.measures[1:]}
    panes.add(times, codes, keys, nothing)
    cells = panes._place(times, codes)
    panes._state[cells, ROWS] = measures[0]
    for word, measure in enumerate(measures[1:], MEASURES):
        panes._state[cells, word] = measure.view(np.int64)
    if packed is not None:
        panes._beside.room(len(panes._state))
        panes._beside.unpack(cells, packed)
