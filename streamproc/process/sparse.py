"""Panes of few of the keys each, as dictionaries: a cell for each pair of pane and key that holds events."""

from __future__ import annotations

import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.process.accumulators import Accumulators, Beside
from streamproc.process.dense import add_values
from streamproc.process.measures import Array, Measure, Values, quiet


class SparsePanes:
    """See :class:`~streamproc.process.panes.Panes`; rows come with the numbers of their panes."""

    def __init__(self, measures: list[Measure], length: int, beside: Accumulators | None = None) -> None:
        self.measures = measures
        self._beside = beside
        self._arrays: list[Array] = [np.empty(0, m.dtype) for m in measures]  # by cell
        self._panes: dict[int, dict[int, int]] = {}  # by pane number: by code, in order of coming: the cell
        self._free: list[int] = []
        self._work = 0

    def __len__(self) -> int:
        return len(self._panes)

    @property
    def work(self) -> int:
        return self._work

    @property
    def nbytes(self) -> int:
        held = sum(array.nbytes for array in self._arrays) + 100 * self._work  # about that in dictionaries
        return held + (0 if self._beside is None else self._beside.nbytes)

    def live(self) -> Longs:
        return np.array(sorted(self._panes), np.int64)

    def add(
        self, panes: Longs, codes: Longs, keys: int, values: dict[str, Values], beside: Beside | None = None
    ) -> None:
        cells = self._cells_of(panes, codes)
        for measure, array in zip(self.measures, self._arrays, strict=True):
            if measure.field is None:
                np.add.at(array, cells, 1)
                continue
            data, valid = values[measure.field]
            at = cells if valid is None else cells[valid]
            add_values(measure, array, at, data if valid is None else data[valid])
        if self._beside is not None and beside is not None:
            self._beside.room(len(self._arrays[0]))
            self._beside.add(cells, beside.times, beside.columns, beside.rows)

    def combine(self, first: Longs, count: int, beside: Accumulators | None = None) -> tuple[Longs, Longs, list[Array]]:
        live = self.live()
        low, high = np.searchsorted(live, first), np.searchsorted(live, first + count)
        parts: list[tuple[Longs, list[Array]]] = []
        before = 0
        for a, b in zip(low.tolist(), high.tolist(), strict=True):
            parts.append(self._combine(live[a:b].tolist(), before, beside))
            before += len(parts[-1][0])
        windows = np.repeat(np.arange(len(first)), [len(codes) for codes, _ in parts])
        measures = [np.concatenate(arrays) for arrays in zip(*(arrays for _, arrays in parts), strict=True)]
        return windows, np.concatenate([codes for codes, _ in parts]), measures

    def _combine(self, panes: list[int], before: int, beside: Accumulators | None) -> tuple[Longs, list[Array]]:
        """One window's codes and measures; ``before`` rows come before its first one."""
        rows: dict[int, int] = {}  # by code
        for pane in panes:
            for code in self._panes[pane]:
                rows.setdefault(code, len(rows))
        totals = [np.full(len(rows), m.identity, m.dtype) for m in self.measures]
        for pane in panes:
            held = self._panes[pane]
            at = np.fromiter((rows[code] for code in held), np.int64, len(held))
            cells = np.fromiter(held.values(), np.int64, len(held))
            with quiet():
                for measure, array, total in zip(self.measures, self._arrays, totals, strict=True):
                    total[at] = measure.ufunc(total[at], array[cells])
            if beside is not None and self._beside is not None:
                beside.room(before + len(rows))
                beside.merge(before + at, self._beside, cells)
        return np.fromiter(rows, np.int64, len(rows)), totals

    def pack(self, panes: Longs, rows: Longs) -> Texts:
        assert self._beside is not None
        cells = [cell for pane in panes.tolist() for cell in self._panes[pane].values()]
        return self._beside.pack(np.array(cells, np.int64)[rows])

    def drop(self, panes: Longs) -> None:
        for pane in panes.tolist():
            cells = list(self._panes.pop(pane).values())
            self._work -= len(cells)
            self._free += cells
            if self._beside is not None:
                self._beside.clear(np.array(cells, np.int64))
        if 8 * self._work + 512 < len(self._arrays[0]):
            self._pack(None)

    def live_codes(self) -> Longs:
        return np.array(sorted(set().union(*self._panes.values())), np.int64)

    def keep_codes(self, live: Longs) -> None:
        self._pack({code: i for i, code in enumerate(live.tolist())})

    def get(self, pane: int) -> tuple[Longs, list[Array]]:
        """One pane: the codes that it holds in order of coming, and their measures."""
        held = self._panes[pane]
        cells = np.fromiter(held.values(), np.int64, len(held))
        return np.fromiter(held, np.int64, len(held)), [array[cells] for array in self._arrays]

    def put(self, pane: int, codes: Longs, measures: list[Array], keys: int, packed: Texts | None = None) -> None:
        """Takes one pane over; ``packed`` is what is beside the measures."""
        cells = self._cells_of(np.full(len(codes), pane), codes)
        for array, data in zip(self._arrays, measures, strict=True):
            array[cells] = data
        if self._beside is not None and packed is not None:
            self._beside.room(len(self._arrays[0]))
            self._beside.unpack(cells, packed)

    def _cells_of(self, panes: Longs, codes: Longs) -> Longs:
        cells: list[int] = []
        fresh: list[int] = []
        for pane, code in zip(panes.tolist(), codes.tolist(), strict=True):
            held = self._panes.get(pane)
            if held is None:
                held = self._panes[pane] = {}
            cell = held.get(code)
            if cell is None:
                cell = held[code] = self._free.pop() if self._free else self._work
                self._work += 1
                fresh.append(cell)
            cells.append(cell)
        if self._work > (have := len(self._arrays[0])):
            self._resize(max(self._work, have + have // 2))
        for measure, array in zip(self.measures, self._arrays, strict=True):
            array[fresh] = measure.identity
        return np.array(cells, np.int64)

    def _resize(self, room: int) -> None:
        self._arrays = [np.concatenate([array, np.empty(room - len(array), array.dtype)]) for array in self._arrays]

    def _pack(self, renamed: dict[int, int] | None) -> None:
        """Gives back the room of free cells, and the codes new numbers."""
        cells = np.array([cell for held in self._panes.values() for cell in held.values()], np.int64)
        self._arrays = [array[cells] for array in self._arrays]
        if self._beside is not None:
            self._beside.move(cells, np.arange(len(cells)))
            self._beside.shrink(len(cells))
        at = iter(range(len(cells)))
        self._panes = {
            pane: {code if renamed is None else renamed[code]: next(at) for code in held}
            for pane, held in self._panes.items()
        }
        self._free = []
