"""Numbers of what a task keeps, 0, 1, 2 …, to which its arrays are aligned; and which of it a changelog must hear of.

Every slot that is in use has a row of state. Its key is the slot's identity, a number that is never used again, and the
event key's bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.columns import Longs, Texts
from streamproc.process.keys import KeyCodes
from streamproc.process.state import joined
from streamproc.process.words import behind, key_bytes, words

_LEAST = 64
_NONE = -1  # the identity of a slot that is free


class Slots:
    """Slots in use, each of an event key.

    Attributes:
        ident: int64[room], each slot's identity; -1 where it is free.
        code: int64[room], its key's code.
    """

    def __init__(self, codes: KeyCodes) -> None:
        self._codes = codes
        self.ident, self.code = np.empty(0, np.int64), np.empty(0, np.int64)
        self._changed, self._stored = np.empty(0, np.bool_), np.empty(0, np.bool_)
        self._free = np.empty(0, np.int64)  # a stack; its first self._left
        self._left = 0
        self._gone: list[Texts] = []

    def __len__(self) -> int:
        return self.room - self._left

    @property
    def room(self) -> int:
        return len(self.ident)

    def take(self, count: int) -> Longs:
        """So many free slots. They are in use once they are begun, and may be put back before."""
        if count > self._left:
            self._grow(max(_LEAST, self.room, count - self._left))
        self._left -= count
        return self._free[self._left : self._left + count][::-1].copy()

    def put_back(self, slots: Longs) -> None:
        """Slots that were taken and not begun."""
        self._free[self._left : self._left + len(slots)] = slots[::-1]
        self._left += len(slots)

    def begin(self, slots: Longs, idents: Longs, codes: Longs) -> None:
        self.ident[slots], self.code[slots] = idents, codes

    def touch(self, slots: Longs) -> None:
        """What is in these slots has changed."""
        self._changed[slots] = True

    def drop(self, slots: Longs) -> None:
        """What is in these slots is no more."""
        if not len(slots):
            return
        if len(known := slots[self._stored[slots]]):
            self._gone.append(self.keys(known))
        self.ident[slots] = _NONE
        self._changed[slots] = self._stored[slots] = False
        self.put_back(slots)

    def live(self) -> Longs:
        """The slots in use, by their numbers."""
        return np.flatnonzero(self.ident != _NONE).astype(np.int64)

    def live_codes(self) -> Longs:
        """Codes of the keys that have a slot, ascending."""
        return np.unique(self.code[self.live()])

    def keep_codes(self, live: Longs) -> None:
        """Gives these codes, which are all that have slots, the numbers 0, 1, 2 …"""
        held = self.live()
        self.code[held] = np.searchsorted(live, self.code[held])

    def keys(self, slots: Longs) -> Texts:
        """The keys of their rows."""
        return behind(words(self.ident[slots]), key_bytes(self._codes.column(self.code[slots])))

    def changes(self) -> tuple[Longs, Texts]:
        """The slots that changed, and the keys of rows that are no more; from now on all of that is known."""
        changed = np.flatnonzero(self._changed).astype(np.int64)
        self._changed[changed], self._stored[changed] = False, True
        gone, self._gone = joined(self._gone), []
        return changed, gone

    def restore(self, idents: Longs, codes: Longs) -> Longs:
        """Slots of rows that are known already; into a state that is empty."""
        slots = self.take(len(idents))
        self.begin(slots, idents, codes)
        self._stored[slots] = True
        return slots

    def _grow(self, more: int) -> None:
        have, room = self.room, self.room + more
        self.ident, self.code = grown(self.ident, room, _NONE), grown(self.code, room, 0)
        self._changed, self._stored = grown(self._changed, room, False), grown(self._stored, room, False)
        self._free = grown(self._free, room, 0)
        self._free[more : more + self._left] = self._free[: self._left].copy()  # those in use before go first
        self._free[:more] = np.arange(room - 1, have - 1, -1)
        self._left += more


def grown(array: NDArray[Any], room: int, fill: Any) -> NDArray[Any]:
    """The array, with so much room."""
    if room <= len(array):
        return array
    out = np.full(room, fill, array.dtype)
    out[: len(array)] = array
    return out
