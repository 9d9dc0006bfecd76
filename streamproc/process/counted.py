"""Windows that events fill, whatever their times: so many events of a key, and all of them.

Events count in the order in which they lie in Kafka. None is late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import CountWindow, GlobalWindow
from streamproc.process.engine import Part, columns_of, joined_columns, picked, same_cause, shifted
from streamproc.process.results import Closed, nothing
from streamproc.process.slots import grown
from streamproc.process.slotted import SlottedEngine
from streamproc.process.words import behind, read_words, rest, words

_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_WORDS = 4  # of a row: how many events, the least time, the greatest one; the pane's number, or the last event's period


class _Counting(SlottedEngine):
    """Slots with how many events there are in each, and between which times."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        # By slot.
        self._rows, self._low, self._high, self._word = (np.empty(0, np.int64) for _ in range(4))

    def _begin(self, codes: Longs, idents: Longs, word: Longs) -> Longs:
        """New slots, of these keys."""
        slots = self._slots.take(len(codes))
        self._begin_in(slots, codes, idents, word)
        return slots

    def _begin_in(self, slots: Longs, codes: Longs, idents: Longs, word: Longs) -> None:
        self._make_room()
        self._slots.begin(slots, idents, codes)
        self._rows[slots], self._low[slots], self._high[slots], self._word[slots] = 0, _MOST, _LEAST, word

    def _put(self, slots: Longs, times: Longs, columns: Mapping[str, Column], rows: Longs | int = 0) -> None:
        """Adds a row to each of these; ``rows`` are the batch's."""
        np.add.at(self._rows, slots, 1)
        np.minimum.at(self._low, slots, times)
        np.maximum.at(self._high, slots, times)
        self._sums.add(slots, times, columns, rows)
        self._slots.touch(slots)

    def _part(self, slots: Longs, causes: Longs) -> Part:
        """What there is in these slots."""
        values = self._sums.results(slots, self._rows[slots], None)
        low, high = self._low[slots], self._high[slots]
        return Part(self._slots.code[slots], low, high + 1, values, causes, broken=self._sums.unclosed)

    def _drop(self, slots: Longs) -> None:
        self._sums.clear(slots)
        self._slots.drop(slots)

    def _make_room(self) -> None:
        room = self._slots.room
        self._rows, self._word = grown(self._rows, room, 0), grown(self._word, room, 0)
        self._low, self._high = grown(self._low, room, _MOST), grown(self._high, room, _LEAST)
        self._sums.room(room)

    def _pack(self, slots: Longs) -> Texts:
        fixed = words(self._rows[slots], self._low[slots], self._high[slots], self._word[slots])
        return behind(fixed, self._sums.pack(slots))

    def _unpack(self, slots: Longs, values: Texts) -> None:
        self._rows[slots], self._low[slots], self._high[slots], self._word[slots] = read_words(values, _WORDS)
        self._sums.unpack(slots, rest(values, _WORDS))
        self._adopt(slots)

    def _adopt(self, slots: Longs) -> None:
        """Takes slots over that were restored, in the order in which they began."""


