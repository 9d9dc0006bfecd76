"""Hypothesis strategies: Avro schemas of every kind, values of them, their bytes in every form that Avro allows, and
readers' schemas that differ from the writer's.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from hypothesis import strategies as st

Schema = Any
NAMES = "abcdefgh"
PLAIN = ("boolean", "int", "long", "float", "double", "string", "bytes")
_LONGS = st.integers(-100, 100) | st.integers(-(2**63), 2**63 - 1)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-70, 70) | st.integers(-(2**31), 2**31 - 1),
    "long": _LONGS,
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(max_size=12),
    "bytes": st.binary(max_size=12),
}
_WIDER = {
    "int": ["long", "float", "double"],
    "long": ["float", "double"],
    "float": ["double"],
    "string": ["bytes"],
    "bytes": ["string"],
}


class _Drawer:
    """Draws one schema: names of types are used once, and may be referred to afterwards."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._count = 0
        self._open: list[str] = []  # records that may refer to themselves
        self._done: list[str] = []

    def record(self, depth: int, *, most: int = 4) -> Schema:
        name = self._name("R")
        self._open.append(name)
        names = self._draw(st.lists(st.sampled_from(NAMES), min_size=depth, max_size=most, unique=True))
        fields = [{"name": field, "type": self.any(depth - 1)} for field in names]
        self._open.pop()
        self._done.append(name)
        return {"type": "record", "name": name, "fields": fields}

    def any(self, depth: int) -> Schema:
        if depth <= 0 or self._draw(st.integers(0, 9)) < 5:
            return self.plain()
        kinds = ["enum", "fixed", "array", "map", "record", "union", "self", "again", "logical", "nullable"]
        return getattr(self, self._draw(st.sampled_from(kinds)))(depth)

    def plain(self) -> Schema:
        kind = self._draw(st.sampled_from(PLAIN))
        return self._draw(st.sampled_from([kind, kind, ["null", kind], [kind, "null"]]))

    def nullable(self, depth: int) -> Schema:
        return self._draw(st.permutations(["null", self._draw(st.sampled_from([self.enum, self.fixed]))(depth)]))

    def logical(self, depth: int) -> Schema:
        return self._draw(
            st.sampled_from(
                [
                    {"type": "long", "logicalType": "timestamp-millis"},
                    {"type": "int", "logicalType": "date"},
                    {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
                    {"type": "string", "avro.java.string": "String"},
                ]
            )
        )

    def enum(self, depth: int) -> Schema:
        symbols = self._draw(st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, unique=True))
        return {"type": "enum", "name": self._name("E"), "symbols": symbols}

    def fixed(self, depth: int) -> Schema:
        return {"type": "fixed", "name": self._name("F"), "size": self._draw(st.integers(0, 9))}

    def array(self, depth: int) -> Schema:
        items = "null" if self._draw(st.integers(0, 5)) == 0 else self.any(depth - 1)
        return {"type": "array", "items": items}

    def map(self, depth: int) -> Schema:
        return {"type": "map", "values": self.any(depth - 1)}

    def union(self, depth: int) -> Schema:
        branches: list[Schema] = self._draw(st.lists(st.sampled_from(("null", *PLAIN)), min_size=1, unique=True))
        for more in self._draw(st.lists(st.sampled_from([self.enum, self.fixed, self.array, self.record]), max_size=2)):
            made = more(depth - 1)
            if not any(isinstance(b, dict) and b["type"] == made["type"] == "array" for b in branches):
                branches.append(made)
        return branches

    def self(self, depth: int) -> Schema:
        name = self._draw(st.sampled_from(self._open))
        return self._draw(
            st.sampled_from([["null", name], {"type": "array", "items": name}, {"type": "map", "values": name}])
        )

    def again(self, depth: int) -> Schema:
        return self._draw(st.sampled_from(self._done)) if self._done else self.plain()

    def _name(self, kind: str) -> str:
        self._count += 1
        name = f"{kind}{self._count}"
        if kind != "R":
            self._done.append(name)
        return name


