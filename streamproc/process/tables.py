"""Tables of one task as exact state.

A row's key is the msgpack of ``[table, key]``; its value is ``[number, value]``, or ``[number, value, written]`` where
rows have a ttl. Numbers count the rows that a table ever had: rows come back in their order, which no compacted
changelog keeps. The row ``[table]`` says what types the table's rows have, so that no others are read into it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc import compiled as kernels
from streamproc.columns import Longs, Texts
from streamproc.define.table import Table
from streamproc.errors import StateError, StreamprocError
from streamproc.process.disk_rows import OnDisk, Store, disk_rows_of, put_rows
from streamproc.process.rows import Rows, rows_of
from streamproc.process.state import Changes, binary, items

_MOMENTS = 64  # to the shortest ttl: what a batch takes for one moment is at most so much of it
_FARTHEST = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums of times stay in 64 bits
_encode = msgspec.msgpack.Encoder().encode


class _Meaning(msgspec.Struct, forbid_unknown_fields=True):
    """What the rows of a table are."""

    key: str
    value: str
    timed: bool  # whether they say when they were written


class TableState:
    """All tables of one task.

    What is written since the last :meth:`commit` or :meth:`rollback` is the event's in work; between the two, nothing
    is. Rows are given to the changelog, and taken from it, while no event is in work.

    Args:
        tables: the app's, by name.
        store: where rows of tables ``on_disk`` lie, which are names. It has what the changelog had up to some offset.
            What the changelog got later must have been put there (:func:`streamproc.process.disk_rows.put_rows`)
            before :meth:`restore` is called with all other rows.
    """

    def __init__(
        self, tables: Mapping[str, Table[Any]], store: Store | None = None, on_disk: Collection[str] = ()
    ) -> None:
        self._tables = tables
        self._store, self._on_disk = store, frozenset(on_disk if store is not None else ())
        self._rows: dict[str, Rows] = {}
        self.held: dict[int, Rows] = {}  # the same, by their tables' idents
        self._touched: list[Rows] = []  # by the event in work
        self._told: set[str] = set()  # tables whose meaning the changelog has
        self._time: int | None = None  # the highest event time seen
        self._written: int | None = None  # what is written now counts as written then
        ttls = [table.ttl for table in tables.values() if table.ttl is not None]
        #: Whether time matters: whether :meth:`advance` or :meth:`advance_batch` must be told of it.
        self.timed = bool(ttls)
        self._moment = max(min(ttls) // _MOMENTS, 1) if ttls else 1  # ms

    # What tables and events ask.

    def rows(self, table: Table[Any]) -> Rows:
        """What the task holds of a table."""
        rows = self._rows.get(table.name)
        if rows is not None and rows.table is table:
            return rows
        if rows is not None or self._tables.get(table.name, table) is not table:
            raise StreamprocError(f"table {table.name!r} is another app's: this one has its own of that name")
        if table.name in self._on_disk:
            assert self._store is not None
            rows = on_disk = disk_rows_of(table, self._touched)
            on_disk.on(self._store)
        else:
            rows = rows_of(table, self._touched)
        self._rows[table.name] = self.held[table.ident] = rows
        return rows

    def advance(self, time: int) -> None:
        """An event of this time comes into work. Rows whose time is over are gone."""
        if self._time is None or time > self._time:
            self._time = min(max(time, -_FARTHEST), _FARTHEST)
            self._go_on(self._time, self._time)

    def advance_batch(self, times: Longs) -> int:
        """Events of these times (int64[n], n > 0) come into work as one. Returns how many of them, from the first on,
        may: those of one moment. Time goes on to the moment's begin; what they write counts as written at its end.
        """
        seen = np.maximum.accumulate(np.clip(times, -_FARTHEST, _FARTHEST))
        if self._time is not None:
            np.maximum(seen, self._time, out=seen)
        moments = seen // self._moment
        n = int(np.searchsorted(moments, moments[0], side="right"))
        self._time = int(seen[n - 1])
        begin = int(moments[0]) * self._moment
        self._go_on(begin, begin + self._moment)
        return n

    def _go_on(self, now: int, written: int) -> None:
        first = self._written is None
        self._written = written if self._written is None else max(self._written, written)  # rows stay in their order
        for rows in self._rows.values():
            if rows.table.ttl is None:
                continue
            if first:  # rows that were kept before their table had a ttl
                rows.date(written)
            rows.expire(now)

    def check(self) -> None:
        """Raises InvalidRecord where the event has changed a value in place into one that its table does not take, and
        StateError where the store has failed. Comes before its results go out, :meth:`commit` after.
        """
        if self.failure is not None:
            raise self.failure
        for rows in self._touched:
            rows.check()

    def commit(self) -> None:
        """The event in work is done."""
        if self._touched:
            for rows in self._touched:
                rows.commit(self._written or 0)
            self._touched.clear()

    def rollback(self) -> None:
        """Undoes what the event in work wrote. Its time has been seen all the same."""
        for rows in self._touched:
            rows.rollback()
        self._touched.clear()

    @property
    def failure(self) -> StateError | None:
        """Why rows on disk could not be read, if so: then nothing that was computed since is of use."""
        return None if self._store is None else self._store.failure

    # What the changelog asks.

    def version(self) -> str:
        """The form of the rows. What each table's rows are, its row of meaning says: so tables can be added."""
        return "tables 1"

    def header(self) -> dict[str, int | None]:
        """The time seen, when rows written last count as written, and how many rows each table ever had."""
        made = {
            f"made {name}": rows.made
            for name, rows in sorted(self._rows.items())
            if rows.made and not rows.table.volatile
        }
        return {"time": self._time, "written": self._written, **made}

    def changes(self) -> Changes:
        """The rows that changed, and forgets that they did."""
        keys: list[bytes] = []
        values: list[bytes] = []
        gone: list[bytes] = []
        for name, rows in self._rows.items():
            if rows.changed and name not in self._told:
                self._told.add(name)
                keys.append(_meaning_key(name))
                values.append(_encode(_meaning(rows.table)))
            prefix, timed = _prefix(name), rows.table.ttl is not None
            given: dict[Any, bytes | None] = {}
            for key, existed in rows.changed.items():
                row = rows.packed(key)
                if row is not None:
                    cell, packed = row
                    row_value = (b"\x93" if timed else b"\x92") + _encode(cell.number) + packed
                    given[key] = row_value + _encode(cell.written) if timed else row_value
                    keys.append(prefix + _encode(key))
                    values.append(given[key])  # type: ignore[arg-type]
                elif existed:
                    given[key] = None
                    gone.append(prefix + _encode(key))
            rows.changed = {}
            if isinstance(rows, OnDisk):
                rows.give(given)
        return Changes(binary(keys), binary(values), binary(gone))

    def kept(self) -> tuple[dict[bytes, bytes], list[bytes]]:
        """The changelog has committed what :meth:`changes` gave last: what is to be put into the store, and what
        deleted, at once and with the mark of the changelog's offset. :meth:`stored` comes after.
        """
        puts: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for name, rows in self._rows.items():
            if isinstance(rows, OnDisk):
                some, lost = rows.kept()
                puts |= some
                gone += lost
                if name in self._told:
                    puts[_meaning_key(name)] = _encode(_meaning(rows.table))
        return puts, gone

    def stored(self) -> None:
        """The store has it."""
        for rows in self._rows.values():
            if isinstance(rows, OnDisk):
                rows.stored()

    def restore(self, header: dict[str, int | None], keys: Texts, values: Texts) -> None:
        """Takes all rows. Raises StateError where they are not what the tables of now hold."""
        self._time = header.get("time")
        self._written = header.get("written")
        left = np.arange(len(keys))
        for table in self._tables.values():
            if table.name in self._on_disk:
                left = self._put(table, keys, values, left)
                self._reopen(table, header.get(f"made {table.name}"))
                continue
            meaning, left = self._meaning_of(table, keys, values, left)
            prefix = np.frombuffer(_prefix(table.name), np.uint8)
            own = _with_prefix(keys, left, prefix)
            if len(own) or meaning is not None:
                rest = Texts(keys.data, keys.starts[own] + len(prefix), keys.sizes[own] - len(prefix), binary=True)
                self._restore(table, meaning, header.get(f"made {table.name}"), rest, values[own])
                left = np.setdiff1d(left, own, assume_unique=True)
        if len(left):
            raise StateError(_strangers(items(keys[left])))

    def _meaning_of(self, table: Table[Any], keys: Texts, values: Texts, left: Longs) -> tuple[_Meaning | None, Longs]:
        """What the rows of a table are, and the rows that are left to read."""
        key = np.frombuffer(_encode([table.name]), np.uint8)
        found = _with_prefix(keys, left, key)
        if not len(found):
            return None, left
        try:
            (value,) = items(values[found])
            return msgspec.msgpack.decode(value, type=_Meaning), np.setdiff1d(left, found, assume_unique=True)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(f"table {table.name!r}: what says the types of its rows cannot be read: {error}") from None

    def _put(self, table: Table[Any], keys: Texts, values: Texts, left: Longs) -> Longs:
        """Puts those of a table's rows into the store that are not there yet; gives the rows that are left to read."""
        assert self._store is not None
        meant = _with_prefix(keys, left, np.frombuffer(_meaning_key(table.name), np.uint8))
        own = np.concatenate([meant, _with_prefix(keys, left, np.frombuffer(_prefix(table.name), np.uint8))])
        if len(own):
            put_rows(self._store, [table], dict(zip(items(keys[own]), items(values[own]), strict=True)))
        return np.setdiff1d(left, own, assume_unique=True)

    def _reopen(self, table: Table[Any], made: int | None) -> None:
        """Opens rows that lie in the store."""
        assert self._store is not None
        found = self._store.get(_meaning_key(table.name))
        if found is None:
            return
        meaning = msgspec.msgpack.decode(found, type=_Meaning)
        now = _checked(table, meaning)
        if meaning.timed != now.timed:
            said = "has a ttl now, and had none" if now.timed else "had a ttl, and has none now"
            remedy = "give it back what it had, or another name, or let it lie in memory once"
            raise StateError(f"table {table.name!r} {said}: rows on disk are not all written anew for that; {remedy}")
        rows = self.rows(table)
        assert isinstance(rows, OnDisk)
        rows.on(self._store, made or 0)
        self._told.add(table.name)

    def _restore(
        self, table: Table[Any], meaning: _Meaning | None, made: int | None, keys: Texts, values: Texts
    ) -> None:
        if meaning is None or made is None:
            raise StateError(f"table {table.name!r}: {len(keys):,} rows, and nothing says what they are")
        now = _checked(table, meaning)
        rows = self.rows(table)
        what = "keys"
        try:
            found = msgspec.msgpack.decode(_as_array(keys), type=list[table.key.type])  # type: ignore[name-defined]
            what = "values"
            rows.restore(found, _as_array(values), made, None if meaning.timed else self._written or 0)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(f"table {table.name!r}: its rows' {what} cannot be read: {error}") from None
        if meaning.timed == now.timed:
            self._told.add(table.name)
        else:  # the ttl is new, or no more: all rows take their new form
            rows.changed = dict.fromkeys(found, True)


