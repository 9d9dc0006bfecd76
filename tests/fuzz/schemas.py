"""Random Avro: readers' schemas, writers' schemas that have moved away from them, and data.

All chance comes from one ``random.Random``: the same seed makes the same, and Hypothesis may lend its own. Data are
written here byte by byte, not by a library, so that they hold what no writer would say but every reader must take.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import fastavro

PLAIN = ("boolean", "int", "long", "float", "double", "string", "bytes")
_LOGICAL = {
    "int": ("date", "time-millis"),
    "long": ("timestamp-millis", "timestamp-micros"),
    "string": ("uuid",),
    "bytes": ("decimal",),
}
#: What a reader's type may have been when it was written.
_NARROWER = {
    "long": ("int",),
    "float": ("int", "long"),
    "double": ("int", "long", "float"),
    "string": ("bytes",),
    "bytes": ("string",),
}
_LONGS = (0, -1, 1, 63, 64, -64, -65, 127, 1 << 31, -(1 << 31), (1 << 31) - 1, (1 << 63) - 1, -(1 << 63), 1 << 53)
_DOUBLES = (0.0, -0.0, 1.5, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"), 0.1)
_DEEPEST = 30
_TEXTS = ("", "a", "é", "日本", "🎉", "x" * 40, "y" * 200, "\0", "null")


class Schemas:
    """Makes schemas."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._names = 0
        self._open: list[str] = []  # the records around the place that is being made

    def reader(self) -> dict[str, Any]:
        """A record, half of the time a flat one."""
        flat = self._chance.random() < 0.5
        self._names, self._open = 0, ["test.Thing"]
        count = self._chance.choice((1, 2, 3, 5, 8))
        fields = [self._field(f"f{i}", flat) for i in range(count)]
        if self._chance.random() < 0.1:
            fields[0]["name"] = self._chance.choice(("kafka__len", "kafka__key", "offsets"))
        return {"type": "record", "name": "Thing", "namespace": "test", "fields": fields}

    def writer(self, reader: dict[str, Any]) -> dict[str, Any]:
        """A schema that data for ``reader`` may have been written with; not always one that it can read."""
        made = self._moved(copy.deepcopy(reader))
        try:
            fastavro.parse_schema(copy.deepcopy(made))
            Data(made, random.Random(0)).datum()
        except Exception:  # a name lost its definition, or a record holds itself
            return copy.deepcopy(reader)
        return made  # type: ignore[no-any-return]

    def _field(self, name: str, flat: bool) -> dict[str, Any]:
        kind = self._kind(flat, 0)
        field = {"name": name, "type": kind}
        if self._chance.random() < 0.3:
            field["aliases"] = [f"old_{name}"]
        if self._chance.random() < 0.4 and (default := _default(kind, self._chance)) is not _NO_DEFAULT:
            field["default"] = default
        return field

    def _kind(self, flat: bool, depth: int) -> Any:
        draw = self._chance.random()
        if draw < 0.55 or (flat and draw < 0.65):
            kind = self._chance.choice(PLAIN)
            if kind in _LOGICAL and self._chance.random() < 0.2:
                return {"type": kind, "logicalType": self._chance.choice(_LOGICAL[kind]), "precision": 9, "scale": 2}
            return kind
        if draw < 0.62:
            return {"type": "fixed", "name": self._name(), "size": self._chance.choice((0, 1, 4, 16))}
        if flat or draw < 0.75:
            inner = self._chance.choice(PLAIN)
            return [inner, "null"] if self._chance.random() < 0.4 else ["null", inner]
        if depth > 2:
            return "null"
        return self._nested(depth)

    def _nested(self, depth: int) -> Any:
        inside: Callable[[], Any] = lambda: self._kind(False, depth + 1)  # noqa: E731
        match self._chance.choice(("enum", "array", "map", "record", "union", "again", "null")):
            case "enum":
                symbols = ["A", "B", "C", "D"][: self._chance.randint(1, 4)]
                made = {"type": "enum", "name": self._name(), "symbols": symbols}
                return made | {"default": "A"} if self._chance.random() < 0.4 else made
            case "array":
                return {"type": "array", "items": inside()}
            case "map":
                return {"type": "map", "values": inside()}
            case "record":
                name = self._name()
                self._open.append(f"test.{name}")
                fields = [{"name": f"g{i}", "type": inside()} for i in range(self._chance.randint(0, 3))]
                self._open.pop()
                return {"type": "record", "name": name, "fields": fields}
            case "union":
                return _union([inside() for _ in range(self._chance.randint(1, 4))])
            case "again":
                again = self._chance.choice(self._open)
                return ["null", again] if self._chance.random() < 0.5 else {"type": "array", "items": again}
        return "null"

    def _name(self) -> str:
        self._names += 1
        return f"N{self._names}"

    def _moved(self, schema: Any) -> Any:
        chance = self._chance
        if isinstance(schema, list):
            branches = _union([self._moved(branch) for branch in schema])
            draw = chance.random()
            if draw < 0.1:
                chance.shuffle(branches)
            return branches[-1] if 0.1 < draw < 0.2 else branches
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind in PLAIN:
            draw = chance.random()
            if draw < 0.15 and kind in _NARROWER:
                return chance.choice(_NARROWER[kind])
            if draw < 0.18:
                return chance.choice(PLAIN)
            return ["null", schema] if draw < 0.22 else schema
        match kind:
            case "array":
                schema["items"] = self._moved(schema["items"])
            case "map":
                schema["values"] = self._moved(schema["values"])
            case "enum" if chance.random() < 0.3:
                schema["symbols"] = chance.sample(["A", "B", "C", "D", "E"], chance.randint(1, 5))
                schema.pop("default", None)
            case "fixed" if chance.random() < 0.05:
                schema["size"] += 1
            case "record":
                self._move_fields(schema)
        return schema

    def _move_fields(self, record: dict[str, Any]) -> None:
        chance, kept = self._chance, []
        for field in record["fields"]:
            if chance.random() < (0.2 if "default" in field else 0.03):
                continue
            moved = {"name": field["name"], "type": self._moved(field["type"])}
            if "aliases" in field and chance.random() < 0.4:
                moved["name"] = field["aliases"][0]
            kept.append(moved)
        if chance.random() < 0.3:
            self._names += 100
            kept.insert(chance.randint(0, len(kept)), {"name": f"extra{self._names}", "type": self._kind(False, 1)})
        if chance.random() < 0.2:
            chance.shuffle(kept)
        record["fields"] = kept