@st.composite
def records(draw: Any, *, depth: int = 3, most: int = 5) -> Schema:
    """A record's schema of every kind of field."""
    return _Drawer(draw).record(depth, most=most)


@st.composite
def plain_records(draw: Any, *, most: int = 5) -> Schema:
    """A record's schema with plain fields, each perhaps nullable."""
    return _Drawer(draw).record(1, most=most)


def named(schema: Schema) -> dict[str, Schema]:
    """The named types of a schema."""
    found: dict[str, Schema] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= named(branch)
    if isinstance(schema, dict):
        if "name" in schema and schema["type"] in ("record", "enum", "fixed"):
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            found |= named(field["type"])
        for part in ("items", "values"):
            found |= named(schema.get(part))
    return found


@st.composite
def values(draw: Any, schema: Schema, *, depth: int = 6) -> Any:
    """A value of a schema; of a union ``(branch, value)``."""
    return _value(draw, schema, named(schema), depth)


def _value(draw: Any, schema: Schema, names: dict[str, Schema], depth: int) -> Any:
    if isinstance(schema, str):
        schema = names.get(schema, schema)
    if isinstance(schema, list):
        branch = draw(st.integers(0, len(schema) - 1))
        if depth <= 0 and "null" in schema:
            branch = schema.index("null")
        return branch, _value(draw, schema[branch], names, depth - 1)
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "record":
            return {f["name"]: _value(draw, f["type"], names, depth - 1) for f in schema["fields"]}
        case "array":
            return [_value(draw, schema["items"], names, depth - 1) for _ in range(_size(draw, depth))]
        case "map":
            return {str(i): _value(draw, schema["values"], names, depth - 1) for i in range(_size(draw, depth))}
        case "enum":
            return draw(st.integers(0, len(schema["symbols"]) - 1))
        case "fixed":
            return draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
    return draw(_VALUES[kind])


def _size(draw: Any, depth: int) -> int:
    return int(draw(st.integers(0, 3))) if depth > 0 else 0


def encode(schema: Schema, value: Any, rng: random.Random, *, odd: bool = False) -> bytes:
    """A value's bytes; ``odd`` ones are as good: arrays in several blocks, with their sizes or without, and numbers
    longer than they need be.
    """
    return _Encoder(named(schema), rng, odd).any(schema, value)


class _Encoder:
    def __init__(self, names: dict[str, Schema], rng: random.Random, odd: bool) -> None:
        self._names, self._rng, self._odd = names, rng, odd

    def any(self, schema: Schema, value: Any) -> bytes:
        if isinstance(schema, str):
            schema = self._names.get(schema, schema)
        if isinstance(schema, list):
            return self._long(value[0]) + self.any(schema[value[0]], value[1])
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "null":
                return b""
            case "boolean":
                return bytes([value])
            case "int" | "long" | "enum":
                return self._long(value)
            case "float" | "double":
                return struct.pack("<f" if kind == "float" else "<d", value)
            case "string" | "bytes":
                data = value.encode() if isinstance(value, str) else value
                return self._long(len(data)) + data
            case "fixed":
                return bytes(value)
            case "record":
                return b"".join(self.any(field["type"], value[field["name"]]) for field in schema["fields"])
            case "array":
                return self._blocks([self.any(schema["items"], item) for item in value])
            case "map":
                return self._blocks(
                    [self.any("string", key) + self.any(schema["values"], item) for key, item in value.items()]
                )
        raise ValueError(kind)

    def _blocks(self, items: list[bytes]) -> bytes:
        out = b""
        while items:
            size = self._rng.randint(1, len(items)) if self._odd else len(items)
            block = b"".join(items[:size])
            if self._odd and self._rng.random() < 0.5:
                out += self._long(-size) + self._long(len(block)) + block
            else:
                out += self._long(size) + block
            items = items[size:]
        return out + self._long(0)

    def _long(self, value: int) -> bytes:
        zigzag = (value << 1) ^ (value >> 63)
        out = bytearray()
        while zigzag > 0x7F:
            out.append(zigzag & 0x7F | 0x80)
            zigzag >>= 7
        out.append(zigzag)
        if self._odd and len(out) < 9 and self._rng.random() < 0.2:
            out[-1] |= 0x80
            out.append(0)
        return bytes(out)


