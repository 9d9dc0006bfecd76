"""The newest row of each key, and which of those a changelog must hear of.

A row of state has as its key the number of the input that it is of, as a word, and the event key's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.define.fields import Field
from streamproc.process.events import Events
from streamproc.process.joins.pool import Mask
from streamproc.process.joins.store import RowStore
from streamproc.process.keys import KeyCodes
from streamproc.process.slots import grown
from streamproc.process.state import NO_TEXTS, Changes
from streamproc.process.words import behind, key_bytes, words


class Newest:
    """The newest rows of one input; each lies in the slot that is its key's code.

    Attributes:
        there: bool[room], which keys have a row.
    """

    def __init__(self, number: int, fields: Iterable[Field], compiled: bool) -> None:
        self._number = number
        self.rows = RowStore(fields, compiled)
        self.there = np.empty(0, np.bool_)
        self._changed, self._stored = np.empty(0, np.bool_), np.empty(0, np.bool_)

    def grow(self, codes: int) -> None:
        """Makes room for so many keys."""
        self.rows.grow(codes)
        room = self.rows.room
        self.there, self._changed = grown(self.there, room, False), grown(self._changed, room, False)
        self._stored = grown(self._stored, room, False)

    def put(self, codes: Longs, events: Events, rows: Longs) -> None:
        """These keys, each once, have these as their newest rows."""
        if len(codes):
            self.rows.put(codes, events, rows)
            self.there[codes] = self._changed[codes] = True

    def drop_before(self, time: int) -> None:
        """Lets go of the rows that are older."""
        old = np.flatnonzero(self.there & (self.rows.times < time))
        self.there[old] = self._changed[old] = False
        self.rows.clear(old)

    @property
    def held(self) -> Mask:
        """bool[room]: which keys must not be forgotten: the changelog must still hear that some rows are no more."""
        return self.there | self._stored

    def keep(self, codes: Longs) -> None:
        """Keeps these keys alone, which become 0, 1, 2 …"""
        self.rows.keep(codes)
        self.there, self._changed = self.there[codes], self._changed[codes]
        self._stored = self._stored[codes]

    def changes(self, keys: KeyCodes) -> Changes:
        """The rows that changed, and forgets that they did."""
        changed, gone = np.flatnonzero(self._changed), np.flatnonzero(self._stored & ~self.there)
        self._changed[changed], self._stored[changed] = False, True
        self._stored[gone] = False
        return Changes(self._keys(keys, changed), self.rows.pack(changed), self._keys(keys, gone))

    def _keys(self, keys: KeyCodes, codes: Longs) -> Texts:
        if not len(codes):
            return NO_TEXTS
        return behind(words(np.full(len(codes), self._number)), key_bytes(keys.column(codes)))

    def restore(self, codes: Longs, values: Texts) -> None:
        self.rows.unpack(codes, values)
        self.there[codes] = self._stored[codes] = True
