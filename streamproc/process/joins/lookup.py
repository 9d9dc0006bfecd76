"""A table that every worker holds whole, and the join with it."""

from __future__ import annotations

import numpy as np

from streamproc import compiled as kernels
from streamproc.columns import Column, Columns, Longs
from streamproc.define.operators import Lookup
from streamproc.define.pipeline import Input, Pipeline
from streamproc.process.events import Events
from streamproc.process.joins.chains import Chains
from streamproc.process.joins.keyed import codes_of, distinct
from streamproc.process.joins.results import Met, ResultForm
from streamproc.process.joins.store import RowStore
from streamproc.process.keys import key_codes
from streamproc.process.slots import grown

_MANY_KEYS = 4096  # from here on it pays to look for keys that only events have


class LookupTable:
    """All versions of each key's row that events may still ask for. In memory, made anew from its topic.

    Args:
        source: the table: its fields and its key.
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """

    def __init__(self, source: Input, compiled: bool | None = None) -> None:
        self.compiled = kernels.available() if compiled is None else compiled
        self._key = source.key
        self._codes = key_codes(source.fields[source.key].type, self.compiled)
        self._rows = RowStore([field for name, field in source.fields.items() if name != source.key], self.compiled)
        self._chains = Chains()
        self._newest = np.empty(0, np.int64)  # by key code: the newest version's slot; -1: none
        self._free = np.empty(0, np.int64)
        self._scratch = np.empty(0, np.int64)
        self._grow(1)  # arrays can so be asked about -1
        self._known = 0  # keys, when those that only events have were last looked for
        self._put = 0  # rows, since the last look for versions that nobody needs

    def __len__(self) -> int:
        """How many versions are held."""
        return self._rows.room - len(self._free)

    @property
    def keys(self) -> int:
        """How many keys have a row."""
        return int((self._newest >= 0).sum())

    def put(self, events: Events) -> None:
        """Takes rows in, in log order. Those without a key are left out."""
        if not len(events):
            return
        codes = codes_of(events.columns[self._key], self._codes)
        rows = np.flatnonzero(codes >= 0)
        rows = rows[np.lexsort((events.times[rows], codes[rows]))]  # of one time the order stays
        self._newest = grown(self._newest, _room(len(self._codes), len(self._newest)), -1)
        slots = self._take(len(rows))
        self._rows.put(slots, events, rows)
        self._chains.add(self._newest, codes[rows], slots, self._rows.times)
        self._put += len(rows)

    def _take(self, count: int) -> Longs:
        """So many free slots."""
        if count > len(self._free):
            self._grow(count - len(self._free))
        split = len(self._free) - count
        slots, self._free = self._free[split:][::-1].copy(), self._free[:split]
        return slots

    def _grow(self, more: int) -> None:
        room = self._rows.room
        self._rows.grow(room + more)
        self._chains.grow(self._rows.room)
        self._free = np.append(np.arange(self._rows.room - 1, room - 1, -1), self._free)

    def find(self, keys: Column, times: Longs) -> Met:
        """The newest version of each key's row at or before a time."""
        codes = codes_of(keys, self._codes)
        self._newest = grown(self._newest, _room(len(self._codes), len(self._newest)), -1)
        found = np.where(codes >= 0, self._newest[codes], -1)
        found = self._chains.find(found, times, self._rows.times)
        at = np.flatnonzero(found >= 0)
        self._scratch = grown(self._scratch, self._rows.room, 0)
        slots, places = distinct(found[at], self._scratch)
        index = np.full(len(found), -1)
        index[at] = places
        met = Met(self._rows.pool(slots, _NOTHING), index)
        self._forget_keys()
        return met

    def prune(self, time: int) -> None:
        """From now on no event asks for what was before ``time``: of each key's versions up to then the newest one is
        enough. Looks once half as many rows have come as there are, so that it costs little per row.
        """
        if 2 * self._put < len(self):
            return
        self._put = 0
        held = np.ones(self._rows.room, np.bool_)
        held[self._free] = False
        dropped = self._chains.cut(np.flatnonzero(held), time, self._rows.times)
        self._rows.clear(dropped)
        self._free = np.append(self._free, dropped)

    def _forget_keys(self) -> None:
        """Gives back the room of keys that have no row, once they are most of many."""
        count = len(self._codes)
        if count < max(_MANY_KEYS, 2 * self._known):
            return
        live = np.flatnonzero(self._newest[:count] >= 0)
        self._known = count
        if 2 * len(live) <= count:
            self._codes.keep(live)
            self._newest, self._known = self._newest[live], len(live)


_NOTHING = Events(Columns({}, 0), np.empty(0, np.int64), np.empty(0, np.int64))


class LookupOperator:
    """Rows with the row that their field names, as of event time, in a table that all tasks of a worker share."""

    def __init__(self, definition: Pipeline, table: LookupTable) -> None:
        assert isinstance(definition.operator, Lookup)
        self.definition, self.table = definition, table
        self._on, self._how = definition.operator.on, definition.operator.how
        self._form = ResultForm(definition)

    def take(self, events: Events) -> Events:
        """The results of rows, in their order."""
        if not len(events):
            return self._form.nothing()
        return self._form.attached(events, self.table.find(events.columns[self._on], events.times), self._how)


def _room(count: int, room: int) -> int:
    """For so many and one more: there is always one that -1 can mean."""
    return room if count < room else 2 * count + 1
