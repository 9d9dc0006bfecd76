"""Panes: the pieces that windows are sums of, as arrays of (pane, key).

A pane is ``gcd(size, step)`` long. Only panes that hold events take memory: each has a slot, a row of every array;
slot 0 holds nothing and stands for every pane without events. Values are added one by one in event order, and panes
in their order, so that float sums do not depend on how the events were cut into batches.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamproc.columns import Longs

Array = NDArray[Any]
Op = Literal["n", "sum", "min", "max"]
_UFUNC: dict[Op, np.ufunc] = {"n": np.add, "sum": np.add, "min": np.minimum, "max": np.maximum}


class Measure(NamedTuple):
    """What is kept per pane and key: the count, sum, least or greatest of a field's values. ``n`` without a field
    counts rows.
    """

    op: Op
    field: str | None
    dtype: type[np.int64] | type[np.float64]

    @property
    def identity(self) -> Any:
        """The value that changes no other."""
        if self.op in ("n", "sum"):
            return self.dtype(0)
        if self.dtype is np.int64:
            limits = np.iinfo(np.int64)
            return limits.max if self.op == "min" else limits.min
        return np.float64(np.inf if self.op == "min" else -np.inf)


class Values(NamedTuple):
    """One field's values: ``data[n]``, and where they are not null (None when everywhere)."""

    data: Array
    valid: NDArray[np.bool_] | None

    def part(self, rows: slice) -> Values:
        """Those of some rows."""
        return Values(self.data[rows], None if self.valid is None else self.valid[rows])


def _quiet() -> np.errstate:
    """NaN, infinity and what comes of them are values like any other."""
    return np.errstate(invalid="ignore", over="ignore")


ROWS = Measure("n", None, np.int64)


class Panes:
    """State of one partition's panes."""

    def __init__(self, measures: list[Measure]) -> None:
        self.measures = [ROWS, *measures]
        self._arrays: list[Array] = [np.full((1, 0), m.identity, m.dtype) for m in self.measures]
        self._slots: dict[int, int] = {}  # by pane number
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def keys(self) -> int:
        """For how many keys there is room."""
        return int(self._arrays[0].shape[1])

    def live(self) -> Longs:
        """Numbers of the panes that hold events, ascending."""
        return np.array(sorted(self._slots), np.int64)

    def add(self, panes: Longs, codes: Longs, keys: int, values: dict[str, Values]) -> None:
        """Adds rows: the pane number and key code of each; ``keys`` codes exist."""
        if not len(panes):
            return
        self._grow_keys(keys)
        cells = self._slots_of(panes) * self.keys + codes
        for measure, array in zip(self.measures, self._arrays, strict=True):
            if measure.field is None:
                _add(measure.op, array.reshape(-1), cells, None)
                continue
            data, valid = values[measure.field]
            at = cells if valid is None else cells[valid]
            _add(measure.op, array.reshape(-1), at, data if valid is None else data[valid])

    def combine(self, first: Longs, count: int) -> list[Array]:
        """For windows that begin at pane ``first[i]`` and are ``count`` panes long: each measure as an array [window,
        key].
        """
        slots = self._slots_from(first, count)
        out: list[Array] = []
        for measure, array in zip(self.measures, self._arrays, strict=True):
            total: Array = array[slots[:, 0]]
            # One after the other: numpy's own sum along an axis takes another order when there is one key only.
            ufunc = _UFUNC[measure.op]
            with _quiet():
                for i in range(1, slots.shape[1]):
                    ufunc(total, array[slots[:, i]], out=total)
            out.append(total)
        return out

    def drop(self, panes: Longs) -> None:
        """Forgets panes."""
        slots = [self._slots.pop(pane) for pane in panes.tolist()]
        for measure, array in zip(self.measures, self._arrays, strict=True):
            array[slots] = measure.identity
        self._free += slots

    def live_codes(self) -> Longs:
        """Codes of the keys that any live pane holds, ascending."""
        return np.flatnonzero(self._arrays[0][list(self._slots.values())].any(axis=0)).astype(np.int64)

    def keep_codes(self, live: Longs) -> None:
        """Keeps only these codes' columns, in this order, and gives back free memory."""
        used = sorted(self._slots, key=self._slots.__getitem__)
        rows = np.array([0, *(self._slots[pane] for pane in used)], np.int64)
        self._arrays = [np.ascontiguousarray(array[np.ix_(rows, live)]) for array in self._arrays]
        self._slots = {pane: slot for slot, pane in enumerate(used, 1)}
        self._free = []

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
            return np.full(len(panes), self._slot(low), np.int64)
        if high - low < 4 * len(panes) + 64:
            present = np.flatnonzero(np.bincount(panes - low))
            table = np.zeros(high - low + 1, np.int64)
            table[present] = self._slots_for((present + low).tolist())
            return table[panes - low]
        numbers, inverse = np.unique(panes, return_inverse=True)
        return np.array(self._slots_for(numbers.tolist()), np.int64)[inverse]

    def _slots_for(self, panes: list[int]) -> list[int]:
        missing = sum(pane not in self._slots for pane in panes) - len(self._free)
        if missing > 0:
            self._grow_slots(missing)
        return [self._slot(pane) for pane in panes]

    def _slot(self, pane: int) -> int:
        slot = self._slots.get(pane)
        if slot is None:
            if not self._free:
                self._grow_slots(1)
            slot = self._slots[pane] = self._free.pop()
        return slot

    def _grow_slots(self, more: int) -> None:
        have = self._arrays[0].shape[0]
        more = max(more, have // 2)
        self._arrays = [
            np.concatenate([array, np.full((more, self.keys), m.identity, m.dtype)])
            for m, array in zip(self.measures, self._arrays, strict=True)
        ]
        self._free += range(have + more - 1, have - 1, -1)

    def _grow_keys(self, keys: int) -> None:
        if keys <= self.keys:
            return
        more = max(keys - self.keys, self.keys // 2)
        self._arrays = [
            np.concatenate([array, np.full((array.shape[0], more), m.identity, m.dtype)], axis=1)
            for m, array in zip(self.measures, self._arrays, strict=True)
        ]


def _add(op: Op, flat: Array, at: Longs, data: Any) -> None:
    """Adds ``data[i]`` to cell ``at[i]``, one after the other."""
    if op == "n" and len(at) * 8 > len(flat):
        flat += np.bincount(at, minlength=len(flat))
        return
    with _quiet():
        _UFUNC[op].at(flat, at, 1 if op == "n" else data)
