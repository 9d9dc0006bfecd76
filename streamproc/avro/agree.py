"""Record types against their schemas: the two must say the same."""

from __future__ import annotations

import types
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from streamproc.avro.ports import Schema
from streamproc.avro.schema import NAMED, find, load, normal
from streamproc.errors import SchemaMismatch
from streamproc.record import Record

_PLAIN: dict[Any, frozenset[str]] = {
    str: frozenset({"string"}),
    int: frozenset({"int", "long"}),
    float: frozenset({"float", "double"}),
    bool: frozenset({"boolean"}),
    bytes: frozenset({"bytes", "fixed"}),
}


@cache
def schema_of(record: type[Record]) -> Schema:
    """The schema that a record type is bound to, read from its file and checked.

    Raises:
        SchemaNotFound: no such file.
        SchemaMismatch: a field is missing on either side, or of another type; the message names it.
    """
    path = find(record.schema_name(), record.home())
    schema = load(path)
    if problem := Comparison(schema).record(record, normal(schema), record.__name__):
        raise SchemaMismatch(f"{record.__name__} and {path.name} disagree: {problem}")
    return schema


class Comparison:
    """Compares types with parts of one schema. What it finds names the path; None means that all is well."""

    def __init__(self, schema: Schema) -> None:
        self._named: dict[str, dict[str, Any]] = {}
        self._collect(normal(schema))
        self._seen: set[tuple[type, str]] = set()  # a schema may refer to itself

    def _collect(self, schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch)
        if isinstance(schema, dict):
            if schema.get("type") in NAMED:
                self._named[schema["name"]] = schema
            for part in ("type", "items", "values"):
                self._collect(schema.get(part))
            for field in schema.get("fields", ()):
                self._collect(field["type"])

    def record(self, record: type[msgspec.Struct], schema: Schema, path: str) -> str | None:
        if not isinstance(schema, dict) or schema.get("type") != "record":
            return f"{path}: expected a record schema"
        if (record, schema["name"]) in self._seen:
            return None
        self._seen.add((record, schema["name"]))
        hints = get_type_hints(record)
        have = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(record)}
        want = {field["name"]: field["type"] for field in schema["fields"]}
        if missing := sorted(set(want) - set(have)):
            return f"{path}: the schema has {', '.join(missing)}, the class does not"
        if extra := sorted(set(have) - set(want)):
            return f"{path}: the class has {', '.join(extra)}, the schema does not"
        for name, hint in have.items():
            if problem := self.type(hint, want[name], f"{path}.{name}"):
                return problem
        return None

    def type(self, hint: Any, schema: Schema, path: str) -> str | None:
        """What is wrong with a Python type for values of a schema, or None."""
        if isinstance(schema, list):
            return self._union(hint, schema, path)
        if isinstance(schema, str) and schema in self._named:
            schema = self._named[schema]
        if get_origin(hint) in (Union, types.UnionType):
            return f"{path}: the class allows {_said(hint)}, the schema only {_name(schema)}"
        kind = schema["type"] if isinstance(schema, dict) else schema
        if hint is Any or kind in _PLAIN.get(hint, ()):
            return None
        origin, args = get_origin(hint), get_args(hint)
        if isinstance(schema, dict):
            if kind == "record" and isinstance(hint, type) and issubclass(hint, msgspec.Struct):
                return self.record(hint, schema, path)
            if kind == "array" and origin is list:
                return self.type(args[0], schema["items"], f"{path}[]")
            if kind == "map" and origin is dict and args[0] is str:
                return self.type(args[1], schema["values"], f"{path}{{}}")
            if kind == "enum" and (symbols := _symbols(hint)):
                return _symbols_problem(symbols, set(schema["symbols"]), path)
        return f"{path}: the class says {_said(hint)}, the schema {_name(schema)}"

    def _union(self, hint: Any, branches: list[Any], path: str) -> str | None:
        if hint is Any:
            return None
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if ("null" in branches) != (type(None) in options):
            allows = "allows" if "null" in branches else "does not allow"
            return f"{path}: the schema {allows} null, the class says {_said(hint)}"
        rest = [option for option in options if option is not type(None)]
        kinds = [branch for branch in branches if branch != "null"]
        if len(rest) == len(kinds) == 1:
            return self.type(rest[0], kinds[0], path)
        for kind in kinds:
            if all(self.type(option, kind, path) for option in rest):
                return f"{path}: the schema allows {_name(kind)}, the class only {_said(hint)}"
        for option in rest:
            if all(self.type(option, kind, path) for kind in kinds):
                return f"{path}: the class allows {_said(option)}, the schema only {_name(branches)}"
        return None


def _symbols_problem(have: set[str], want: set[str], path: str) -> str | None:
    for some, others, one, other in ((want, have, "schema", "class"), (have, want, "class", "schema")):
        if missing := sorted(some - others):
            return f"{path}: the {one} has {', '.join(missing)}, the {other} does not"
    return None


def _said(hint: Any) -> str:
    return str(hint) if get_args(hint) else str(getattr(hint, "__name__", hint))


def _symbols(hint: Any) -> set[str]:
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {member.value for member in hint}
    return set()


def _name(schema: Schema) -> str:
    if isinstance(schema, list):
        return " or ".join(_name(branch) for branch in schema)
    if isinstance(schema, dict):
        return str(schema.get("logicalType") or schema.get("name") or schema["type"])
    return schema
