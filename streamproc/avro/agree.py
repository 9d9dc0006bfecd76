"""Record types against their schemas: the two must say the same."""

from __future__ import annotations

import types
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from streamproc.avro.ports import Schema
from streamproc.avro.schema import find, load
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
    if problem := _record(record, schema, record.__name__):
        raise SchemaMismatch(f"{record.__name__} and {path.name} disagree: {problem}")
    return schema


def _record(record: type[msgspec.Struct], schema: Schema, path: str) -> str | None:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return f"{path}: expected a record schema"
    hints = get_type_hints(record)
    have = {field.encode_name: (hints[field.name], field) for field in msgspec.structs.fields(record)}
    want = {field["name"]: field for field in schema["fields"]}
    if missing := sorted(set(want) - set(have)):
        return f"{path}: the schema has {', '.join(missing)}, the class does not"
    if extra := sorted(set(have) - set(want)):
        return f"{path}: the class has {', '.join(extra)}, the schema does not"
    for name, (hint, _) in have.items():
        if problem := _type(hint, want[name]["type"], f"{path}.{name}"):
            return problem
    return None


def _type(hint: Any, schema: Schema, path: str) -> str | None:
    """What is wrong with a Python type for values of a schema, or None."""
    if isinstance(schema, list):
        return _union(hint, schema, path)
    if get_origin(hint) in (Union, types.UnionType):
        return f"{path}: the class allows {hint}, the schema only {_name(schema)}"
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, (dict, list)):
        return _type(hint, kind, path)
    if hint is Any or kind in _PLAIN.get(hint, ()):
        return None
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(schema, dict):
        if kind == "record" and isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return _record(hint, schema, path)
        if kind == "array" and origin is list:
            return _type(args[0], schema["items"], f"{path}[]")
        if kind == "map" and origin is dict and args[0] is str:
            return _type(args[1], schema["values"], f"{path}{{}}")
        if kind == "enum" and _symbols(hint) == set(schema["symbols"]):
            return None
    return f"{path}: the class says {getattr(hint, '__name__', hint)}, the schema {_name(schema)}"


def _union(hint: Any, branches: list[Any], path: str) -> str | None:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if hint is Any:
        return None
    if ("null" in branches) != (type(None) in options):
        return f"{path}: the schema {'allows' if 'null' in branches else 'does not allow'} null, the class says {hint}"
    rest = [option for option in options if option is not type(None)]
    for branch in branches:
        if branch != "null" and all(_type(option, branch, path) for option in rest):
            return f"{path}: the schema allows {_name(branch)}, the class only {hint}"
    for option in rest:
        if all(_type(option, branch, path) for branch in branches if branch != "null"):
            return f"{path}: the class allows {option}, the schema only {[_name(b) for b in branches]}"
    return None


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
