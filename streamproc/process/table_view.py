"""Rows of a task's tables as they are between events, whatever an event in work has done to them. For a look from
outside while the task runs: nothing here changes a row, or the order in which the task meets them.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from streamproc.define.table import Table
from streamproc.process.rows import Before, Rows
from streamproc.process.tables import TableState

_encode = msgspec.msgpack.Encoder().encode


class Seen(NamedTuple):
    """A row that the task has."""

    key: Any
    packed: bytes  # its value's msgpack
    number: int  # among all rows that the table ever had in the task: their order
    written: int | None  # event time in milliseconds, where the table has a ttl


def rows_of(state: TableState, table: Table[Any]) -> Rows | None:
    """What a task holds of a table; None where it never used it."""
    return state._rows.get(table.name)


def row(rows: Rows, key: Any) -> Seen | None:
    """The row of a key; None where there was none when the last event was done."""
    if key in rows._undo:
        return _seen(rows, key, rows._undo[key])
    cell = rows._cells.get(key)
    return None if cell is None else _seen(rows, key, rows._before(cell))


def page(rows: Rows, after: int, most: int) -> list[Seen]:
    """The first rows, at most so many, whose numbers are above ``after``; in the order of those.

    Takes some milliseconds where there are a million rows.
    """
    cells, undo = rows._cells, rows._undo
    keys = list(cells)
    if not rows._ordered:  # not to be put in order here: the task may be looking at them
        keys.sort(key=lambda key: cells[key].number)
    first = bisect_right(keys, after, key=lambda key: cells[key].number)
    untouched = (key for key in islice(keys, first, None) if key not in undo)
    found = [_seen(rows, key, rows._before(cells[key])) for key in islice(untouched, most)]
    found += [
        _seen(rows, key, before) for key, before in undo.items() if before is not None and before[0].number > after
    ]
    return sorted((seen for seen in found if seen is not None), key=lambda seen: seen.number)[:most]


def _seen(rows: Rows, key: Any, before: Before) -> Seen | None:
    if before is None:
        return None
    cell, value, packed = before
    written = cell.written if rows.table.ttl is not None else None
    return Seen(key, _encode(value) if packed is None else packed, cell.number, written)
