"""Rows of one table in one task, with an undo log of the event in work.

There are four kinds. Plain values (int, float, bool, None) lie as objects, and are encoded when the changelog asks.
Fixed ones (str, bytes, frozen records and tuples of such) are encoded when written, which proves that they can be.
Values that can change in place lie encoded: an event that reads one gets an object of its own, which is encoded again
and compared when the event is done, so what still holds the object later, or holds it twice, makes no difference that
a crash would show. Volatile ones are never encoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np

from streamproc.define.row_types import PLAIN
from streamproc.define.table import Table
from streamproc.errors import InvalidRecord

LARGEST_KEY = 65_536  # bytes
LARGEST_VALUE = 900_000  # bytes; a row must fit a record, of which brokers take 1 MB
_COLD: Any = type("_Cold", (), {"__repr__": lambda _: "<encoded>"})()  # in place of a value that lies encoded only
_LOW, _HIGH = -(1 << 63), (1 << 64) - 1  # ints of msgpack
_encode = msgspec.msgpack.Encoder().encode


class Cell(msgspec.Struct, array_like=True, gc=False):
    """One row. Its value lies as an object, encoded, or both. Of plain values, the first fields are a row's value in
    the changelog.
    """

    number: int  # among all rows that the table ever had
    value: Any = _COLD
    written: int = 0  # event time; of tables with a ttl
    packed: bytes | None = None


class Entry(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """A row's value in the changelog."""

    number: int
    value: msgspec.Raw
    written: int = 0


Before = tuple[Cell, Any, bytes | None] | None  # what a row was: its cell, value and packed value