def _prefix(name: str) -> bytes:
    return b"\x92" + _encode(name)


def _meaning_key(name: str) -> bytes:
    return _encode([name])


def _meaning(table: Table[Any]) -> _Meaning:
    return _Meaning(table.key.signature, table.value.signature, table.ttl is not None)


def _checked(table: Table[Any], meaning: _Meaning) -> _Meaning:
    """What a table's rows are now. Raises StateError where those that were kept are others."""
    now = _meaning(table)
    if table.volatile or (meaning.key, meaning.value) != (now.key, now.value):
        kept = f"keys of {meaning.key} and values of {meaning.value}"
        said = "it is volatile" if table.volatile else f"it has keys of {now.key} and values of {now.value}"
        raise StateError(f"table {table.name!r} was kept with {kept}; now {said}")
    return now


def _with_prefix(keys: Texts, rows: Longs, prefix: NDArray[np.uint8]) -> Longs:
    """Those of the rows whose keys begin so."""
    rows = rows[keys.sizes[rows] >= len(prefix)]
    for i, byte in enumerate(prefix):
        rows = rows[keys.data[keys.starts[rows] + i] == byte]
    return rows


def _as_array(texts: Texts) -> bytes:
    """Many msgpacks as one array of msgpack."""
    head = b"\xdd" + len(texts).to_bytes(4, "big")
    if not kernels.available():
        return head + b"".join(items(texts))
    from streamproc.compiled.texts import gather  # numba is only there when it is wanted

    joined, _ = gather(texts.data, texts.starts, texts.sizes)
    return head + joined.tobytes()


def _strangers(keys: Sequence[bytes]) -> str:
    """What is wrong with rows that are of no table."""
    names: set[str] = set()
    for key in keys:
        try:
            names.add(str(msgspec.msgpack.decode(key)[0]))
        except (msgspec.MsgspecError, TypeError, LookupError):
            return f"a row is of no table: its key is {key[:60]!r}"
    return f"it holds rows of {', '.join(map(repr, sorted(names)))}, which the app declares no more: declare it again"
