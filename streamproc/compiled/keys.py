"""Tables of keys: each key's code, 0, 1, 2 … in order of first appearance, and the hash by which Kafka spreads keys.

Open addressing, at most half full. A slot holds 32 bits of the key's hash and its code plus one; 0 is a free slot.
Keys come from outside, so they are hashed with a secret of the table's own: nobody can choose keys that collide.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.murmur2 import spread_longs, spread_texts
from streamproc.compiled.siphash import hash_long, hash_text, load, rest
from streamproc.compiled.texts import gather
from streamproc.compiled.types import Bytes, Longs

U = np.uint64
_TAG = U(0xFFFFFFFF00000000)
_CODE = U(0x00000000FFFFFFFF)
_LEAST = 64  # keys that a table has room for

_TABLE = types.uint64[::1]
_OUT = types.int64[::1]


@inlined
def _same(data: Any, start: Any, arena: Any, at: Any, size: Any) -> Any:
    for _ in range(size >> 3):
        if load(data, start) != load(arena, at):
            return False
        start += 8
        at += 8
    return rest(data, start, size & 7) == rest(arena, at, size & 7)


@kernel(
    types.int64(
        BYTES, LONGS, LONGS, types.int64, _TABLE, _TABLE, _TABLE, types.uint8[::1], _OUT, _OUT, types.int64, _OUT, _OUT
    )
)
def _code_texts(
    data: Bytes,
    starts: Longs,
    sizes: Longs,
    first: int,
    secret: Any,
    table: Any,
    hashes: Any,
    arena: Bytes,
    places: Longs,
    lengths: Longs,
    count: int,
    added: Longs,
    codes: Longs,
) -> int:
    """Codes rows ``first`` and on, and says where it stopped: at the end, or at a new key for which there is no room.
    ``added`` is how many keys are new.
    """
    mask = U(len(table) - 1)
    begun = count
    end = places[count - 1] + lengths[count - 1] if count else 0
    for i in range(first, len(starts)):
        start, size = starts[i], sizes[i]
        if start < 0 or size < 0 or size > len(data) - start:
            raise IndexError("a key lies outside its buffer")
        hashed = hash_text(data, start, size, secret)
        slot = hashed & mask
        while True:
            entry = table[slot]
            if entry == U(0):
                if count == len(hashes) or size > len(arena) - end:
                    added[0] = count - begun
                    return i
                for j in range(size):
                    arena[end + j] = data[start + j]
                places[count], lengths[count], hashes[count] = end, size, hashed
                end += size
                codes[i] = count
                count += 1
                table[slot] = (hashed & _TAG) | U(count)
                break
            if entry & _TAG == hashed & _TAG:
                code = np.int64(entry & _CODE) - 1
                if lengths[code] == size and _same(data, start, arena, places[code], size):
                    codes[i] = code
                    break
            slot = (slot + U(1)) & mask
    added[0] = count - begun
    return len(starts)


@kernel(types.int64(LONGS, types.int64, _TABLE, _TABLE, _TABLE, _OUT, types.int64, _OUT, _OUT))
def _code_longs(
    values: Longs,
    first: int,
    secret: Any,
    table: Any,
    hashes: Any,
    keys: Longs,
    count: int,
    added: Longs,
    codes: Longs,
) -> int:
    """The same for ints."""
    mask = U(len(table) - 1)
    begun = count
    for i in range(first, len(values)):
        value = values[i]
        hashed = hash_long(value, secret)
        slot = hashed & mask
        while True:
            entry = table[slot]
            if entry == U(0):
                if count == len(hashes):
                    added[0] = count - begun
                    return i
                keys[count], hashes[count] = value, hashed
                codes[i] = count
                count += 1
                table[slot] = (hashed & _TAG) | U(count)
                break
            if entry & _TAG == hashed & _TAG and keys[np.int64(entry & _CODE) - 1] == value:
                codes[i] = np.int64(entry & _CODE) - 1
                break
            slot = (slot + U(1)) & mask
    added[0] = count - begun
    return len(values)


@kernel(types.void(_TABLE, types.int64, _TABLE))
def _fill(hashes: Any, count: int, table: Any) -> None:
    mask = U(len(table) - 1)
    for code in range(count):
        slot = hashes[code] & mask
        while table[slot] != U(0):
            slot = (slot + U(1)) & mask
        table[slot] = (hashes[code] & _TAG) | U(code + 1)


class _Table:
    """What tables of texts and of ints have in common."""

    def __init__(self) -> None:
        self._secret = np.array([secrets.randbits(64), secrets.randbits(64)], np.uint64)
        self._table = np.zeros(2 * _LEAST, np.uint64)
        self._hashes = np.zeros(_LEAST, np.uint64)
        self._spread = np.empty(0, np.int64)  # of the first keys; the others' when asked for
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def spread(self, codes: Longs) -> Longs:
        """int64[n]: ``murmur2(text) & 0x7fffffff`` of the keys of these codes, by which Kafka chooses a partition."""
        if (done := len(self._spread)) < self._count:
            fresh = np.empty(self._count - done, np.int64)
            self._spread_of(done, fresh)
            self._spread = np.concatenate([self._spread, fresh])
        return self._spread[codes]

    def _run(self, rows: int, step: Callable[[int, Longs, Longs], int]) -> Longs:
        """All rows' codes, making room whenever it is lacking."""
        codes, added = np.empty(rows, np.int64), np.zeros(1, np.int64)
        at = step(0, added, codes)
        self._count += int(added[0])
        while at < rows:
            self._make_room(at)
            at = step(at, added, codes)
            self._count += int(added[0])
        return codes

    def _spread_of(self, first: int, out: Longs) -> None:
        raise NotImplementedError

    def _make_room(self, row: int) -> None:
        raise NotImplementedError

    def _resize(self, room: int) -> None:
        self._hashes = resized(self._hashes, self._count, room)
        self._table = np.zeros(2 * room, np.uint64)
        _fill(self._hashes, self._count, self._table)

    def _keep(self, live: Longs) -> int:
        """Keeps these codes; gives the room that there is now."""
        room = max(_LEAST, len(self._hashes) // 4)  # step by step: as many may come again
        while room < 2 * len(live):
            room *= 2
        if len(self._spread) == self._count:
            self._spread = self._spread[live]
        else:
            self._spread = np.empty(0, np.int64)
        self._hashes, self._count = self._hashes[live], len(live)
        self._resize(room)
        return room


class TextTable(_Table):
    """Codes of strings. The keys' bytes lie one behind the other in ``arena``: what is there is never changed."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = np.empty(16 * _LEAST, np.uint8)
        self._places = np.empty(_LEAST, np.int64)
        self._lengths = np.empty(_LEAST, np.int64)

    def codes(self, data: Bytes, starts: Longs, sizes: Longs) -> Longs:
        """int64[n]: the code of each row's key, ``data[starts[i] : starts[i] + sizes[i]]``.

        Raises:
            IndexError: a key lies outside ``data``.
        """
        self._wanted = sizes

        def step(first: int, added: Longs, codes: Longs) -> int:
            state = (self._secret, self._table, self._hashes, self.arena, self._places, self._lengths, self._count)
            return int(_code_texts(data, starts, sizes, first, *state, added, codes))

        return self._run(len(starts), step)

    def places(self, codes: Longs) -> tuple[Longs, Longs]:
        """Where in the arena the keys of these codes start, and their sizes."""
        return self._places[codes], self._lengths[codes]

    def keep(self, live: Longs) -> None:
        """Forgets all keys but those of these codes, which become 0, 1, 2 … in the order given."""
        self._lengths, places = self._lengths[live], self._places[live]
        self.arena, ends = gather(self.arena, places, self._lengths)
        room = self._keep(live)
        self._places = resized(ends[:-1], len(live), room)
        self._lengths = resized(self._lengths, len(live), room)

    def _spread_of(self, first: int, out: Longs) -> None:
        spread_texts(self.arena, self._places[first : self._count], self._lengths[first : self._count], out)

    def _make_room(self, row: int) -> None:
        if self._count == len(self._hashes):
            room = 2 * self._count
            self._resize(room)
            self._places = resized(self._places, self._count, room)
            self._lengths = resized(self._lengths, self._count, room)
        used = int(self._places[self._count - 1] + self._lengths[self._count - 1]) if self._count else 0
        if (need := used + int(self._wanted[row])) > len(self.arena):
            self.arena = resized(self.arena, used, max(2 * len(self.arena), need))


class LongTable(_Table):
    """Codes of ints."""

    def __init__(self) -> None:
        super().__init__()
        self._keys = np.empty(_LEAST, np.int64)

    def codes(self, values: Longs) -> Longs:
        """int64[n]: the code of each row's key."""

        def step(first: int, added: Longs, codes: Longs) -> int:
            state = (self._secret, self._table, self._hashes, self._keys, self._count)
            return int(_code_longs(values, first, *state, added, codes))

        return self._run(len(values), step)

    def keys(self, codes: Longs) -> Longs:
        """The keys of these codes."""
        return self._keys[codes]

    def keep(self, live: Longs) -> None:
        """Forgets all keys but those of these codes, which become 0, 1, 2 … in the order given."""
        keys = self._keys[live]
        self._keys = resized(keys, len(keys), self._keep(live))

    def _spread_of(self, first: int, out: Longs) -> None:
        spread_longs(self._keys[first : self._count], out)

    def _make_room(self, row: int) -> None:
        self._keys = resized(self._keys, self._count, 2 * self._count)
        self._resize(2 * self._count)


def resized(array: Any, used: int, room: int) -> Any:
    """The first ``used`` of an array's values, with room for so many."""
    out = np.empty((room, *array.shape[1:]), array.dtype)
    out[:used] = array[:used]
    return out