class Rows:
    """Rows of plain values; the base of the other kinds."""

    def __init__(self, table: Table[Any], touched: list[Rows]) -> None:
        self.table = table
        self._touched = touched
        self.made = 0  # rows that there ever were, but for those that were undone
        #: Keys that changed since the changelog asked, and whether it has a row of theirs.
        self.changed: dict[Any, bool] = {}
        self._cells: dict[Any, Cell] = {}
        self._undo: dict[Any, Before] = {}
        self._made_before = 0
        self._ordered = True  # whether the cells lie in the order of their numbers
        self._oldest: OrderedDict[Any, None] = OrderedDict()  # keys in the order of their last writing; with a ttl
        self._key = table.key.type if table.key.type in (str, int, bytes) else None  # of a tuple, each part is seen
        self._type = table.value.type if table.value.plain else None
        self._pack = table.value.pack

    # What agents ask.

    def read(self, key: Any) -> Any:
        if type(key) is not self._key:
            self._check_key(key)
        cell = self._cells.get(key)
        return self._default(key) if cell is None else cell.value

    def get(self, key: Any, default: Any) -> Any:
        if type(key) is not self._key:
            self._check_key(key)
        return self.read(key) if key in self._cells else default

    def write(self, key: Any, value: Any) -> None:
        if type(key) is not self._key:
            self._check_key(key)
        kind = type(value)
        if kind is not self._type or (kind is int and not _LOW <= value <= _HIGH):
            value = self._fit(key, value)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new(key)
        elif key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = (cell, cell.value, None)
        cell.value = value

    def remove(self, key: Any) -> None:
        if type(key) is not self._key:
            self._check_key(key)
        cell = self._cells.pop(key)
        if key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = self._before(cell)

    def has(self, key: Any) -> bool:
        if type(key) is not self._key:
            self._check_key(key)
        return key in self._cells

    def keys(self) -> Iterator[Any]:
        """In the order of their numbers."""
        if not self._ordered:
            self._cells = dict(sorted(self._cells.items(), key=lambda item: item[1].number))
            self._ordered = True
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    # What the end of an event asks.

    def check(self) -> None:
        """Raises InvalidRecord where a value has become one that the table does not take."""

    def commit(self, written: int) -> None:
        """The event in work is done; what it wrote counts as written at this time."""
        if not self._undo:
            return
        changed = self.changed
        for key, before in self._undo.items():
            if key not in changed:
                changed[key] = before is not None
        if self.table.ttl is not None:
            self._note(self._undo, written)
        self._undo = {}
        self._made_before = self.made

    def rollback(self) -> None:
        """Makes all rows what they were before the event in work."""
        for key, before in self._undo.items():
            if before is None:
                self._cells.pop(key, None)
                continue
            cell, value, packed = before
            cell.value, cell.packed = value, packed
            if self._cells.get(key) is not cell:
                self._cells[key] = cell
                self._ordered = False
        self._undo = {}
        self.made = self._made_before

    def expire(self, now: int) -> None:
        """Drops the rows whose time is over."""
        assert self.table.ttl is not None
        last = now - self.table.ttl
        while self._oldest:
            key = next(iter(self._oldest))
            if self._cells[key].written > last:
                return
            del self._oldest[key], self._cells[key]
            self.changed.setdefault(key, True)

    def date(self, written: int) -> None:
        """Rows of which nobody knows when they were written count as written at this time."""
        for cell in self._cells.values():
            cell.written = written
        self.changed = dict.fromkeys(self._cells, True) | self.changed

    # What the changelog asks.

    def packed(self, key: Any) -> tuple[Cell, bytes] | None:
        """A row and its value's msgpack."""
        cell = self._cells.get(key)
        return None if cell is None else (cell, self._packed(cell))

    def restore(self, keys: Sequence[Any], entries: bytes, made: int, written: int | None) -> None:
        """Takes all rows, in any order, into an empty table.

        Args:
            entries: their values in the changelog, in one array of msgpack.
            made: rows that there ever were.
            written: when they were, where their values do not say.
        """
        cells = self._read(entries)
        if len(cells) != len(keys):
            raise msgspec.DecodeError(f"{len(cells):,} values for {len(keys):,} keys")
        numbers = [cell.number for cell in cells]
        order = sorted(range(len(keys)), key=numbers.__getitem__)
        self._cells = dict(zip(map(keys.__getitem__, order), map(cells.__getitem__, order), strict=True))
        if written is not None:
            for cell in cells:
                cell.written = written
        self.made = self._made_before = made
        if self.table.ttl is not None:
            order.sort(key=lambda i: cells[i].written)
            self._oldest = OrderedDict.fromkeys(keys[i] for i in order)

    # Inside.

    def _read(self, entries: bytes) -> list[Cell]:
        cells = msgspec.msgpack.decode(entries, type=list[Cell])
        check = self.table.value.check
        for cell in cells:
            if type(cell.value) is not self._type and (problem := check(cell.value)) is not None:
                raise msgspec.DecodeError(problem[1])
        return cells

    def _packed(self, cell: Cell) -> bytes:
        return _encode(cell.value)

    def _before(self, cell: Cell) -> Before:
        return cell, cell.value, cell.packed

    def _note(self, keys: Any, written: int) -> None:
        for key in keys:
            cell = self._cells.get(key)
            if cell is None:
                self._oldest.pop(key, None)
            else:
                cell.written = written
                self._oldest[key] = None
                self._oldest.move_to_end(key)

    def _new(self, key: Any) -> Cell:
        try:
            size = len(_encode(key))
        except (ValueError, OverflowError) as error:
            self._refuse(key, f"msgpack does not take the key: {error}")
        if size > LARGEST_KEY:
            self._refuse(key, f"expected a key of at most {LARGEST_KEY:,} bytes; it has {size:,}")
        if key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = None
        cell = self._cells[key] = Cell(self.made)
        self.made += 1
        return cell

    def _default(self, key: Any) -> Any:
        if self.table.default is None:
            raise KeyError(key)
        self.write(key, self.table.default())
        return self._cells[key].value

    def _fit(self, key: Any, value: Any) -> Any:
        """The value as it is kept: numpy's scalars as Python's, and ints as floats where those are wanted."""
        if isinstance(value, np.generic):
            value = value.item()
        if self._type is float and type(value) is int and abs(value) <= 1 << 53:
            return float(value)
        self._encoded(key, value)
        return value

    def _encoded(self, key: Any, value: Any) -> bytes:
        """The value's msgpack. Raises InvalidRecord where it is not exactly of the table's type, or too large."""
        try:
            packed = self._pack(value)
        except ValueError as error:
            self._refuse(key, f"value: {error}")
        if len(packed) > LARGEST_VALUE:
            self._refuse(key, f"expected a value of at most {LARGEST_VALUE:,} bytes; it has {len(packed):,}")
        return packed

    def _check_key(self, key: Any) -> None:
        if (problem := self.table.key.check(key)) is not None:
            where, said = problem
            self._refuse(key, f"key: {said}{f' (at {where})' if where else ''}")

    def _refuse(self, key: Any, problem: str) -> NoReturn:
        text = repr(key)
        shown = text if len(text) <= 60 else text[:57] + "…"
        raise InvalidRecord(f"table {self.table.name!r}, row {shown}: {problem}", self.table.name) from None


