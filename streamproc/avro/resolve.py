"""Which reader's schema takes a writer's value: Avro's schema resolution, as fastavro does it.

It differs from the specification in what follows, and the row way is fastavro: names are compared without their
namespaces; an enum's default is taken only if it is not empty; of a reader's union the first branch that matches is
taken, where unions, and arrays and maps of them, match anything.
Source: Apache Avro 1.12 specification, "Schema Resolution"; fastavro 1.13, ``match_schemas``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamproc.avro.schema import NAMED, PRIMITIVES

_WIDER = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}


class Names:
    """The named types of one schema."""

    def __init__(self, schema: Any) -> None:
        self._named = {node["name"]: node for node in _nodes(schema) if node.get("type") in NAMED}

    def find(self, schema: Any) -> Any:
        """What a name stands for; anything else is returned as it is."""
        return self._named.get(schema, schema) if isinstance(schema, str) else schema

    def records(self) -> list[dict[str, Any]]:
        """The records among them."""
        return [node for node in self._named.values() if kind_of(node) == "record"]


def kind_of(schema: Any) -> str:
    """A schema's type: of a primitive, a named type's definition, an array, a map or a union."""
    if isinstance(schema, list):
        return "union"
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if kind == "error":
        return "record"
    if kind in PRIMITIVES or kind in ("array", "map", "enum", "fixed", "record"):
        return str(kind)
    raise ValueError(f"an Avro type was expected; got {kind!r}")


class Resolution:
    """Matches a writer's types with a reader's."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer, self.reader = Names(writer), Names(reader)

    def matches(self, writer: Any, reader: Any) -> bool:
        """Whether values of one type may be read as the other. Of unions that is known only when one is read."""
        if isinstance(writer, list) or isinstance(reader, list):
            return True
        writer, reader = self.writer.find(writer), self.reader.find(reader)
        mine, theirs = kind_of(writer), kind_of(reader)
        if mine in NAMED and theirs in NAMED:
            return _named_alike(writer, reader)
        if mine == theirs and mine in ("array", "map"):
            part = "items" if mine == "array" else "values"
            return self.matches(writer[part], reader[part])
        return mine == theirs or theirs in _WIDER.get(mine, ())

    def branch(self, writer: Any, reader: Any) -> Any:
        """The reader's type that takes a writer's, which is no union; None if there is none."""
        branches = reader if isinstance(reader, list) else [reader]
        return next((branch for branch in branches if self.matches(writer, branch)), None)


def _named_alike(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
    if writer["type"] == reader["type"] == "fixed" and writer["size"] != reader["size"]:
        return False
    name, bare = writer["name"], writer["name"].rpartition(".")[2]
    aliases = reader.get("aliases", ())
    return bare == reader["name"].rpartition(".")[2] or name in aliases or bare in aliases


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _nodes(branch)
    elif isinstance(schema, dict):
        yield schema
        for part in ("type", "items", "values"):
            if isinstance(schema.get(part), dict | list):
                yield from _nodes(schema[part])
        for field in schema.get("fields", ()):
            yield from _nodes(field["type"])


class Fields:
    """Where a writer's fields go in a reader's record, asked in the writer's order."""

    def __init__(self, reader: dict[str, Any]) -> None:
        self._left = {field["name"]: field for field in reader["fields"]}
        self._aliases = {alias: field for field in reader["fields"] for alias in field.get("aliases", ())}

    def take(self, name: str) -> dict[str, Any] | None:
        """The reader's field for a writer's of this name, or None if nobody reads it.

        Raises:
            ValueError: another of the writer's fields went there already.
        """
        found = self._left.get(name, self._aliases.get(name))
        if found is not None and self._left.pop(found["name"], None) is None:
            raise ValueError(f"the reader's field {found['name']!r} is written twice")
        return found

    def left(self) -> list[dict[str, Any]]:
        """The reader's fields that the writer does not have."""
        return list(self._left.values())
