"""Rows of one form, by slot: numbers in arrays, with what is not null beside them, and all else as objects.

Every value comes back as it went in, to the bit. A row of state is 64-bit words (the event time, the stamp, the
numbers, and a bit per number that is not null), and behind them all else as msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts, values_in
from streamproc.define.fields import Field
from streamproc.errors import StateError
from streamproc.process.events import Events
from streamproc.process.joins.pool import (
    NUMBERS,
    TEXTS,
    Mask,
    Numbers,
    Source,
    joined_numbers,
    joined_texts,
    numbers_of,
    objects,
    pick,
)
from streamproc.process.slots import grown
from streamproc.process.state import binary, items
from streamproc.process.words import behind, read_words, rest, words

_BITS = 64  # numbers per word that says which are not null
_LEAST = 64  # slots
_encode = msgspec.msgpack.Encoder().encode


class RowStore:
    """Rows by slot.

    Args:
        fields: what is kept of a row, beside its time and its stamp.
        compiled: whether results' strings are Texts, and not Series.

    Attributes:
        times: int64[room], event times.
        stamps: int64[room], when each was taken in.
    """

    def __init__(self, fields: Iterable[Field], compiled: bool) -> None:
        self._fields = {field.name: field for field in sorted(fields, key=lambda field: field.name)}
        self._compiled = compiled
        self.times, self.stamps = np.empty(0, np.int64), np.empty(0, np.int64)
        self._numbers = [name for name, field in self._fields.items() if field.type in NUMBERS]
        self._others = [name for name, field in self._fields.items() if field.type not in NUMBERS]
        self._valid: dict[str, Mask] = {name: np.empty(0, np.bool_) for name in self._numbers}
        self._data: dict[str, NDArray[Any]] = {
            name: np.empty(0, NUMBERS.get(field.type, np.object_)) for name, field in self._fields.items()
        }
        types: Any = tuple(Union[self._fields[name].type, None] for name in self._others)  # noqa: UP007  any kind of type
        self._decoder = msgspec.msgpack.Decoder(tuple[types])  # records in records come back as such

    @property
    def meaning(self) -> list[tuple[str, str]]:
        """What a row of state holds: names and types."""
        return [(name, str(field.type)) for name, field in self._fields.items()]

    @property
    def room(self) -> int:
        return len(self.times)

    def grow(self, slots: int) -> None:
        """Makes room for so many."""
        if slots <= self.room:
            return
        room = max(slots, 2 * self.room, _LEAST)
        self.times, self.stamps = grown(self.times, room, 0), grown(self.stamps, room, 0)
        self._valid = {name: grown(valid, room, False) for name, valid in self._valid.items()}
        self._data = {
            name: grown(data, room, None if data.dtype == np.object_ else 0) for name, data in self._data.items()
        }

    def put(self, slots: Longs, events: Events, rows: Longs) -> None:
        """Keeps some rows of what came, each in its slot."""
        self.times[slots], self.stamps[slots] = events.times[rows], events.stamps[rows]
        for name in self._numbers:
            found = numbers_of(events.columns[name][rows], self._data[name].dtype)
            self._data[name][slots] = found.data
            self._valid[name][slots] = True if found.valid is None else found.valid
        for name in self._others:
            self._data[name][slots] = objects(values_in(events.columns[name][rows]))

    def clear(self, slots: Longs) -> None:
        """Lets go of objects."""
        for name in self._others:
            self._data[name][slots] = None

    def keep(self, slots: Longs) -> None:
        """Keeps these alone, which become 0, 1, 2 …"""
        self.times, self.stamps = self.times[slots], self.stamps[slots]
        self._valid = {name: valid[slots] for name, valid in self._valid.items()}
        self._data = {name: data[slots] for name, data in self._data.items()}

    def pool(self, slots: Longs, fresh: Events) -> Pool:
        """What is kept in these slots and, behind it, what came."""
        sources: dict[str, Source] = {}
        for name, field in self._fields.items():
            new = fresh.columns[name] if len(fresh) else None  # an input of which nothing came has no columns
            kept = self._data[name][slots]
            if field.type in NUMBERS:
                valid = self._valid[name][slots]
                known = Numbers(kept, None if valid.all() else valid)
                sources[name] = known if new is None else joined_numbers(known, numbers_of(new, kept.dtype))
            elif field.type in TEXTS:
                sources[name] = joined_texts(kept.tolist(), new, field.type, self._compiled)
            else:
                sources[name] = [*kept.tolist(), *([] if new is None else values_in(new))]
        times, stamps = (self.times[slots], fresh.times), (self.stamps[slots], fresh.stamps)
        return Pool(np.concatenate(times), np.concatenate(stamps), self._fields, sources)

    # State.

    def pack(self, slots: Longs) -> Texts:
        """Rows of state."""
        numbers = [self._data[name][slots] for name in self._numbers]
        longs = [data.astype(np.int64) if data.dtype == np.bool_ else data for data in numbers]
        fixed = words(self.times[slots], self.stamps[slots], *longs, *self._bits(slots))
        if not self._others:
            return fixed
        rows = zip(*(self._data[name][slots].tolist() for name in self._others), strict=True)
        return behind(fixed, binary([_encode(row) for row in rows]))

    def _bits(self, slots: Longs) -> list[Longs]:
        """Which numbers are not null."""
        found: list[Longs] = []
        for at, name in enumerate(self._numbers):
            if at % _BITS == 0:
                found.append(np.zeros(len(slots), np.int64))
            found[-1] |= self._valid[name][slots].astype(np.int64) << (at % _BITS)
        return found

    def unpack(self, slots: Longs, values: Texts) -> None:
        """Takes rows of state back.

        Raises:
            StateError: they are no such rows.
        """
        count = len(self._numbers)
        size = 2 + count + -(-count // _BITS)
        self.times[slots], self.stamps[slots], *found = read_words(values, size)
        for at, name in enumerate(self._numbers):
            dtype = self._data[name].dtype
            self._data[name][slots] = found[at] != 0 if dtype == np.bool_ else found[at].view(dtype)
            self._valid[name][slots] = (found[count + at // _BITS] >> (at % _BITS)) & 1 != 0
        if not self._others or not len(slots):
            return
        try:
            rows = [self._decoder.decode(row) for row in items(rest(values, size))]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateError(f"a row of a join's state cannot be read: {error}") from None
        for name, column in zip(self._others, zip(*rows, strict=True), strict=True):
            self._data[name][slots] = objects(column)


@dataclass(frozen=True, slots=True)
class Pool:
    """Rows of which results are made."""

    times: Longs
    stamps: Longs
    _fields: Mapping[str, Field]
    _sources: Mapping[str, Source]

    def take(self, index: Longs) -> dict[str, Column]:
        """The rows of these indices, with null in every field where one is -1."""
        there = index >= 0
        some = None if there.all() else there
        return {name: pick(source, self._fields[name].type, index, some) for name, source in self._sources.items()}