class FixedRows(Rows):
    """Rows of values that cannot change in place."""

    def read(self, key: Any) -> Any:
        value = super().read(key)
        if value is _COLD:
            cell = self._cells[key]
            value = cell.value = self.table.value.decode(cell.packed)
        return value

    def write(self, key: Any, value: Any) -> None:
        if type(key) is not self._key:
            self._check_key(key)
        if isinstance(value, np.generic):
            value = value.item()
        packed = self._encoded(key, value)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new(key)
        elif key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = self._before(cell)
        cell.value, cell.packed = value, packed

    def _read(self, entries: bytes) -> list[Cell]:
        found = msgspec.msgpack.decode(entries, type=list[Entry])
        return [Cell(entry.number, _COLD, entry.written, bytes(entry.value)) for entry in found]

    def _packed(self, cell: Cell) -> bytes:
        packed = _encode(cell.value) if cell.packed is None else cell.packed
        if cell.value is not _COLD:
            cell.packed = None
        return packed


class ChangingRows(FixedRows):
    """Rows of values that can change in place. Between events they lie encoded."""

    def __init__(self, table: Table[Any], touched: list[Rows]) -> None:
        super().__init__(table, touched)
        self._seen: dict[Any, Cell] = {}  # rows whose values were decoded for the event in work
        self._ready: dict[Any, bytes] = {}  # values that differ from those before the event, as they would be kept

    def read(self, key: Any) -> Any:
        value = Rows.read(self, key)
        if value is _COLD:
            cell = self._cells[key]
            value = cell.value = self.table.value.decode(cell.packed)
            if type(value) not in PLAIN:
                if not self._seen:
                    self._touched.append(self)
                self._seen[key] = cell
        return value

    def write(self, key: Any, value: Any) -> None:
        if type(key) is not self._key:
            self._check_key(key)
        if isinstance(value, np.generic):
            value = value.item()
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new(key)
        elif key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = self._before(cell)
        cell.value = value

    def check(self) -> None:
        self._ready = {}
        cells = self._cells
        for key in self._undo:
            if (cell := cells.get(key)) is not None:
                self._ready[key] = self._encoded(key, cell.value)
        for key, cell in self._seen.items():
            if key not in self._undo and (packed := self._encoded(key, cell.value)) != cell.packed:
                self._ready[key] = packed
                self._undo[key] = self._before(cell)

    def commit(self, written: int) -> None:
        if not self._undo and not self._seen:
            return
        for key, packed in self._ready.items():
            cell = self._cells[key]
            cell.packed = packed
            if type(cell.value) not in PLAIN:
                cell.value = _COLD
        self._cool()
        super().commit(written)

    def rollback(self) -> None:
        super().rollback()
        self._cool()

    def _cool(self) -> None:
        for cell in self._seen.values():
            cell.value = _COLD
        self._seen, self._ready = {}, {}

    def _before(self, cell: Cell) -> Before:
        return cell, _COLD, cell.packed

    def _packed(self, cell: Cell) -> bytes:
        assert cell.packed is not None
        return cell.packed


class VolatileRows(Rows):
    """Rows of any Python objects, in memory only."""

    def write(self, key: Any, value: Any) -> None:
        if type(key) is not self._key:
            self._check_key(key)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new(key)
        elif key not in self._undo:
            if not self._undo:
                self._touched.append(self)
            self._undo[key] = self._before(cell)
        cell.value = value

    def commit(self, written: int) -> None:
        super().commit(written)
        self.changed = {}

    def expire(self, now: int) -> None:
        super().expire(now)
        self.changed = {}


def rows_of(table: Table[Any], touched: list[Rows]) -> Rows:
    """A table's rows, none yet. They add themselves to ``touched`` when an event in work first uses them in a way that
    its end must know of.
    """
    if table.volatile:
        return VolatileRows(table, touched)
    if table.value.plain:
        return Rows(table, touched)
    return (FixedRows if table.value.fixed else ChangingRows)(table, touched)
