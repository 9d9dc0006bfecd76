"""Where the wanted columns of a record lie while its values are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamproc.avro.resolve import Names, kind_of

NUMBERS = frozenset({"int", "long", "float", "double"})
STRINGS = frozenset({"string", "bytes", "fixed"})


@dataclass(frozen=True)
class Slot:
    """A column's place.

    Attributes:
        kind: ``long``, ``double``, ``boolean``, ``string`` or ``bytes``.
        at: a number's word; the first of a string's two words, its place and its size; a boolean's flag.
        valid: the flag that tells whether a number or a boolean is there; -1 if it always is.
    """

    name: str
    kind: str
    at: int
    valid: int


class Layout:
    """The columns of a reader's schema that are wanted.

    Attributes:
        slots: by field.
        words: how many rows of words they take.
        flags: how many of flags.
        constants: bytes that lie at the beginning of every buffer: the defaults of strings.

    Raises:
        ValueError: a wanted field is of a type that has no column, or its default is of another.
    """

    def __init__(self, schema: dict[str, Any], wanted: frozenset[str] | set[str]) -> None:
        self.slots: dict[str, Slot] = {}
        self.words = self.flags = 0
        self.constants = b""
        self._constants: dict[bytes, int] = {}
        names = Names(schema)
        for field in schema["fields"]:
            if field["name"] in wanted:
                kind, nullable = plain_kind(field["type"], names)
                if "default" in field and not _holds(kind, nullable, field["default"]):
                    raise ValueError(f"{field['name']}: a default that no {kind} is")
                self.slots[field["name"]] = self._slot(field["name"], kind, nullable)
                if kind in ("string", "bytes") and field.get("default") is not None:
                    self._keep(as_bytes(field["default"]))

    def constant(self, data: bytes) -> int:
        """Where a default lies."""
        return self._constants[data]

    def _keep(self, data: bytes) -> None:
        self._constants.setdefault(data, len(self.constants))
        self.constants += data

    def _slot(self, name: str, kind: str, nullable: bool) -> Slot:
        if kind in ("string", "bytes"):
            self.words += 2
            return Slot(name, kind, self.words - 2, -1)
        valid = -1
        if nullable:
            valid = self.flags
            self.flags += 1
        if kind == "boolean":
            self.flags += 1
            return Slot(name, kind, self.flags - 1, valid)
        self.words += 1
        return Slot(name, kind, self.words - 1, valid)


def plain_kind(schema: Any, names: Names) -> tuple[str, bool]:
    """A plain type's column, and whether it may hold nulls. Raises ValueError for other types."""
    schema = names.find(schema)
    nullable = isinstance(schema, list)
    if isinstance(schema, list):
        others = [branch for branch in schema if kind_of(names.find(branch)) != "null"]
        if len(schema) != 2 or len(others) != 1:
            raise ValueError("a union of more than one type and null")
        schema = names.find(others[0])
    kind = kind_of(schema)
    if kind in NUMBERS:
        return ("long" if kind in ("int", "long") else "double"), nullable
    if kind in ("boolean", "string"):
        return kind, nullable
    if kind in STRINGS:
        return "bytes", nullable
    raise ValueError(f"{kind} is not plain")


_LONGS = range(-(1 << 63), 1 << 63)
_DEFAULTS = {"long": int, "double": float, "boolean": bool, "string": str, "bytes": bytes}


def _holds(kind: str, nullable: bool, default: Any) -> bool:
    if default is None:
        return nullable
    return isinstance(default, _DEFAULTS[kind]) and (kind != "long" or default in _LONGS)


def as_bytes(default: str | bytes) -> bytes:
    return default.encode() if isinstance(default, str) else default
