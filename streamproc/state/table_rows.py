"""Rows of tables as they lie in a changelog: for reading, without the task that wrote them.

What they mean is told in :mod:`streamproc.process.tables`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.define.table import Table
from streamproc.errors import StateError, StreamprocError
from streamproc.process.state import items
from streamproc.state.head import Head

VERSION = "tables 1"  # of heads of what has tables
_TOGETHER = 4096  # rows that are unpacked as one
_SHORT = 120  # characters of a row, for people
_encode = msgspec.msgpack.Encoder().encode


class WrongKey(StreamprocError):
    """A text that is no key of a table."""

    exit_code = 2


class Meaning(msgspec.Struct):
    """What a changelog says of a table's rows: the types, and whether rows say when they were written."""

    key: str
    value: str
    timed: bool


class TableRow(NamedTuple):
    """A row: its key and value as JSON has them."""

    key: Any
    value: Any
    number: int  # among all rows that the table ever had in its task: their order
    written: int | None  # event time in milliseconds, where the table has a ttl


class Entry(msgspec.Struct, array_like=True):
    """A row's value in a changelog."""

    number: int
    value: msgspec.Raw
    written: int | None = None


class _Number(msgspec.Struct, array_like=True):
    number: int


entry_of = msgspec.msgpack.Decoder(Entry).decode
_number_of = msgspec.msgpack.Decoder(_Number).decode


class TableRows:
    """A table's rows in one task's state. Takes the memory of the state that they lie in, and 16 bytes a row.

    Args:
        keys: of the state's rows.
        values: theirs.
        rows: which of them are the table's.
    """

    def __init__(self, name: str, meaning: Meaning | None, keys: Texts, values: Texts, rows: Longs) -> None:
        self.name, self.meaning = name, meaning
        self._keys, self._values, self._rows = keys, values, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return int(self._keys.sizes[self._rows].sum() + self._values.sizes[self._rows].sum())

    def in_order(self) -> Iterator[TableRow]:
        """One by one, in the order in which they came to the task.

        Raises:
            StateError: one cannot be read.
        """
        numbers = np.fromiter(self._numbers(), np.int64, len(self))
        order = self._rows[np.argsort(numbers, kind="stable")]
        for at in range(0, len(order), _TOGETHER):
            some = order[at : at + _TOGETHER]
            for key, value in zip(items(self._keys[some]), items(self._values[some]), strict=True):
                yield parsed(key, value)

    def _numbers(self) -> Iterator[int]:
        for at in range(0, len(self._rows), _TOGETHER):
            for value in items(self._values[self._rows[at : at + _TOGETHER]]):
                try:
                    yield _number_of(value).number
                except msgspec.MsgspecError as error:
                    raise StateError(f"table {self.name!r}: a row cannot be read: {error}") from None


def tables_in(head: Head | None, keys: Texts, values: Texts) -> dict[str, TableRows]:
    """The tables of a task's state, by name; none where it holds something else.

    Raises:
        StateError: there is a row that is of no table.
    """
    if head is None or head.version != VERSION:
        return {}
    found: dict[str, TableRows] = {}
    left = np.arange(len(keys))
    while len(left):
        (first,) = items(keys[left[:1]])
        name = _table_of(first)
        meanings = _with_prefix(keys, left, _encode([name]))
        rows = _with_prefix(keys, left, prefix(name))
        found[name] = TableRows(name, _meaning(name, values[meanings]), keys, values, rows)
        left = np.setdiff1d(left, np.concatenate([meanings, rows]), assume_unique=True)
    return found


def prefix(table: str) -> bytes:
    """What the keys of a table's rows begin with."""
    return b"\x92" + _encode(table)


def row_key(table: str, key: Any) -> bytes:
    """The key of a row in a changelog."""
    return prefix(table) + _encode(key)


def parsed(key: bytes, value: bytes) -> TableRow:
    """A row of a table. Raises StateError where it is none."""
    try:
        entry = entry_of(value)
        _, named = msgspec.msgpack.decode(key)
        return TableRow(plain(named), plain(msgspec.msgpack.decode(entry.value)), entry.number, entry.written)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise StateError(f"a row of a table cannot be read, its key is {key[:60]!r}: {error}") from None


def readable(key: bytes, value: bytes | None) -> str:
    """A row of any state for people: of a table as JSON, else in hex. None is a row that is not there."""
    try:
        name = _table_of(key)
        if key[:1] != b"\x92":
            return f"the types of table {name!r}"
        where = f"{name}[{_json(plain(msgspec.msgpack.decode(key)[1]))}]"
        if value is None:
            return f"{where}: none"
        row = parsed(key, value)
    except (StateError, msgspec.MsgspecError, TypeError, LookupError):
        return f"row {_cut(key.hex())}: {'none' if value is None else _cut(value.hex())}"
    when = "" if row.written is None else f", written at {row.written}"
    return f"{where}: {_cut(_json(row.value))} (number {row.number}{when})"


def key_of(table: Table[Any], text: str) -> Any:
    """The key that a text means: itself, a whole number, base64 of bytes, a JSON array of a tuple's parts.

    Raises:
        WrongKey: it is none of the table's.
    """
    what, kind = f"table {table.name!r} has keys of {table.key.name}", table.key.type
    if kind is str:
        return text
    try:
        key: Any
        if kind is int:
            key = int(text)
        elif kind is bytes:
            key = base64.b64decode(text, validate=True)
        else:
            key = msgspec.json.decode(text, type=kind)
        _encode(key)
    except (ValueError, OverflowError, msgspec.MsgspecError, RecursionError):
        form = "a whole number of 64 bits" if kind is int else "base64"
        if kind is not int and kind is not bytes:
            form = "a JSON array of its parts, bytes as base64"
        raise WrongKey(f"{what}: expected {form}; got {text!r}") from None
    if (problem := table.key.check(key)) is not None:
        raise WrongKey(f"{what}: {problem[1]}")
    return key


def plain(value: Any) -> Any:
    """What msgpack gave, as JSON takes it: bytes in base64, keys of objects as text, numbers that it lacks as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else _json(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _cut(text: str) -> str:
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def _table_of(key: bytes) -> str:
    try:
        name = msgspec.msgpack.decode(key)[0]
        if isinstance(name, str):
            return name
    except (msgspec.MsgspecError, TypeError, LookupError):
        pass
    raise StateError(f"a row is of no table: its key is {key[:60]!r}")


def _meaning(name: str, values: Texts) -> Meaning | None:
    try:
        return msgspec.msgpack.decode(items(values)[0], type=Meaning) if len(values) else None
    except msgspec.MsgspecError as error:
        raise StateError(f"table {name!r}: what says the types of its rows cannot be read: {error}") from None


def _with_prefix(keys: Texts, rows: Longs, begin: bytes) -> Longs:
    """Those of the rows whose keys begin so."""
    rows = rows[keys.sizes[rows] >= len(begin)]
    for i, byte in enumerate(begin):
        rows = rows[keys.data[keys.starts[rows] + i] == byte]
    return rows