@st.composite
def readers(draw: Any, writer: Schema) -> Schema:
    """A reader's schema of the same record: fields gone, come, renamed, moved, of wider types, in unions or out of
    them; not always one that can be resolved.
    """
    fields = []
    for field in writer["fields"]:
        changed = draw(st.sampled_from(["same", "same", "same", "gone", "renamed", "wider", "wider", "union"]))
        if changed == "gone" and len(writer["fields"]) > 1:
            continue
        kind = field["type"]
        if changed == "wider":
            kind = _wider(draw, kind)
        if changed == "union":
            kind = draw(st.sampled_from([["null", kind], [kind, "null"]])) if isinstance(kind, str) else kind
            if isinstance(kind, list) and draw(st.integers(0, 3)) == 0:
                kind = draw(st.sampled_from(kind))
        more = {"name": field["name"] + "_new", "aliases": [field["name"]]} if changed == "renamed" else {}
        fields.append({**field, "type": kind, **more})
    for name in draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True)):
        kind, default = draw(st.sampled_from(DEFAULTS))
        fields.append({"name": name, "type": kind, "default": default})
    if draw(st.integers(0, 19)) == 0:
        fields.append({"name": "without_default", "type": "long"})
    reader = {**writer, "fields": draw(st.permutations(fields))}
    return _once(reader, named(writer) | named(reader), set())


DEFAULTS: list[tuple[Schema, Any]] = [
    ("long", 7),
    ("int", -1),
    ("double", 0),
    ("float", 1.5),
    ("boolean", True),
    ("string", "é"),
    ("bytes", "ÿ\u0000"),
    (["null", "long"], None),
    (["long", "null"], 3),
    (["double", "null"], 3),
    (["null", "string"], None),
    (["bytes", "null"], "ÿ"),
    (["null", "boolean"], None),
    ({"type": "array", "items": "long"}, []),
]


def _wider(draw: Any, kind: Schema) -> Schema:
    if isinstance(kind, list):
        wider = [_wider(draw, branch) for branch in kind]
        return kind if any(wider.count(branch) > 1 for branch in wider) else wider
    if isinstance(kind, dict) and kind["type"] == "enum":
        symbols = draw(st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, unique=True))
        return {**kind, "symbols": symbols, **draw(st.sampled_from([{}, {"default": symbols[0]}]))}
    if isinstance(kind, dict) and kind["type"] == "array":
        return {**kind, "items": _wider(draw, kind["items"])}
    if isinstance(kind, dict) and kind["type"] == "map":
        return {**kind, "values": _wider(draw, kind["values"])}
    return draw(st.sampled_from([kind, *_WIDER.get(kind, ())])) if isinstance(kind, str) else kind


def _once(schema: Schema, names: dict[str, Schema], seen: set[str]) -> Schema:
    """The same schema with every named type defined where it comes first."""
    if isinstance(schema, str) and schema in names and schema not in seen:
        schema = names[schema]
    if isinstance(schema, list):
        return [_once(branch, names, seen) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("name") in names:
        if schema["name"] in seen:
            return schema["name"]
        seen.add(schema["name"])
    out = dict(schema)
    for part in ("items", "values"):
        if part in out:
            out[part] = _once(out[part], names, seen)
    if "fields" in out:
        out["fields"] = [{**field, "type": _once(field["type"], names, seen)} for field in out["fields"]]
    return out
