"""Panes in compiled cells; what a cell is, stands in :mod:`streamproc.compiled.cells`."""

from __future__ import annotations

import secrets

import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.compiled import cells as kernels
from streamproc.compiled.keys import resized
from streamproc.process.accumulators import Accumulators, Beside
from streamproc.process.measures import Array, Measure, Values
from streamproc.process.panes import Found

_OPS = {"n": kernels.COUNT, "sum": kernels.SUM, "high": kernels.HIGH, "min": kernels.MIN, "max": kernels.MAX}
_FLOAT_OPS = {"sum": kernels.SUM_F, "min": kernels.MIN_F, "max": kernels.MAX_F}
_LEAST = 64  # cells, panes and keys that there is always room for
_AT_ONCE = 1 << 13  # cells that are merged at a time
_ALL = np.empty(0, np.bool_)
_AS_THEY_ARE = np.empty(0, np.int64)


class CellPanes:
    """See :class:`~streamproc.process.panes.Panes`."""

    def __init__(self, measures: list[Measure], length: int, beside: Accumulators | None = None) -> None:
        self.measures = measures
        self._beside = beside
        self._length = length
        ops = [(_OPS if m.dtype is np.int64 else _FLOAT_OPS)[m.op] for m in measures[1:]]
        self._ops = np.array(ops, np.int64)
        bits = [np.array([m.identity], m.dtype).view(np.int64)[0] for m in measures[1:]]
        self._identity = np.array([0] * kernels.MEASURES + bits, np.int64)
        self._secret = np.uint64(secrets.randbits(64))
        self._at = np.zeros(9, np.int64)
        self._last = np.empty(0, np.int64)  # by code: the cell found last
        self._seen = np.empty((0, 2), np.int64)  # by code: see kernels.visit
        self._passes = 1  # windows that were ever combined, and one
        self._peak = 0  # about as many cells as there were lately
        self._share = 0.0  # rows per cell that windows had lately
        self._sorted: Longs | None = None  # the slots of live panes; None when those have changed since
        self._slots = np.empty((_LEAST, kernels.SLOT_WORDS), np.int64)
        self._clear()

    def __len__(self) -> int:
        return int(self._at[kernels.PANES])

    @property
    def work(self) -> int:
        return int(self._at[kernels.LIVE])

    @property
    def nbytes(self) -> int:
        arrays = (self._state, self._table, self._slots, self._panes, self._last, self._seen)
        return sum(array.nbytes for array in arrays) + (0 if self._beside is None else self._beside.nbytes)

    def live(self) -> Longs:
        found: Longs = self._slots[self._order(), kernels.SLOT_PANE]
        return found

    def add(
        self, times: Longs, codes: Longs, keys: int, values: dict[str, Values], beside: Beside | None = None
    ) -> None:
        if not len(times):
            return
        if keys > len(self._last):
            have, room = len(self._last), max(_LEAST, keys, 2 * len(self._last))
            self._last, self._seen = resized(self._last, have, room), np.zeros((room, 2), np.int64)
            self._last[have:] = -1
        cells = self._place(times, codes)
        for word, measure in enumerate(self.measures[1:], kernels.MEASURES):
            data, valid = values[measure.field or ""]
            if valid is None:
                valid = _ALL
            op = int(self._ops[word - kernels.MEASURES])
            if measure.dtype is np.int64:
                kernels.add_longs(self._state, word, op, cells, data.view(np.int64), valid)
            else:
                kernels.add_floats(self._floats, word, op, cells, data, valid)
        if self._beside is not None and beside is not None:
            self._beside.room(len(self._state))
            self._beside.add(cells, beside.times, beside.columns, beside.rows)

    def combine(self, first: Longs, count: int, beside: Accumulators | None = None) -> Found:
        order = self._order()
        live = self._slots[order, kernels.SLOT_PANE]
        low, high = np.searchsorted(live, first), np.searchsorted(live, first + count)
        before = np.concatenate([[0], np.cumsum(self._slots[order, kernels.SLOT_CELLS])])
        visits = int((before[high] - before[low]).sum())
        at_once = min(_AT_ONCE, visits)
        cells, rows = np.empty(at_once, np.int64), np.empty(at_once, np.int64)
        walk = np.array([0, 0, -1, self._passes, 0], np.int64)
        windows, codes = np.empty(0, np.int64), np.empty(0, np.int64)
        out: list[Array] = [np.empty(0, m.dtype) for m in self.measures]
        while walk[kernels.WALK_WINDOW] < len(first):
            used = int(walk[kernels.WALK_ROWS])
            if used + at_once > len(windows):
                room = used + at_once + max(used, int(1.1 * self._share * visits))
                windows, codes = resized(windows, used, room), resized(codes, used, room)
                out = [resized(array, used, room) for array in out]
                for measure, array in zip(self.measures, out, strict=True):
                    array[used:] = measure.identity
            where = (self._slots, self._state, self._seen, windows, codes)
            n = kernels.visit(order, low, high, walk, *where, cells, rows)
            self._merge(cells[:n], rows[:n], out)
            if beside is not None and self._beside is not None:
                beside.room(int(walk[kernels.WALK_ROWS]))
                beside.merge(rows[:n], self._beside, cells[:n])
        self._passes = int(walk[kernels.WALK_SEEN])
        used = int(walk[kernels.WALK_ROWS])
        self._share = used / visits
        return Found(windows[:used], codes[:used], [array[:used] for array in out])

    def pack(self, panes: Longs, rows: Longs) -> Texts:
        assert self._beside is not None
        return self._beside.pack(self._cells_of(self._slots_of(panes))[rows])

    def _merge(self, cells: Longs, rows: Longs, out: list[Array]) -> None:
        kernels.merge_longs(self._state, kernels.ROWS, kernels.COUNT, cells, rows, out[0])
        for word, (op, array) in enumerate(zip(self._ops.tolist(), out[1:], strict=True), kernels.MEASURES):
            if array.dtype == np.int64:
                kernels.merge_longs(self._state, word, op, cells, rows, array)
            else:
                kernels.merge_floats(self._floats, word, op, cells, rows, array)

    def drop(self, panes: Longs) -> None:
        self._peak = max(self.work, self._peak - self._peak // 8)
        gone = self._slots_of(panes)
        if self._beside is not None:
            self._beside.clear(self._cells_of(gone))
        kernels.free(gone, self._state, self._slots, self._at)
        self._sorted = None
        if not len(self):
            self._clear()
            if self._beside is not None:
                self._beside.shrink(_LEAST)
            return
        if 8 * max(self._peak, _LEAST) < len(self._state):
            self._rebuild(_AS_THEY_ARE)
        if 8 * max(len(self), _LEAST) < len(self._slots):
            self._slots = resized(self._slots[self._order()], len(self), 2 * len(self) + _LEAST)
            self._sorted = None
            self._at[kernels.SLOTS], self._at[kernels.FREE_SLOT] = len(self), -1
            self._index_panes()

    def live_codes(self) -> Longs:
        held = np.zeros(len(self._last), np.int64)
        kernels.mark(self._order(), self._state, self._slots, held)
        return np.flatnonzero(held).astype(np.int64)

    def keep_codes(self, live: Longs) -> None:
        renamed = np.full(len(self._last), -1, np.int64)
        renamed[live] = np.arange(len(live))
        room = max(_LEAST, 2 * len(live))
        self._last, self._seen = np.empty(room, np.int64), np.zeros((room, 2), np.int64)
        self._rebuild(renamed)

    def _place(self, times: Longs, codes: Longs) -> Longs:
        """Each row's cell, with the row counted in it."""
        cells = np.empty(len(times), np.int64)
        at = 0
        while True:
            state = (self._state, self._table, self._slots, self._panes, self._last, self._at)
            at = kernels.place(times, codes, at, self._length, self._secret, self._identity, *state, cells)
            self._sorted = None
            if at == len(times):
                return cells
            self._make_room()

    def _slots_of(self, panes: Longs) -> Longs:
        """The slots of these panes, which hold events."""
        order = self._order()
        found: Longs = order[np.searchsorted(self._slots[order, kernels.SLOT_PANE], panes)]
        return found

    def _cells_of(self, slots: Longs) -> Longs:
        """The cells of panes, pane by pane."""
        cells = np.empty(int(self._slots[slots, kernels.SLOT_CELLS].sum()), np.int64)
        kernels.cells_of(slots, self._slots, self._state, cells)
        return cells

    def _order(self) -> Longs:
        """The slots of live panes, by pane."""
        if self._sorted is None:
            used = self._slots[: self._at[kernels.SLOTS]]
            slots = np.flatnonzero(used[:, kernels.SLOT_SERIAL]).astype(np.int64)
            self._sorted = slots[np.argsort(used[slots, kernels.SLOT_PANE])]
        return self._sorted

    def _clear(self) -> None:
        serials = self._at[kernels.SERIALS]
        self._at[:] = 0
        self._at[kernels.FREE] = self._at[kernels.FREE_SLOT] = -1
        self._at[kernels.SERIALS] = serials
        self._last[:] = -1
        self._sorted = None
        self._slots = np.empty((_LEAST, kernels.SLOT_WORDS), np.int64)
        self._hold(np.empty((_LEAST, len(self._identity)), np.int64))
        self._index_panes()

    def _make_room(self) -> None:
        """For twice as many panes, or cells, or both: whichever are lacking."""
        at = self._at
        no_slot = at[kernels.FREE_SLOT] < 0 and at[kernels.SLOTS] == len(self._slots)
        if no_slot:
            self._slots = resized(self._slots, len(self._slots), 2 * len(self._slots))
        if no_slot or 2 * at[kernels.PLACED] >= len(self._panes):
            self._index_panes()
        no_cell = at[kernels.FREE] < 0 and at[kernels.CELLS] == len(self._state)
        if no_cell:  # a cell keeps its place: it may be one that was found for a row, to be added to soon
            self._hold(resized(self._state, len(self._state), max(2 * len(self._state), self._peak)))
        elif 2 * at[kernels.INDEXED] >= len(self._table):
            self._hold(self._state)

    def _index_panes(self) -> None:
        self._panes = _table(2 * len(self))
        kernels.index_panes(self._order(), self._slots, self._secret, self._panes, self._at)

    def _rebuild(self, renamed: Longs) -> None:
        """Moves the live cells together, with room for as many again, or for as many as there were lately. Not between
        finding cells and adding to them.
        """
        state = np.empty((max(_LEAST, 2 * self.work, self._peak), len(self._identity)), np.int64)
        if self._beside is not None:
            self._beside.room(len(self._state))
            self._beside.move(self._cells_of(self._order()), np.arange(self.work))
            self._beside.shrink(max(_LEAST, self.work))
        kernels.move_cells(self._order(), self._slots, self._state, renamed, state, self._at)
        self._last[:] = -1
        self._hold(state)

    def _hold(self, state: Longs) -> None:
        """Takes this array of cells, and fills its table anew."""
        self._state, self._floats = state, state.view(np.float64)
        self._table = _table(len(state))
        kernels.index_cells(self._order(), self._slots, self._secret, state, self._table, self._at)


def _table(room: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """For twice as many before it is filled anew, then half full: what has gone stays in it till then."""
    return np.zeros(4 << (max(_LEAST, room) - 1).bit_length(), np.uint64)
