"""All events of a key, told again and again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import GlobalWindow
from streamproc.process.counted import CountedEngine, Rows
from streamproc.process.engine import Part, joined_columns, same_cause, shifted
from streamproc.process.results import NOTHING, Closed, nothing
from streamproc.process.slots import grown


class GlobalEngine(CountedEngine):
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
        given = self._rows_of(batch, times, seen)
        parts: list[Part] = []
        periods: Iterable[tuple[int, int, int | None]] = [(0, len(seen), None)]
        if self._every is not None:
            periods = self._periods(seen, self._every)
        for start, stop, ended in periods:
            if ended is not None:
                parts.append(self._tell(ended, start))
            for span in self._spans(seen, start, stop):
                slots = self._slots_of(span, given)
                if self._each is not None:
                    parts += self._take_each(self._each, slots, span, given)
                    continue
                assert self._every is not None
                self._put(slots, span, given)
                self._word[slots] = int(seen[start]) // self._every
        return self._give(parts)

    def _pass(self, time: int) -> Closed:
        ended = self._ended(time, self._every)
        parts = [] if ended is None else [self._tell(ended, None)]
        self._look(time)
        return self._give(parts) if parts else nothing()

    def _tell(self, ended: int, row: int | None) -> Part:
        """Those that changed in the period that ended."""
        live = self._slots.live()
        live = live[(self._word[live] == ended) & (self._rows[live] > 0)]
        live = live[np.argsort(self._slots.ident[live])]
        return self._part(live, same_cause(row, len(live)))

    def _take_each(self, each: int, slots: Longs, span: Longs, given: Rows) -> list[Part]:
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
            self._put(slots[rows], span[rows], given)
            told = rows[number[rows] % each == each - 1]
            if len(told):
                parts.append(self._part(slots[told], span[told]))
        return parts if len(parts) < 2 else [_by_cause(parts, list(self.definition.aggregates))]

    def _slots_of(self, span: Longs, given: Rows) -> Longs:
        """The slots of these rows' keys; those that are new, or were over, get new ones."""
        codes = given.codes[span]
        if len(self._codes) > len(self._slot):
            self._slot = grown(self._slot, 2 * len(self._codes), -1)
        slots = self._slot[codes]
        if self._ttl is not None and len(over := self._over(slots, given.seen[span], self._ttl)):
            self._unlink(over)
            self._drop(over)
            slots = self._slot[codes]
        if len(fresh := np.flatnonzero(slots < 0)):
            known, first = np.unique(codes[fresh], return_index=True)
            idents = self._came + span[fresh[first]]
            self._slot[known] = self._begin(known, idents, np.zeros(len(known), np.int64))
            slots = self._slot[codes]
        return slots

    def _over(self, slots: Longs, seen: Longs, ttl: int) -> Longs:
        """Those of the slots (-1: none) of which nothing came for so long before the first row that is theirs."""
        there = np.flatnonzero(slots >= 0)
        long = seen[there] - self._last[slots[there]] >= ttl
        if not long.any():
            return NOTHING
        found, first = np.unique(slots[there], return_index=True)
        return found[long[first]]

    def _unlink(self, slots: Longs) -> None:
        self._slot[self._slots.code[slots]] = -1

    def _live_codes(self) -> Longs:
        return np.arange(len(self._codes)) if self._ttl is None else super()._live_codes()

    def _keep_codes(self, live: Longs) -> None:
        self._slots.keep_codes(live)
        self._slot = self._slot[live]

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