_NO_DEFAULT = object()


def _default(kind: Any, chance: random.Random) -> Any:
    if isinstance(kind, list):
        return _default(kind[0], chance) if kind else _NO_DEFAULT
    logical = isinstance(kind, dict) and "logicalType" in kind
    defaults = {
        "null": (None,),
        "boolean": (True, False),
        "int": (0, -7, (1 << 31) - 1),
        "long": (0, 1 << 40, -(1 << 63)),
        "float": (0.5, -1.0, 0.1, 3),
        "double": (0.1, 1e200, 3),
        "string": ("", "none", "é"),
        "bytes": ("", "raw", "\x00\xff"),
    }
    name = kind["type"] if logical else kind
    return chance.choice(defaults[name]) if isinstance(name, str) and name in defaults else _NO_DEFAULT


def _union(branches: list[Any]) -> list[Any]:
    """A union of those branches that may stand beside one another."""
    kept: dict[str, Any] = {}
    for branch in branches:
        for each in branch if isinstance(branch, list) else [branch]:
            kind = each if isinstance(each, str) else each["type"]
            kept.setdefault(each["name"] if not isinstance(each, str) and "name" in each else kind, each)
    return list(kept.values())


class Data:
    """Writes random data of a schema."""

    def __init__(self, schema: dict[str, Any], chance: random.Random) -> None:
        self._chance = chance
        self._schema = schema
        self._named: dict[str, Any] = {}
        self._out = bytearray()

    def datum(self) -> bytes:
        """One value of the schema. Raises RecursionError for a schema that has no end."""
        self._out.clear()
        self._write(self._schema, 0)
        return bytes(self._out)

    def _write(self, schema: Any, depth: int) -> None:
        chance, out = self._chance, self._out
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(schema, list):
            index = chance.randrange(len(schema))
            if depth > 6 and "null" in schema:
                index = schema.index("null")
            out += varint(index)
            self._write(schema[index], depth)
            return
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind in self._named:
            schema, kind = self._named[kind], self._named[kind]["type"]
        elif isinstance(schema, dict) and "name" in schema:
            self._named[schema["name"]] = self._named[f"test.{schema['name']}"] = schema
        match kind:
            case "boolean":
                out.append(chance.randint(0, 1))
            case "int":
                out += varint(chance.choice([n for n in _LONGS if -(1 << 31) <= n < 1 << 31]))
            case "long":
                out += varint(chance.choice(_LONGS), chance.choice((0, 0, 0, 0, 3)))
            case "float":
                with_nan = chance.choice(_DOUBLES)
                out += struct.pack("<f", with_nan if abs(with_nan) < 1e38 or with_nan * 0 != 0 else 2.5)
            case "double":
                out += struct.pack("<d", chance.choice(_DOUBLES))
            case "string":
                self._bytes(chance.choice(_TEXTS).encode())
            case "bytes":
                self._bytes(chance.choice((b"", b"\xff\xfe", b"text", b"\0" * 70)))
            case "fixed":
                out += chance.randbytes(schema["size"])
            case "enum":
                out += varint(chance.randrange(len(schema["symbols"])))
            case "array" | "map":
                self._blocks(schema, kind, depth)
            case "record":
                for field in schema["fields"]:
                    self._write(field["type"], depth + 1)

    def _bytes(self, data: bytes) -> None:
        self._out += varint(len(data)) + data

    def _blocks(self, schema: dict[str, Any], kind: str, depth: int) -> None:
        for _ in range(0 if depth > 4 else self._chance.choice((0, 1, 1, 2))):
            count = self._chance.choice((1, 1, 2, 3))
            outer, self._out = self._out, bytearray()
            for _ in range(count):
                if kind == "map":
                    self._bytes(self._chance.choice(_TEXTS).encode())
                self._write(schema["items" if kind == "array" else "values"], depth + 1)
            block, self._out = self._out, outer
            if self._chance.random() < 0.4:
                self._out += varint(-count) + varint(len(block)) + block  # so that a reader may skip it
            else:
                self._out += varint(count) + block
        self._out.append(0)


