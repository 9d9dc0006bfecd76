"""Programs that read a writer's values as a reader's columns; see :mod:`streamproc.compiled.ops`.

Every byte of a value is read by its type, wanted or not, so that a value is good or bad whatever is wanted of it.
Source: Apache Avro 1.12 specification, "Binary Encoding" and "Schema Resolution".
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.avro.layout import Layout, Slot, as_bytes
from streamproc.avro.resolve import Fields, Resolution, kind_of
from streamproc.avro.schema import NAMED
from streamproc.compiled import ops

_WIDTHS = {"float": 4, "double": 8}
_NULL = {"boolean": ops.NULL_BOOLEAN, "string": ops.NULL_TEXT, "bytes": ops.NULL_TEXT}
#: How a writer's number is read as a column.
_NUMBERS = {
    ("int", "long"): ops.LONG,
    ("long", "long"): ops.LONG,
    ("int", "double"): ops.LONG_TO_DOUBLE,
    ("long", "double"): ops.LONG_TO_DOUBLE,
    ("float", "double"): ops.FLOAT,
    ("double", "double"): ops.DOUBLE,
}
_CHECKED = {
    "int": ops.LONG,
    "long": ops.LONG,
    "float": ops.FLOAT,
    "double": ops.DOUBLE,
    "boolean": ops.BOOLEAN,
    "bytes": ops.STRING,
    "string": ops.TEXT,
}


def program_of(writer: Any, reader: dict[str, Any] | None, layout: Layout) -> NDArray[np.int64]:
    """The program for values of a writer's schema: int64[n, 5], to be entered at its first row.

    Args:
        writer: with full names, without logical types.
        reader: None where it is the writer's.
        layout: where the columns of the reader's schema lie.

    Raises:
        ValueError: the schema is not of a known form.
    """
    return _Program(writer, reader, layout).build()


class _Program:
    def __init__(self, writer: Any, reader: Any, layout: Layout) -> None:
        self._writer, self._reader, self._layout = writer, reader, layout
        self._types = Resolution(writer, writer if reader is None else reader)
        self._rows: list[list[int]] = []
        self._bodies: list[tuple[int, Any, Any]] = []  # records to write down: where to note the place, of what
        self._records: dict[tuple[str, str], int] = {}

    def build(self) -> NDArray[np.int64]:
        self._value(self._writer, self._reader, None, top=True)
        self._emit(ops.END)
        while self._bodies:
            call, writer, reader = self._bodies.pop()
            key = (writer["name"], "" if reader is None else reader["name"])
            if key not in self._records:
                self._records[key] = len(self._rows)
                self._fields(writer, reader, top=False)
                self._emit(ops.RETURN)
            self._rows[call][3] = self._records[key]
        return np.array(_merged(self._rows), np.int64).reshape(-1, ops.WIDTH)

    def _emit(self, op: int, slot: int = -1, a: int = 0, b: int = -1) -> int:
        """A row that is followed by the next one. Its place."""
        self._rows.append([op, len(self._rows) + 1, slot, a, b])
        return len(self._rows) - 1

    def _fields(self, writer: dict[str, Any], reader: dict[str, Any] | None, *, top: bool) -> None:
        slots = self._layout.slots if top else {}
        if reader is None:
            for field in writer["fields"]:
                self._value(field["type"], None, slots.get(field["name"]))
            return
        fields = Fields(reader)
        for field in writer["fields"]:
            try:
                found = fields.take(field["name"])
            except ValueError:
                self._emit(ops.FAIL)
                return
            if found is None:
                self._value(field["type"], None, None)
            else:
                self._value(field["type"], found["type"], slots.get(found["name"]))
        for field in fields.left():
            if "default" not in field:
                self._emit(ops.FAIL)
            elif field["name"] in slots:
                self._default(slots[field["name"]], field["default"])

    def _default(self, slot: Slot, value: Any) -> None:
        if value is None:
            self._emit(_NULL.get(slot.kind, ops.NULL), slot.at, b=slot.valid)
        elif slot.kind in ("string", "bytes"):
            data = as_bytes(value)
            self._emit(ops.CONST_TEXT, slot.at, self._layout.constant(data), len(data))
        elif slot.kind == "boolean":
            self._emit(ops.CONST_BOOLEAN, slot.at, int(value))
        elif slot.kind == "double":
            (bits,) = struct.unpack("<q", struct.pack("<d", value))
            self._emit(ops.CONST, slot.at, bits)
        else:
            self._emit(ops.CONST, slot.at, value)

    def _value(self, writer: Any, reader: Any, slot: Slot | None, *, top: bool = False) -> None:
        """Reads one value; ``reader`` is None where nobody resolves it. The record at the top has the columns."""
        writer = self._types.writer.find(writer)
        kind = kind_of(writer)
        if kind == "union":
            self._branches(writer, reader, slot, top)
            return
        if reader is not None:
            reader = self._types.branch(writer, reader)
            if reader is None:
                self._emit(ops.FAIL)
                return
            reader = self._types.reader.find(reader)
            if kind in NAMED and kind != kind_of(reader):
                self._emit(ops.FAIL)  # alike in name only
                return
        if kind == "null":
            if slot is not None:
                self._emit(_NULL.get(slot.kind, ops.NULL), slot.at, b=slot.valid)
        elif kind in ("array", "map"):
            self._blocks(kind, writer, reader)
        elif kind == "enum":
            self._enum(writer, reader)
        elif kind == "record" and top:
            self._fields(writer, reader, top=True)
        elif kind == "record":
            self._bodies.append((self._emit(ops.CALL), writer, reader))
        else:
            self._plain(kind, writer, reader, slot)

    def _plain(self, kind: str, writer: Any, reader: Any, slot: Slot | None) -> None:
        if kind == "fixed":
            if slot is None:
                self._emit(ops.SKIP, a=writer["size"])
            else:
                self._emit(ops.FIXED, slot.at, writer["size"])
        elif slot is None and kind in _WIDTHS:
            self._emit(ops.SKIP, a=_WIDTHS[kind])
        elif slot is not None and (kind, slot.kind) in _NUMBERS:
            self._emit(_NUMBERS[kind, slot.kind], slot.at)
        else:
            text = kind == "bytes" and reader is not None and kind_of(reader) == "string"
            self._emit(ops.TEXT if text else _CHECKED[kind], -1 if slot is None else slot.at)

    def _branches(self, writers: list[Any], reader: Any, slot: Slot | None, top: bool) -> None:
        at = self._emit(ops.BRANCH, a=len(writers))
        for _ in writers:
            self._emit(ops.FAIL)  # is never run: only where it leads to is read
        ends = []
        for i, writer in enumerate(writers):
            self._rows[at + 1 + i][1] = len(self._rows)
            self._value(writer, reader, slot, top=top)
            ends.append(self._emit(ops.SKIP))  # of nothing: the branch's end
        for end in ends:
            self._rows[end][1] = len(self._rows)

    def _enum(self, writer: Any, reader: Any) -> None:
        at = self._emit(ops.BRANCH, a=len(writer["symbols"]))
        known = None if reader is None or reader.get("default") else set(reader["symbols"])
        rows = [self._emit(ops.FAIL) for _ in writer["symbols"]]
        fail = self._emit(ops.FAIL)
        for row, symbol in zip(rows, writer["symbols"], strict=True):
            self._rows[row][1] = len(self._rows) if known is None or symbol in known else fail
        assert rows[0] == at + 1

    def _blocks(self, kind: str, writer: Any, reader: Any) -> None:
        part = "items" if kind == "array" else "values"
        items, wanted = writer[part], None if reader is None else reader[part]
        if kind == "array" and (wanted is None or wanted == items) and self.empty(items):
            self._emit(ops.EMPTY)
            return
        at = self._emit(ops.ARRAY)
        self._rows[at][3] = len(self._rows)
        if kind == "map":
            self._emit(ops.TEXT)
        elif self.empty(items):
            self._emit(ops.FAIL)
        self._value(items, wanted, None)
        self._emit(ops.LOOP)
        self._rows[at][1] = len(self._rows)

    def empty(self, schema: Any, inside: frozenset[str] = frozenset()) -> bool:
        """Whether values of a writer's type take no bytes."""
        schema = self._types.writer.find(schema)
        kind = kind_of(schema)
        if kind == "record" and schema["name"] not in inside:
            inside |= {schema["name"]}
            return all(self.empty(field["type"], inside) for field in schema["fields"])
        return kind == "null" or (kind == "fixed" and schema["size"] == 0)


def _merged(rows: list[list[int]]) -> list[list[int]]:
    """The same program, by fewer rows: skips of nothing are passed over, skips in a row are one."""
    for row in reversed(rows):
        while row[0] not in _LAST and _is_nothing(rows[row[1]]):
            row[1] = rows[row[1]][1]
        if row[0] == ops.SKIP and rows[row[1]][0] == ops.SKIP:
            row[3] += rows[row[1]][3]
            row[1] = rows[row[1]][1]
    return rows


_LAST = (ops.END, ops.RETURN)


def _is_nothing(row: list[int]) -> bool:
    return row[0] == ops.SKIP and row[3] == 0
