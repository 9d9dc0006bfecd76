"""Rows of a changelog on their way into a task's store, where tables on disk lie.

A store has all rows of its task. Those of tables on disk stay there; the others, of which the store has what the
changelog has, are read from it when the task begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamproc.columns import Texts
from streamproc.define.table import Table
from streamproc.log.batches import Part, RecordBatch
from streamproc.process.disk_rows import Layout, Store, put_rows
from streamproc.process.state import Changes, binary, items
from streamproc.state.restore import Heads, sorted_records

_TOGETHER = 20_000  # rows that are put at once
_BYTES = 8 << 20  # of them, about
_KINDS = (b"\x91", b"\x92")  # what the keys of all rows of tables begin with


class StoredRows:
    """Collects rows in a store; see :class:`streamproc.state.restore.Holder`. It must have the rows already that the
    log is read onto.

    Args:
        tables: those on disk.
    """

    def __init__(self, store: Store, tables: Sequence[Table[Any]]) -> None:
        self._store, self._tables = store, tables
        self._waiting: dict[bytes, bytes | None] = {}
        self._bytes = self._taken = 0

    def __len__(self) -> int:
        return self._taken

    def put(self, keys: Texts, values: Texts) -> None:
        """The store has them."""

    def take(self, parts: Sequence[Part], first_offset: int) -> Heads:
        found = Heads()
        for part in parts:
            heads, keys, values = sorted_records(
                part.records() if isinstance(part, RecordBatch) else part, first_offset
            )
            found += heads
            self._waiting.update(zip(keys, values, strict=True))
            self._bytes += sum(map(len, keys)) + sum(len(value) for value in values if value is not None)
            self._taken += len(keys)
            if len(self._waiting) >= _TOGETHER or self._bytes >= _BYTES:
                self._write()
        return found

    def rows(self) -> tuple[Texts, Texts]:
        """Of the other tables."""
        self._write()
        return other_rows(self._store, self._tables)

    def _write(self) -> None:
        rows, self._waiting, self._bytes = self._waiting, {}, 0
        others = {key: rows[key] for key in put_rows(self._store, self._tables, rows)}
        puts = {key: value for key, value in others.items() if value is not None}
        self._store.write(puts, [key for key, value in others.items() if value is None])


def other_rows(store: Store, tables: Sequence[Table[Any]]) -> tuple[Texts, Texts]:
    """The rows in a store that are of no table on disk: keys and values."""
    keys: list[bytes] = []
    values: list[bytes] = []
    layouts = [Layout(table) for table in tables]
    meant, own = {layout.meant for layout in layouts}, tuple(layout.rows for layout in layouts)
    for kind in _KINDS:
        begin = b""
        while True:  # from table to table: those on disk are many rows, to be jumped over
            for key, value in store.scan(kind, begin):
                if key.startswith(own):
                    (prefix,) = (prefix for prefix in own if key.startswith(prefix))
                    begin = prefix[1:] + b"\xff" * 10
                    break
                if key not in meant:
                    keys.append(key)
                    values.append(value)
            else:
                break
    return binary(keys), binary(values)


def other_changes(changes: Changes, tables: Sequence[Table[Any]]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """What is to be put into a store, and what deleted, of rows of no table on disk."""
    own = tuple(Layout(table).rows for table in tables)
    put = zip(items(changes.keys), items(changes.values), strict=True)
    puts = {key: value for key, value in put if not key.startswith(own)}
    return puts, [key for key in items(changes.gone) if not key.startswith(own)]