def varint(value: int, size: int = 0) -> bytes:
    """A zig-zag varint, in ``size`` bytes where that is more than it needs."""
    value = (value << 1 ^ value >> 63) & (1 << 64) - 1
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


class Malformed(Exception):
    """Data are not of their schema."""


class Walker:
    """Walks over data of a schema by the letter of the specification, where readers are lenient."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._named: dict[str, Any] = {}
        self._data = b""
        self._at = self._steps = 0

    def takes(self, data: bytes) -> bool:
        """Whether the data are one value of the schema, of no unusual depth or length."""
        self._data, self._at, self._steps = data, 0, 0
        try:
            self._walk(self._schema, 0)
        except (Malformed, UnicodeDecodeError):
            return False
        return self._at == len(data)

    def _walk(self, schema: Any, depth: int) -> None:
        self._steps += 1
        if depth > 60 or self._steps > 100_000:
            raise Malformed
        if isinstance(schema, list):
            self._walk(schema[self._index(len(schema))], depth)
            return
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind in self._named:
            schema, kind = self._named[kind], self._named[kind]["type"]
        elif isinstance(schema, dict) and "name" in schema:
            self._named[schema["name"]] = self._named[f"test.{schema['name']}"] = schema
        match kind:
            case "boolean":
                if self._take(1)[0] > 1:
                    raise Malformed
            case "int":
                if self._long() not in range(-(1 << 31), 1 << 31):
                    raise Malformed
            case "long":
                self._long()
            case "float" | "double":
                self._take(4 if kind == "float" else 8)
            case "string":
                self._take(self._long()).decode()
            case "bytes":
                self._take(self._long())
            case "fixed":
                self._take(schema["size"])
            case "enum":
                self._index(len(schema["symbols"]))
            case "array" | "map":
                while count := self._long():
                    size = self._long() if count < 0 else None
                    start = self._at
                    for _ in range(abs(count)):
                        if kind == "map":
                            self._take(self._long()).decode()
                        self._walk(schema["items" if kind == "array" else "values"], depth + 1)
                    if size not in (None, self._at - start):
                        raise Malformed
            case "record":
                for field in schema["fields"]:
                    self._walk(field["type"], depth + 1)

    def _index(self, below: int) -> int:
        if (index := self._long()) not in range(below):
            raise Malformed
        return index

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self._at:
            raise Malformed
        self._at += size
        return self._data[self._at - size : self._at]

    def _long(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return (value >> 1) ^ -(value & 1)
        raise Malformed


def bare(schema: Any) -> Any:
    """The schema without logical types: fastavro would turn their values into others."""
    text = json.loads(json.dumps(schema))
    return _bare(text)


def _bare(node: Any) -> Any:
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in ("logicalType", "precision", "scale")}
    for part in ("type", "items", "values"):
        if part in kept:
            kept[part] = _bare(kept[part])
    if "fields" in kept:
        kept["fields"] = [_bare(field) for field in kept["fields"]]
    return kept


def parsed(schema: dict[str, Any]) -> Any:
    """The schema as fastavro takes it, with defaults that are values: it would give what JSON has."""
    made = fastavro.parse_schema(bare(schema))
    _type_defaults(made)
    return made


def _type_defaults(node: Any) -> None:
    if isinstance(node, list):
        for each in node:
            _type_defaults(each)
    elif isinstance(node, dict):
        for part in ("type", "items", "values"):
            _type_defaults(node.get(part))
        for field in node.get("fields", ()):
            _type_defaults(field["type"])
            if "default" in field:
                field["default"] = _typed(field["default"], field["type"])


def _typed(default: Any, kind: Any) -> Any:
    """A field's default as the value that it stands for; fastavro gives what JSON has."""
    first = kind[0] if isinstance(kind, list) else kind  # a default is of a union's first branch
    name = first["type"] if isinstance(first, dict) else first
    if name in ("bytes", "fixed"):
        return default.encode("latin-1")
    return float(default) if name in ("float", "double") else default
