"""Schema compatibility: whether data written with one schema can be read with another, and if not, why and what to do.

The verdict is the ``avro`` package's, for the whole and at every step; this module only walks down to where it says no,
and puts that into words. Source: Apache Avro 1.12 specification, "Schema Resolution".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from streamproc.avro.ports import Schema
from streamproc.avro.schema import NAMED, normal, parse

#: BACKWARD: the new schema reads the newest data; FORWARD: the newest reads new data; FULL: both; NONE: anything goes.
Compatibility = Literal["BACKWARD", "FORWARD", "FULL", "NONE"]
ANOTHER = "add a field of another name"


class Problem(NamedTuple):
    """One place where data written with ``writer`` cannot be read with ``reader``.

    ``path`` is dotted, empty for the whole schema; ``[]`` stands for an array's items and ``{}`` for a map's values.
    ``reader`` and ``writer`` say what each has there.
    """

    path: str
    kind: Literal["missing", "type", "branch", "name", "symbols", "size", "other"]
    reader: str
    writer: str


def find_problems(reader: Schema, writer: Schema) -> list[Problem]:
    """Every place where ``reader`` cannot read what ``writer`` wrote; empty when it can.

    Raises:
        SchemaError: one of them is not a valid schema.
    """
    r, w = _parsed(reader), _parsed(writer)
    verdict = _verdict(r, w)
    if _is_compatible(verdict):
        return []
    found = list(dict.fromkeys(_walk(r, w, "", set())))
    return found or [Problem("", "other", "; ".join(sorted(verdict.messages)), "")]


def problems(reader: Schema, writer: Schema) -> list[str]:
    """Why data written with ``writer`` cannot be read with ``reader``, each naming the field and what to do.

    Empty when it can be read.

    Raises:
        SchemaError: one of them is not a valid schema.
    """
    return [_as_new_reader(problem) for problem in find_problems(reader, writer)]


def change_problems(new: Schema, old: Schema, compatibility: Compatibility = "BACKWARD") -> list[str]:
    """Why ``new`` cannot follow ``old`` under a policy, each naming the field and what to do; empty when it can."""
    found = []
    if compatibility in ("BACKWARD", "FULL"):
        found += problems(new, old)
    if compatibility in ("FORWARD", "FULL"):
        found += [_as_new_writer(problem) for problem in find_problems(old, new)]
    return found


def _as_new_reader(problem: Problem) -> str:
    """``problem`` in words for one who is about to read old data with a new schema."""
    path, kind, reader, writer = problem
    at = f"field {path!r}" if path else "the schema"
    match kind:
        case "missing":
            return f"{at} has no default, so data written before it cannot be read: give it a default"
        case "type":
            return f"{at} was {writer} and is now {reader}, which cannot read it: keep {writer}, or {ANOTHER}"
        case "branch":
            return f"{at} may hold {writer} in older data, which {reader} cannot read: keep {writer} as a branch"
        case "name":
            return f"{at} was {writer} and is now {reader}: keep the name, or give {reader} the alias {writer!r}"
        case "symbols":
            return f"{at} lost {writer}, which older data may hold: keep the symbols, or give the enum a default"
        case "size":
            return f"{at} was {writer} bytes long and is now {reader}: keep the size, or {ANOTHER}"
    return f"{at} cannot read what was written before: {reader}"


def _as_new_writer(problem: Problem) -> str:
    """``problem`` in words for one who is about to write with a new schema what the old one's readers get."""
    path, kind, reader, writer = problem
    at = f"field {path!r}" if path else "the schema"
    match kind:
        case "missing":
            return f"{at} is gone, and readers with the old schema have no default for it: keep the field"
        case "type":
            return f"{at} was {reader} and is now {writer}, which old readers cannot read: keep {reader}, or {ANOTHER}"
        case "branch":
            return f"{at} may now hold {writer}, which old readers of {reader} cannot read: leave it out, or {ANOTHER}"
        case "name":
            return f"{at} was {reader} and is now {writer}, which old readers do not know: keep the name"
        case "symbols":
            return f"{at} gained {writer}, which old readers do not know: leave the symbols out, or {ANOTHER}"
        case "size":
            return f"{at} was {reader} bytes long and is now {writer}: keep the size, or {ANOTHER}"
    return f"{at} cannot be read with the old schema: {reader}"


