"""Avro schemas: found by name, read from files, validated, and brought to one text by which they are compared.

Source: Apache Avro 1.12 specification, "Schema Declaration" and "Names".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from streamproc.avro.ports import Schema
from streamproc.errors import SchemaError, SchemaNotFound

NAMED = ("record", "error", "enum", "fixed")
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PACKAGE = Path(__file__).resolve().parent.parent


def find(name: str, near: Path | None = None) -> Path:
    """The file ``schemas/<name>.avsc``: upwards from ``near`` (a file or a folder), then in the current directory, then
    among the package's own (``streamproc/_schemas`` in a wheel, ``schemas`` next to the package in a checkout).

    Raises:
        SchemaNotFound: it is in none of these; the message lists them.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise SchemaNotFound(f"{name!r} is not a schema's name: give the file's name without folder and without .avsc")
    folders = list(dict.fromkeys(_folders(near)))
    for folder in folders:
        path = folder / f"{name}.avsc"
        if path.is_file():
            return path
    looked = ", ".join(map(str, folders))
    raise SchemaNotFound(f"no schema {name!r}: there is no {name}.avsc in {looked}; add it to one of these")


def load(path: str | Path) -> Schema:
    """The schema in a ``.avsc`` file.

    Raises:
        SchemaNotFound: there is no such file.
        SchemaError: it is not JSON, or not a schema; the message names the file and the place.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SchemaNotFound(f"no schema file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: cannot be read: {error}") from None
    return parse_text(text, where=str(path))


def parse_text(text: str, *, where: str = "schema") -> Schema:
    """The schema in a JSON text. Raises SchemaError that begins with ``where``, with line and column for bad JSON."""
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise SchemaError(f"{where}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise SchemaError(f"{where}: not JSON: {error}") from None
    return parse(schema, where=where)


def parse(schema: Any, *, where: str = "schema") -> Schema:
    """``schema``, once it is known to be valid. It is returned as it came, less the marks that fastavro leaves behind.

    Raises:
        SchemaError: it is not a schema; the message begins with ``where`` and names the field.
    """
    if isinstance(schema, dict) and "__fastavro_parsed" in schema:
        schema = {key: value for key, value in schema.items() if not key.startswith("__")}
    problem = _problem(schema)
    if problem:
        place = _place(schema)
        at = f"field {place!r}: " if place else ""
        raise SchemaError(f"{where}: not an Avro schema: {at}{problem}")
    return schema  # type: ignore[no-any-return]


def canonical(schema: Schema) -> str:
    """One text for all spellings of a schema: sorted keys, full names, no white space, no ``doc``.

    Unlike Avro's parsing canonical form it keeps defaults, aliases, logical types and other attributes, since a change
    of these changes what readers see. The order of fields, symbols and union branches is kept.
    """
    return json.dumps(normal(schema), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def normal(schema: Any, *, drop: tuple[str, ...] = ("doc",), namespace: str = "") -> Any:
    """``schema`` with full names everywhere and without the attributes named in ``drop``; defaults are left alone."""
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES else _full(schema, namespace)
    if isinstance(schema, list):
        return [normal(branch, drop=drop, namespace=namespace) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    out = {key: value for key, value in schema.items() if key not in drop and key != "namespace"}
    if kind in NAMED and isinstance(schema.get("name"), str):
        out["name"] = _full(schema["name"], schema.get("namespace", namespace))
        namespace = out["name"].rpartition(".")[0]
        if isinstance(out.get("aliases"), list):
            out["aliases"] = [_full(alias, namespace) for alias in out["aliases"]]
    for key in ("items", "values"):
        if key in out and kind in ("array", "map"):
            out[key] = normal(out[key], drop=drop, namespace=namespace)
    if kind in ("record", "error") and isinstance(out.get("fields"), list):
        out["fields"] = [_normal_field(field, drop, namespace) for field in out["fields"]]
    return kind if out == {"type": kind} and kind in PRIMITIVES else out


def _normal_field(field: Any, drop: tuple[str, ...], namespace: str) -> Any:
    if not isinstance(field, dict):
        return field
    out = {key: value for key, value in field.items() if key not in drop}
    out["type"] = normal(field.get("type"), drop=drop, namespace=namespace)
    default = out.get("default")
    if out["type"] in ("float", "double") and isinstance(default, int) and not isinstance(default, bool):
        out["default"] = float(default)  # JSON's 0 and 0.0 are one default
    return out


def _full(name: Any, namespace: Any) -> Any:
    return f"{namespace}.{name}" if namespace and isinstance(name, str) and "." not in name else name


def _folders(near: Path | None) -> Iterator[Path]:
    if near is not None:
        near = near.absolute()
        start = near if near.is_dir() else near.parent
        yield from (folder / "schemas" for folder in (start, *start.parents))
    yield Path.cwd() / "schemas"
    yield _PACKAGE / "_schemas"
    yield _PACKAGE.parent / "schemas"


def _problem(schema: Any) -> str:
    """What is wrong with ``schema``, or empty. Both libraries are asked: each lets pass what the other refuses."""
    for check in (_fastavro_problem, _avro_problem, _name_problem):
        problem = check(schema)
        if problem:
            return problem
    return ""


def _fastavro_problem(schema: Any) -> str:
    import fastavro

    try:
        fastavro.parse_schema(schema)
    except fastavro.schema.UnknownType as error:
        return f"unknown type {error.name!r}"
    except KeyError as error:
        return f"{error.args[0]!r} is missing"
    except TypeError:
        return "a type is a name, a list (union) or an object with a named type"
    except Exception as error:  # SchemaParseException, and what deeply broken input raises
        return str(error) or repr(error)
    return ""


def _avro_problem(schema: Any) -> str:
    import avro.errors
    import avro.schema

    try:
        # Unknown logical types are allowed (readers ignore them), but the library would warn of them.
        avro.schema.parse(json.dumps(normal(schema, drop=("doc", "logicalType"))))
    except avro.errors.AvroException as error:
        return str(error).rpartition("not a valid Avro schema: ")[2]
    return ""


def _name_problem(schema: Any) -> str:
    for name in _field_names(schema):
        if not _NAME.fullmatch(name):
            return f"the name {name!r} is not letters, digits and _ with a digit not first"
    return ""


def _field_names(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for branch in node:
            yield from _field_names(branch)
    if isinstance(node, dict):
        yield from _field_names(node.get("items"))
        yield from _field_names(node.get("values"))
        for field in node.get("fields", ()):
            yield field["name"]
            yield from _field_names(field["type"])


def _place(schema: Any) -> str:
    """The dotted path of the first field with which ``schema`` is invalid, or empty when it is so without any.

    Cuts the schema off after one field, two fields and so on, since neither library says where it stumbled.
    """
    for length in range(10_000):
        room, last = [length], [""]
        cut = _cut(schema, room, "", last)
        if _problem(cut):
            return last[0]
        if room[0]:
            break
    return ""


def _cut(node: Any, room: list[int], path: str, last: list[str]) -> Any:
    """``node`` with its first ``room[0]`` fields, counted as the text has them; ``last`` gets the last one's path."""
    if isinstance(node, list):
        return [_cut(branch, room, path, last) for branch in node]
    if not isinstance(node, dict):
        return node
    out = dict(node)
    for key, mark in (("items", "[]"), ("values", "{}")):
        if key in out:
            out[key] = _cut(out[key], room, path + mark, last)
    if not isinstance(out.get("fields"), list):
        return out
    out["fields"] = []
    for field in node["fields"]:
        if not room[0]:
            break
        room[0] -= 1
        name = str(field.get("name", "?")) if isinstance(field, dict) else "?"
        last[0] = inner = f"{path}.{name}" if path else name
        if isinstance(field, dict) and "type" in field:
            field = field | {"type": _cut(field["type"], room, inner, last)}
        out["fields"].append(field)
    return out


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
