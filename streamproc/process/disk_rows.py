"""Rows of tables that are larger than memory: they lie in a store on disk, which has what a changelog has.

The store is only written with what the changelog has committed, and then at once: so it is the changelog up to an
offset, never ahead of it. What events write lies in memory until then, and so do a few rows that were read, and all
that the event in work has read and might change in place. To undo an event is done there alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from streamproc.define.table import Table
from streamproc.errors import StateError
from streamproc.process.rows import Cell, ChangingRows, FixedRows, Rows

_NEAR = 4096  # rows that may stay in memory once an event is done, beside those that the store does not have yet
_MIDDLE = 1 << 63  # added to times, so that bytes lie in their order
_encode = msgspec.msgpack.Encoder().encode


class Store(Protocol):
    """Byte strings by byte strings, in order. Every call raises StateError where it cannot be."""

    failure: StateError | None  # the first one: nothing that was computed since is of use

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """What has keys that begin so, ascending, from ``prefix + begin`` on; as it was when this was called."""

    def write(self, puts: Mapping[bytes, bytes], gone: Iterable[bytes]) -> None:
        """All at once or, after a crash, not at all. A crash may also lose the last writes, but none before another."""


class MemoryStore:
    """A store in memory, for tests and trials."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.failure: StateError | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        first = prefix + begin
        return iter(sorted(row for row in self.rows.items() if row[0].startswith(prefix) and row[0] >= first))

    def write(self, puts: Mapping[bytes, bytes], gone: Iterable[bytes]) -> None:
        for key in gone:
            self.rows.pop(key, None)
        self.rows.update(puts)