def _parsed(schema: Schema) -> Any:
    """As the ``avro`` package has it. Names are made full first: its checker compares aliases as they are written."""
    import avro.schema

    # Resolution ignores logical types, and the library would warn of those it does not know.
    return avro.schema.parse(json.dumps(normal(parse(schema), drop=("doc", "logicalType"))))


def _verdict(reader: Any, writer: Any) -> Any:
    from avro.compatibility import ReaderWriterCompatibilityChecker

    return ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)


def _is_compatible(verdict: Any) -> bool:
    from avro.compatibility import SchemaCompatibilityType

    return bool(verdict.compatibility is SchemaCompatibilityType.compatible)


def _walk(reader: Any, writer: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[Problem]:
    """The places below ``reader`` and ``writer`` to which the verdict's no comes down. A pair of types comes once."""
    if (id(reader), id(writer)) in seen or _is_compatible(_verdict(reader, writer)):
        return
    seen.add((id(reader), id(writer)))
    if writer.type == "union":
        for branch in writer.schemas:
            if not _is_compatible(_verdict(reader, branch)):
                yield from _walk_branch(reader, branch, path, seen)
    elif reader.type == "union":
        yield from _walk_branch(reader, writer, path, seen)
    elif reader.type != writer.type:
        yield Problem(path, "type", _shown(reader), _shown(writer))
    elif reader.type == "array":
        yield from _walk(reader.items, writer.items, path + "[]", seen)
    elif reader.type == "map":
        yield from _walk(reader.values, writer.values, path + "{}", seen)
    else:
        yield from _walk_named(reader, writer, path, seen)


def _walk_branch(reader: Any, branch: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[Problem]:
    """A type that the writer may write and no branch of ``reader`` reads: looks into the branch meant for it."""
    options = reader.schemas if reader.type == "union" else [reader]
    like = [option for option in options if option.type == branch.type and branch.type in (*NAMED, "array", "map")]
    like = [option for option in like if getattr(option, "name", "") == getattr(branch, "name", "")] or like
    if len(like) == 1:
        yield from _walk(like[0], branch, path, seen)
    else:
        yield Problem(path, "branch", _shown(reader), _shown(branch))


def _walk_named(reader: Any, writer: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[Problem]:
    from avro import compatibility as avro

    if not avro.schema_name_equals(reader, writer):
        yield Problem(path, "name", reader.fullname, writer.fullname)
    if reader.type == "enum" and not _is_compatible(avro.check_reader_enum_contains_writer_enum(reader, writer, [])):
        gone = ", ".join(symbol for symbol in writer.symbols if symbol not in reader.symbols)
        yield Problem(path, "symbols", _shown(reader), gone)
    if reader.type == "fixed" and not _is_compatible(avro.check_fixed_size(reader, writer, [])):
        yield Problem(path, "size", str(reader.size), str(writer.size))
    if reader.type not in ("record", "error"):
        return
    for field in reader.fields:
        inner = f"{path}.{field.name}" if path else field.name
        written = avro.lookup_writer_field(writer, field)
        if written is not None:
            yield from _walk(field.type, written.type, inner, seen)
        elif not field.has_default:
            yield Problem(inner, "missing", _shown(field.type), "")


def _shown(schema: Any) -> str:
    """A type as an error message has it."""
    if schema.type == "union":
        return "[" + ", ".join(_shown(branch) for branch in schema.schemas) + "]"
    if schema.type in NAMED:
        return f"{schema.type} {schema.fullname}"
    if schema.type in ("array", "map"):
        return f"{schema.type} of {_shown(schema.items if schema.type == 'array' else schema.values)}"
    return str(schema.type)
