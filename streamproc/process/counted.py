"""Windows that events fill, whatever their times: so many events of a key, and all of them.

Events count in the order in which they lie in Kafka. None is late.

A key of which nothing came for ``ttl`` is forgotten: stream time is by so much past where it was at the key's last
event. The key's next event finds that out; keys that have none are looked for whenever stream time passes a multiple of
a part of the ttl. So what is kept depends on stream time alone, however events were cut into batches.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import CountWindow, GlobalWindow
from streamproc.process.engine import Part, columns_of, picked
from streamproc.process.slots import grown
from streamproc.process.slotted import SlottedEngine
from streamproc.process.words import behind, read_words, rest, words

_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_WORDS = 4  # of a row: how many events, the least time, the greatest one; the pane's number, or the last event's period
_LOOKS = 8  # for keys that are over, while a ttl passes


class Rows(NamedTuple):
    """A batch: of each row its event time, the stream time, its key's code; and the columns that are read."""

    times: Longs
    seen: Longs
    codes: Longs
    columns: Mapping[str, Column]


class CountedEngine(SlottedEngine):
    """Slots with how many events there are in each, and between which times."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        window = definition.window
        assert isinstance(window, CountWindow | GlobalWindow)
        self._window = window
        self._ttl = window.ttl
        self._moment = max((window.ttl or 0) // _LOOKS, 1)  # ms between two looks for keys that are over
        self._looked: int | None = None  # the moment of the last look
        self._timed = self._ttl is not None  # whether rows that are restored have a last event's time
        # By slot.
        self._rows, self._low, self._high, self._word = (np.empty(0, np.int64) for _ in range(4))
        self._last = np.empty(0, np.int64)  # stream time at the last event; with a ttl

    def _rows_of(self, batch: Batch, times: Longs, seen: Longs) -> Rows:
        codes = self._codes.codes(batch.column(self._key))
        return Rows(times, seen, codes, columns_of(batch, self._sums.fields))

    def _begin(self, codes: Longs, idents: Longs, word: Longs) -> Longs:
        """New slots, of these keys."""
        slots = self._slots.take(len(codes))
        self._begin_in(slots, codes, idents, word)
        return slots

    def _begin_in(self, slots: Longs, codes: Longs, idents: Longs, word: Longs) -> None:
        self._make_room()
        self._slots.begin(slots, idents, codes)
        self._rows[slots], self._low[slots], self._high[slots], self._word[slots] = 0, _MOST, _LEAST, word

    def _put(self, slots: Longs, rows: Longs, given: Rows) -> None:
        """Adds a row of the batch to each of these; fewer rows than there are, or all in their order."""
        times, columns = given.times, given.columns
        if len(rows) < len(times):
            times, columns = times[rows], picked(columns, rows)
        np.add.at(self._rows, slots, 1)
        np.minimum.at(self._low, slots, times)
        np.maximum.at(self._high, slots, times)
        if self._ttl is not None:
            self._last[slots] = given.seen[rows]  # of several rows of a slot the last one counts
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
        if self._ttl is not None:
            self._last = grown(self._last, room, 0)
        self._sums.room(room)

    # Keys that are over.

    def _spans(self, seen: Longs, start: int, stop: int) -> Iterator[Longs]:
        """The rows from ``start`` to ``stop`` in pieces in each of which stream time goes on by less than the ttl: so a
        key may be over before its first row of a piece, and before no other. Looks for keys that are, before each.
        """
        if self._ttl is None:
            yield np.arange(start, stop)
            return
        cuts = start + 1 + np.flatnonzero(np.diff(seen[start:stop] // self._moment))
        for begin, end in pairwise([start, *cuts.tolist(), stop]):
            self._look(int(seen[begin]))
            yield np.arange(begin, end)

    def _look(self, time: int) -> None:
        """Forgets the keys that are over, as of the begin of this time's moment."""
        moment = time // self._moment
        if self._ttl is None or moment == self._looked:
            return
        self._looked = moment
        live = self._slots.live()
        codes = self._slots.code[live]
        stays = np.zeros(len(self._codes), np.bool_)  # by code
        stays[codes[moment * self._moment - self._last[live] < self._ttl]] = True
        over = live[~stays[codes]]
        self._unlink(over)
        self._drop(over)
        self._given += len(over)  # the room of their keys is looked for as if they had been given out

    @abstractmethod
    def _unlink(self, slots: Longs) -> None:
        """Keys that are over lose their slots, which are these."""

    # State.

    @property
    def _meant(self) -> str:
        return str(replace(self._window, ttl=None))  # it may come, change and go

    def header(self) -> dict[str, int | None]:
        return super().header() | ({} if self._ttl is None else {"ttl": self._ttl})

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        self._timed = header.get("ttl") is not None
        super().restore(header, keys, values)

    def _pack(self, slots: Longs) -> Texts:
        timed = () if self._ttl is None else (self._last[slots],)
        fixed = words(self._rows[slots], self._low[slots], self._high[slots], self._word[slots], *timed)
        return behind(fixed, self._sums.pack(slots))

    def _unpack(self, slots: Longs, values: Texts) -> None:
        count = _WORDS + self._timed
        self._rows[slots], self._low[slots], self._high[slots], self._word[slots], *last = read_words(values, count)
        if self._ttl is not None:  # rows of before there was a ttl count as written now
            self._last[slots] = last[0] if last else self.stream_time or 0
        if self._timed != (self._ttl is not None):
            self._slots.touch(slots)  # all rows take their new form
        self._sums.unpack(slots, rest(values, count))
        self._adopt(slots)

    def _adopt(self, slots: Longs) -> None:
        """Takes slots over that were restored, in the order in which they began."""