class Layout:
    """Where a table's rows lie in a store: with their keys and values of the changelog; of a table with a ttl beside
    that by the time of their writing, oldest first, as they stood then; and their number.
    """

    def __init__(self, table: Table[Any]) -> None:
        self.timed = table.ttl is not None
        name = _encode(table.name)
        self.counted = b"\x00" + name
        self.times = b"\x01" + name
        self.meant = b"\x91" + name  # the row that says what they are
        self.rows = b"\x92" + name

    def puts(self, key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What is to be put for a row: its key's msgpack, and its value in the changelog."""
        yield self.rows + key, value
        if self.timed and len(fields := msgspec.msgpack.decode(value)) > 2:  # fewer: it had no ttl then
            yield self.times + self.at(fields[2]) + key, b""

    def count(self, store: Store) -> int:
        """How many rows it has."""
        found = store.get(self.counted)
        return 0 if found is None else int(msgspec.msgpack.decode(found))

    def at(self, time: int) -> bytes:
        return (time + _MIDDLE).to_bytes(8, "big")

    def time(self, stored: bytes) -> int:
        """When a row was written, by where it stands by time."""
        begin = len(self.times)
        return int.from_bytes(stored[begin : begin + 8], "big") - _MIDDLE

    def key(self, stored: bytes) -> bytes:
        """Its key's msgpack."""
        return stored[len(self.times) + 8 :]


def put_rows(store: Store, tables: Iterable[Table[Any]], rows: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Takes rows of a changelog into a store: their last values, None where they are gone. Gives the keys of rows that
    are of none of these tables.
    """
    puts: dict[bytes, bytes] = {}
    gone: list[bytes] = []
    left = dict(rows)
    for table in tables:
        layout = Layout(table)
        count = layout.count(store)
        if (meaning := left.pop(layout.meant, None)) is not None:
            puts[layout.meant] = meaning
        for key in [key for key in left if key.startswith(layout.rows)]:
            value = left.pop(key)
            count += (value is not None) - (store.get(key) is not None)
            if value is None:
                gone.append(key)
            else:
                puts.update(layout.puts(key[len(layout.rows) :], value))
        puts[layout.counted] = _encode(count)
    store.write(puts, gone)
    return list(left)


class DiskCells:
    """The rows of a table by key, as the dictionary that :class:`Rows` has in its place."""

    def __init__(self, rows: OnDisk, store: Store, layout: Layout, count: int) -> None:
        self._rows, self._store, self._layout = rows, store, layout
        self.count = count
        self.near: dict[Any, Cell] = {}
        self.gone: set[Any] = set()  # rows that are no more, and that the store may have
        self._most = _NEAR
        self._missed: Any = None  # the key that was last looked for in vain

    def get(self, key: Any, default: Cell | None = None) -> Cell | None:
        cell = self.near.get(key)
        if cell is None and key not in self.gone:
            value = self._store.get(self._layout.rows + _encode(key))
            if value is not None:
                if len(self.near) >= self._most:
                    self.trim()
                cell = self.near[key] = self._read(value)
        if cell is None:
            self._missed = key
        return default if cell is None else cell

    def __getitem__(self, key: Any) -> Cell:
        cell = self.get(key)
        if cell is None:
            raise KeyError(key)
        return cell

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return self.count

    def __setitem__(self, key: Any, cell: Cell) -> None:
        if key is self._missed or self.get(key) is None:
            self.count += 1
        self._missed = None
        self.near[key] = cell
        self.gone.discard(key)

    def __delitem__(self, key: Any) -> None:
        del self.near[key]
        self.gone.add(key)
        self.count -= 1

    def pop(self, key: Any, *default: Any) -> Any:
        cell = self.get(key)
        if cell is None:
            if default:
                return default[0]
            raise KeyError(key)
        del self[key]
        return cell

    def __iter__(self) -> Iterator[Any]:
        """Keys, in the order of their msgpack's bytes."""
        at, kind = len(self._layout.rows), self._rows.table.key.type
        near = sorted(((_encode(key), key) for key in self.near), key=lambda row: row[0])
        stored = ((found[at:], None) for found, _ in self._store.scan(self._layout.rows))
        gone = frozenset(self.gone)  # the store of now has them; later, nobody may know that any more
        last = None
        for packed, key in heapq.merge(near, stored, key=lambda row: row[0]):
            if packed == last:
                continue  # the store's, of one that lies in memory, too
            last = packed
            if key is None:
                key = msgspec.msgpack.decode(packed, type=kind)
            if key not in gone and key not in self.gone:
                yield key

    def _read(self, value: bytes) -> Cell:
        try:
            (cell,) = self._rows._read(b"\x91" + value)
        except (msgspec.MsgspecError, ValueError) as error:
            self._store.failure = StateError(f"table {self._rows.table.name!r}: a row on disk cannot be read: {error}")
            raise self._store.failure from None
        return cell

    def trim(self) -> None:
        """Leaves rows in memory that the store does not have yet, or that the event in work has used."""
        needed = self._rows.needed()
        self.near = {key: cell for key, cell in self.near.items() if key in needed}
        self.gone &= needed
        self._most = max(_NEAR, 2 * len(self.near))


class OnDisk(Rows):
    """How rows on disk differ from those in memory.

    They come in the order of their keys' msgpack, not in that of their coming. What was given to the changelog goes to
    the store once it is committed there: :meth:`give` when a flush takes it, :meth:`kept` when that is committed.
    """

    _cells: DiskCells  # type: ignore[assignment]

    def on(self, store: Store, made: int = 0) -> None:
        """Opens rows that lie in a store. ``made``: how many there ever were."""
        self._store, self._layout = store, Layout(self.table)
        self._cells = DiskCells(self, store, self._layout, self._layout.count(store))
        self.made = self._made_before = made
        self._flying: dict[Any, bytes | None] = {}  # in the flush that is under way; None: gone
        self._flying_count = 0  # rows that there are with it
        self._flying_met: list[bytes] = []
        self._met: list[bytes] = []  # of the store's rows by time, what is over
        self._due = self._first_due()

    def keys(self) -> Iterator[Any]:
        return iter(self._cells)

    def needed(self) -> set[Any]:
        """Rows that are not in the store as they are now, or may not be soon."""
        return {*self.changed, *self._flying, *self._undo}

    def expire(self, now: int) -> None:
        assert self.table.ttl is not None
        last = now - self.table.ttl
        if self._due is not None and self._due <= last:
            self._expire_stored(last)
        super().expire(now)

    def date(self, written: int) -> None:
        """All rows in a store know when they were written."""

    # What the changelog and the store ask.

    def give(self, values: Mapping[Any, bytes | None]) -> None:
        """A flush takes these rows, by key: their values in the changelog, None for gone. None is under way."""
        self._flying, self._flying_count = dict(values), len(self._cells)
        self._flying_met, self._met = self._met, []

    def kept(self) -> tuple[dict[bytes, bytes], list[bytes]]:
        """That flush is committed: what must be put into the store, and what deleted."""
        puts = {self._layout.counted: _encode(self._flying_count)}
        gone = self._flying_met
        for key, value in self._flying.items():
            packed = _encode(key)
            if value is None:
                gone.append(self._layout.rows + packed)
            else:
                puts.update(self._layout.puts(packed, value))
        return puts, gone

    def stored(self) -> None:
        """The store has it. Events may have been done since :meth:`kept`."""
        flying, self._flying, self._flying_met = self._flying, {}, []
        for key in flying:
            if key not in self.changed:
                self._oldest.pop(key, None)
                if key not in self._undo:
                    self._cells.gone.discard(key)
        if len(self._cells.near) + len(self._cells.gone) > _NEAR:
            self._cells.trim()
        self._due = self._first_due()

    def _first_due(self) -> int | None:
        row = next(self._store.scan(self._layout.times), None) if self._layout.timed else None
        return None if row is None else self._layout.time(row[0])

    def _expire_stored(self, last: int) -> None:
        """Drops what the store has and is over. Rows that were written anew since have another place by time."""
        assert self._due is not None
        begin, self._due = self._layout.at(self._due), None
        for stored, _ in self._store.scan(self._layout.times, begin):
            if (time := self._layout.time(stored)) > last:
                self._due = time
                return
            key = msgspec.msgpack.decode(self._layout.key(stored), type=self.table.key.type)
            cell = self._cells.get(key)
            if cell is not None and cell.written <= last and key not in self._oldest:
                del self._cells[key]
                self.changed.setdefault(key, True)
            self._met.append(stored)


class DiskRows(OnDisk, Rows):
    """Rows of plain values."""


class DiskFixedRows(OnDisk, FixedRows):
    """Rows of values that cannot change in place."""


class DiskChangingRows(OnDisk, ChangingRows):
    """Rows of values that can."""

    def needed(self) -> set[Any]:
        return super().needed().union(self._seen)


def disk_rows_of(table: Table[Any], touched: list[Rows]) -> DiskRows | DiskFixedRows | DiskChangingRows:
    """A table's rows; :meth:`OnDisk.on` says where."""
    if table.volatile:
        raise ValueError(f"table {table.name!r} is volatile: its rows have no form on disk")
    if table.value.plain:
        return DiskRows(table, touched)
    return (DiskFixedRows if table.value.fixed else DiskChangingRows)(table, touched)
