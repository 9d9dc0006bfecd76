"""Panes as arrays of (pane, key): each pane has a slot, a row of every array; slot 0 holds nothing and stands for every
pane without events.
"""

from __future__ import annotations

import numpy as np

from streamproc.columns import Longs
from streamproc.process.measures import Array, Measure, Values, high_halves, quiet

_CELLS = 4_000_000  # of one array: how much is combined at a time
_NEVER = np.iinfo(np.int64).max
_BORN = Measure("min", None, np.int64)  # by how many rows came before a cell's first


class DensePanes:
    """See :class:`~streamproc.process.panes.Panes`; rows come with the numbers of their panes."""

    def __init__(self, measures: list[Measure], length: int) -> None:
        self.measures = measures
        self._kept = [*measures, _BORN]
        self._arrays: list[Array] = [np.full((1, 0), m.identity, m.dtype) for m in self._kept]
        self._slots: dict[int, int] = {}  # by pane number
        self._free: list[int] = []
        self._came = 0  # rows, so far

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def keys(self) -> int:
        """For how many keys there is room."""
        return int(self._arrays[0].shape[1])

    @property
    def work(self) -> int:
        return len(self._slots) * self.keys

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    @property
    def cells(self) -> int:
        """How many pairs of pane and key hold events."""
        return int(np.count_nonzero(self._arrays[0]))

    def live(self) -> Longs:
        return np.array(sorted(self._slots), np.int64)

    def add(self, panes: Longs, codes: Longs, keys: int, values: dict[str, Values]) -> None:
        self._grow_keys(keys)
        cells = self._slots_of(panes) * self.keys + codes
        rows, born = self._arrays[0].reshape(-1), self._arrays[-1].reshape(-1)
        fresh = np.flatnonzero(rows[cells] == 0)
        np.minimum.at(born, cells[fresh], self._came + fresh)
        self._came += len(panes)
        for measure, array in zip(self.measures, self._arrays, strict=False):
            flat = array.reshape(-1)
            if measure.field is None:
                _count(flat, cells)
                continue
            data, valid = values[measure.field]
            add_values(measure, flat, cells if valid is None else cells[valid], data if valid is None else data[valid])

    def combine(self, first: Longs, count: int) -> tuple[Longs, Longs, list[Array]]:
        at_once = max(1, _CELLS // max(1, self.keys))
        parts = [self._combine(first[i : i + at_once], count, i) for i in range(0, len(first), at_once)]
        windows, codes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return windows, codes, [np.concatenate(arrays) for arrays in zip(*(part[2] for part in parts), strict=True)]

    def _combine(self, first: Longs, count: int, begin: int) -> tuple[Longs, Longs, list[Array]]:
        slots = self._slots_from(first, count)
        # One after the other: numpy's own sum along an axis takes another order when there is one key only.
        totals: list[Array] = [array[slots[:, 0]] for array in self._arrays[:-1]]
        with quiet():
            for measure, array, total in zip(self.measures, self._arrays, totals, strict=False):
                for i in range(1, slots.shape[1]):
                    measure.ufunc(total, array[slots[:, i]], out=total)
        window, code = np.nonzero(totals[0])
        order = np.lexsort((*self._first_seen(slots, window, code), window))
        window, code = window[order], code[order]
        return window + begin, code, [total[window, code] for total in totals]

    def _first_seen(self, slots: Longs, window: Longs, code: Longs) -> tuple[Longs, Longs]:
        """When each window's key first came in the first pane that has it, and which that is."""
        born, place = np.empty(len(code), np.int64), np.empty(len(code), np.int64)
        rest = np.arange(len(code))
        for i in range(slots.shape[1]):
            came = self._arrays[-1][slots[window[rest], i], code[rest]]
            there = came != _NEVER
            born[rest[there]], place[rest[there]] = came[there], i
            rest = rest[~there]
        return born, place

    def drop(self, panes: Longs) -> None:
        slots = [self._slots.pop(pane) for pane in panes.tolist()]
        for measure, array in zip(self._kept, self._arrays, strict=True):
            array[slots] = measure.identity
        self._free += slots

    def live_codes(self) -> Longs:
        return np.flatnonzero(self._arrays[0][list(self._slots.values())].any(axis=0)).astype(np.int64)

    def keep_codes(self, live: Longs) -> None:
        used = sorted(self._slots, key=self._slots.__getitem__)
        rows = np.array([0, *(self._slots[pane] for pane in used)], np.int64)
        self._arrays = [np.ascontiguousarray(array[np.ix_(rows, live)]) for array in self._arrays]
        self._slots = {pane: slot for slot, pane in enumerate(used, 1)}
        self._free = []

    def get(self, pane: int) -> tuple[Longs, list[Array]]:
        """One pane: the codes that it holds in order of coming, and their measures."""
        slot = self._slots[pane]
        codes = np.flatnonzero(self._arrays[0][slot])
        codes = codes[np.argsort(self._arrays[-1][slot, codes])]
        return codes, [array[slot, codes] for array in self._arrays[:-1]]

    def put(self, pane: int, codes: Longs, measures: list[Array], keys: int) -> None:
        """Takes one pane over."""
        self._grow_keys(keys)
        slot = self._slots_for([pane])[0]
        for array, data in zip(self._arrays, [*measures, self._came + np.arange(len(codes))], strict=True):
            array[slot, codes] = data
        self._came += len(codes)

    def _slots_from(self, first: Longs, count: int) -> Longs:
        """[window, i]: the slots of each window's live panes in pane order, then 0. A window may be a million panes
        long; those without events cost nothing.
        """
        live = self.live()
        slots = np.array([*(self._slots[pane] for pane in live.tolist()), 0], np.int64)
        low, high = np.searchsorted(live, first), np.searchsorted(live, first + count)
        index = low[:, None] + np.arange(max(1, int((high - low).max(initial=0))))
        return slots[np.where(index < high[:, None], index, -1)]

    def _slots_of(self, panes: Longs) -> Longs:
        low, high = int(panes.min()), int(panes.max())
        if low == high:
            return np.full(len(panes), self._slots_for([low])[0], np.int64)
        if high - low < 4 * len(panes) + 64:
            present = np.flatnonzero(np.bincount(panes - low))
            table = np.zeros(high - low + 1, np.int64)
            table[present] = self._slots_for((present + low).tolist())
            return table[panes - low]
        numbers, inverse = np.unique(panes, return_inverse=True)
        return np.array(self._slots_for(numbers.tolist()), np.int64)[inverse]

    def _slots_for(self, panes: list[int]) -> list[int]:
        missing = [pane for pane in panes if pane not in self._slots]
        if len(missing) > len(self._free):
            self._grow_slots(len(missing) - len(self._free))
        for pane in missing:
            self._slots[pane] = self._free.pop()
        return [self._slots[pane] for pane in panes]

    def _grow_slots(self, more: int) -> None:
        have = self._arrays[0].shape[0]
        more = max(more, have // 2)
        self._arrays = [
            np.concatenate([array, np.full((more, self.keys), m.identity, m.dtype)])
            for m, array in zip(self._kept, self._arrays, strict=True)
        ]
        self._free += range(have + more - 1, have - 1, -1)

    def _grow_keys(self, keys: int) -> None:
        if keys <= self.keys:
            return
        more = max(keys - self.keys, self.keys // 2)
        self._arrays = [
            np.concatenate([array, np.full((array.shape[0], more), m.identity, m.dtype)], axis=1)
            for m, array in zip(self._kept, self._arrays, strict=True)
        ]


def _count(flat: Array, at: Longs) -> None:
    if len(at) * 8 > len(flat):
        flat += np.bincount(at, minlength=len(flat))
    else:
        np.add.at(flat, at, 1)


def add_values(measure: Measure, flat: Array, at: Longs, data: Array) -> None:
    """Adds ``data[i]`` to cell ``at[i]``, one after the other."""
    if measure.op == "n":
        np.add.at(flat, at, 1)
    elif measure.op == "high":
        halves = high_halves(data)
        if halves.any():
            np.add.at(flat, at, halves)
    else:
        with quiet():
            measure.ufunc.at(flat, at, data)