class CountEngine(_Counting):
    """Windows of ``size`` events of a key, a new one after every ``step``: sums of panes of gcd(size, step) events."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, CountWindow)
        self._size, self._step = window.size, window.step
        self._pane = gcd(window.size, window.step)
        self._panes: dict[int, list[int]] = {}  # by code: the slots of panes that windows still need, in order

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        codes = self._codes.codes(batch.column(self._key))
        columns = columns_of(batch, self._sums.fields)
        order = np.argsort(codes, kind="stable")
        slots = np.empty(len(codes), np.int64)
        windows: list[list[int]] = []
        causes: list[int] = []
        gone: list[int] = []
        offered = self._slots.take(len(codes))
        free = iter(offered.tolist())
        new: list[tuple[int, int, int]] = []
        begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(order)], strict=True):
            self._fill(int(codes[order[begin]]), order[begin:end], slots, windows, causes, gone, free, new)
        key, ident, number = np.array(new, np.int64).reshape(-1, 3).T.copy()
        self._begin_in(offered[: len(new)], key, ident, number)
        self._slots.put_back(offered[len(new) :])
        self._put(slots, times, columns)
        parts = self._windows(windows, np.array(causes, np.int64))
        self._drop(np.array(gone, np.int64))
        return self._give(parts)

    def _pass(self, time: int) -> Closed:
        return nothing()

    def _fill(
        self,
        code: int,
        rows: Longs,
        slots: Longs,
        windows: list[list[int]],
        causes: list[int],
        gone: list[int],
        free: Iterator[int],
        new: list[tuple[int, int, int]],
    ) -> None:
        """Finds the panes of one key's rows, ``new`` ones in ``free`` slots, and the windows that are complete."""
        mine = self._panes.setdefault(code, [])
        number = int(self._word[mine[-1]]) if mine else -1
        left = self._pane - int(self._rows[mine[-1]]) if mine else 0
        at = 0
        while at < len(rows):
            if not left:
                number += 1
                mine.append(next(free))
                new.append((code, self._came + int(rows[at]), number))
                left = self._pane
            some = min(left, len(rows) - at)
            slots[rows[at : at + some]] = mine[-1]
            left -= some
            at += some
            past = (number + 1) * self._pane - self._size  # where a window began that ends with this pane
            if not left and past >= 0 and past % self._step == 0:
                windows.append(mine[-(self._size // self._pane) :])
                causes.append(int(rows[at - 1]))
                over = max(0, len(mine) - (self._size - self._step) // self._pane)
                gone += mine[:over]
                del mine[:over]
        if not mine:
            del self._panes[code]

    def _windows(self, windows: list[list[int]], causes: Longs) -> list[Part]:
        """Their results, in the order of their causes."""
        if not len(windows):
            return []
        order = np.argsort(causes)
        panes = np.array(windows, np.int64)[order]
        if panes.shape[1] == 1:
            return [self._part(panes[:, 0], causes[order])]
        first = panes[:, 0]
        slots = self._begin(self._slots.code[first], self._slots.ident[first], np.zeros(len(first), np.int64))
        for pane in panes.T:
            self._sums.merge(slots, self._sums, pane)
            self._rows[slots] += self._rows[pane]
            self._low[slots] = np.minimum(self._low[slots], self._low[pane])
            self._high[slots] = np.maximum(self._high[slots], self._high[pane])
        part = self._part(slots, causes[order])
        self._drop(slots)
        return [part]

    def _keep_codes(self, live: Longs) -> None:
        renamed = {code: i for i, code in enumerate(live.tolist())}
        self._slots.keep_codes(live)
        self._panes = {renamed[code]: mine for code, mine in self._panes.items()}

    def _adopt(self, slots: Longs) -> None:
        for slot, code in zip(slots.tolist(), self._slots.code[slots].tolist(), strict=True):
            self._panes.setdefault(code, []).append(slot)


class GlobalEngine(_Counting):
    """All events of each key. Told after every ``each`` of them; or whenever stream time passes a multiple of
    ``every``, of those keys to which something came since, as they were before, in the order in which the keys came.
    """

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, GlobalWindow)
        self._each, self._every = window.each, window.every
        self._slot = np.empty(0, np.int64)  # by code; -1 where there is none

    def _take(self, batch: Batch, times: Longs, seen: Longs) -> Closed:
        columns = columns_of(batch, self._sums.fields)
        slots = self._slots_of(self._codes.codes(batch.column(self._key)))
        if self._each is not None:
            return self._give(self._take_each(self._each, slots, times, columns))
        assert self._every is not None
        parts: list[Part] = []
        for start, stop, ended in self._periods(seen, self._every):
            if ended is not None:
                parts.append(self._tell(ended, start))
            rows = np.arange(start, stop)
            self._put(slots[rows], times[rows], picked(columns, rows), rows)
            self._word[slots[rows]] = int(seen[start]) // self._every
        return self._give(parts)

    def _pass(self, time: int) -> Closed:
        ended = self._ended(time, self._every)
        return nothing() if ended is None else self._give([self._tell(ended, None)])

    def _tell(self, ended: int, row: int | None) -> Part:
        """Those that changed in the period that ended."""
        live = self._slots.live()
        live = live[(self._word[live] == ended) & (self._rows[live] > 0)]
        live = live[np.argsort(self._slots.ident[live])]
        return self._part(live, same_cause(row, len(live)))

    def _take_each(self, each: int, slots: Longs, times: Longs, columns: Mapping[str, Column]) -> list[Part]:
        """Adds rows in rounds: in each those of a key up to and with the next one after which it is told."""
        order = np.argsort(slots, kind="stable")
        begins = np.flatnonzero(np.diff(slots[order], prepend=-1))
        counts = np.diff(np.append(begins, len(order)))
        number = np.empty(len(slots), np.int64)  # of each row among its key's
        number[order] = np.arange(len(order)) - np.repeat(begins, counts) + self._rows[slots[order]]
        round_ = number // each - self._rows[slots] // each
        by_round = np.argsort(round_, kind="stable")
        ends = np.cumsum(np.bincount(round_))
        parts: list[Part] = []
        for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            rows = by_round[start:stop]
            self._put(slots[rows], times[rows], picked(columns, rows), rows)
            told = rows[number[rows] % each == each - 1]
            if len(told):
                parts.append(self._part(slots[told], told))
        return parts if len(parts) < 2 else [_by_cause(parts, list(self.definition.aggregates))]

    def _slots_of(self, codes: Longs) -> Longs:
        """The slots of these keys; new ones get new ones."""
        if len(self._codes) > len(self._slot):
            self._slot = grown(self._slot, 2 * len(self._codes), -1)
        slots = self._slot[codes]
        if len(fresh := np.flatnonzero(slots < 0)):
            known, first = np.unique(codes[fresh], return_index=True)
            self._slot[known] = self._begin(known, self._came + fresh[first], np.zeros(len(known), np.int64))
            slots = self._slot[codes]
        return slots

    def _live_codes(self) -> Longs:
        return np.arange(len(self._codes))  # none ever goes

    def _keep_codes(self, live: Longs) -> None:
        """They are what they are."""

    def _adopt(self, slots: Longs) -> None:
        self._slot = np.full(len(self._codes), -1)
        self._slot[self._slots.code[slots]] = slots


def _by_cause(parts: list[Part], names: list[str]) -> Part:
    causes = np.concatenate([part.causes for part in parts])
    order = np.argsort(causes)
    codes, start, end = (np.concatenate([part[i] for part in parts])[order] for i in range(3))
    values = {name: joined_columns([part.values[name] for part in parts])[order] for name in names}
    place = np.argsort(order)
    broken = [
        failure._replace(row=int(place[failure.row]))
        for failure in shifted((part.broken, len(part.codes)) for part in parts)
    ]
    return Part(codes, start, end, values, causes[order], broken=sorted(broken, key=lambda failure: failure.row))
