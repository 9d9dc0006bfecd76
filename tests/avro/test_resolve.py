"""Avro's resolution rules, one by one: the row way, the compiled way and fastavro itself agree."""

from __future__ import annotations

import io
import random
from typing import Any

import fastavro
import pytest

from streamproc.avro.blocks import BlockDecoder
from streamproc.avro.codec import FRAME
from streamproc.avro.defaults import with_defaults
from streamproc.avro.layout import Layout
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.resolve import Fields, Resolution
from tests.avro.block_kit import BY_ROWS, agrees, codec_for, plain_fields
from tests.avro.kit import field, schema_of_fields
from tests.avro.strategies import encode
from tests.log.wire import Row, batch

pytest.importorskip("numba")


def read(writer: Any, reader: Any, value: Any) -> tuple[list[Any], list[str]]:
    """The reader's plain fields of one value, and what is wrong with it; by every way."""
    registry = MemoryRegistry(compatibility="NONE")
    codec = codec_for(reader, registry)
    wire = encode(writer, value, random.Random(1))
    rows: list[Row] = [(0, 0, b"k", FRAME.pack(0, registry.register("elsewhere", writer)) + wire, [])]
    wanted = frozenset(plain_fields(reader))
    by_rows = BlockDecoder("t", codec, wanted, few=BY_ROWS).decode(0, [batch(rows)], 0)
    found = agrees(codec, [batch(rows)], by_rows, wanted, compiled=True)
    assert found.row_rows == 0  # what is good needs no second reader
    values = [found.batches[0][name].to_list()[0] for name in plain_fields(reader)] if found.batches else []
    if found.batches and not any("default" in f for f in reader["fields"]):
        theirs = fastavro.schemaless_reader(
            io.BytesIO(wire), fastavro.parse_schema(writer), fastavro.parse_schema(reader)
        )
        assert repr(values) == repr([theirs[name] for name in plain_fields(reader)])  # type: ignore[index,call-overload]
    return values, [str(bad.error) for bad in found.bad]


def one(writer: Any, reader: Any, value: Any) -> tuple[list[Any], list[str]]:
    return read(schema_of_fields(field("a", writer)), schema_of_fields(field("a", reader)), {"a": value})


@pytest.mark.parametrize(
    ("writer", "reader", "value", "expected"),
    [
        ("int", "long", -7, -7),
        ("int", "float", 2**24 + 1, 2.0**24 + 1),
        ("int", "double", -1, -1.0),
        ("long", "float", 2**53 + 1, 2.0**53),
        ("long", "double", 2**63 - 1, 2.0**63),
        ("float", "double", 0.5, 0.5),
        ("string", "bytes", "é", b"\xc3\xa9"),
        ("bytes", "string", b"\xc3\xa9", "é"),
        ("int", ["null", "long"], 5, 5),
        ("int", ["double", "null"], 5, 5.0),
        (["null", "int"], ["long", "null"], (1, 5), 5),
        (["null", "int"], ["long", "null"], (0, None), None),
        (["null", "int"], "long", (1, 5), 5),
        (["int", "string"], ["null", "double"], (0, 5), 5.0),
        (["int", "long", "float", "double"], "double", (2, 1.5), 1.5),
        (["bytes", "string"], "string", (0, b"x"), "x"),
    ],
)
def test_promotions_and_unions(writer: Any, reader: Any, value: Any, expected: Any) -> None:
    (found,), bad = one(writer, reader, value)
    assert repr(found) == repr(expected)
    assert not bad


@pytest.mark.parametrize(
    ("writer", "reader", "value"),
    [
        ("long", "int", 5),
        ("double", "float", 0.5),
        ("string", "long", "x"),
        ("boolean", "int", True),
        ("bytes", "string", b"\xff"),
        (["null", "int"], "long", (0, None)),
        (["int", "string"], ["null", "double"], (1, "x")),
    ],
)
def test_what_cannot_be_resolved(writer: Any, reader: Any, value: Any) -> None:
    found, bad = one(writer, reader, value)
    assert found == []
    assert len(bad) == 1


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


@pytest.mark.parametrize(
    ("writer", "reader", "value", "good"),
    [
        (enum("A", "B"), enum("B", "A"), 1, True),
        (enum("A", "B"), enum("A"), 0, True),
        (enum("A", "B"), enum("A"), 1, False),
        (enum("A", "B"), enum("A", default="A"), 1, True),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 2}, b"ab", True),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, b"ab", False),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "G", "size": 2}, b"ab", False),
        (
            {"type": "fixed", "name": "F", "size": 2},
            {"type": "fixed", "name": "G", "size": 2, "aliases": ["F"]},
            b"ab",
            True,
        ),
        (
            {"type": "fixed", "name": "F", "namespace": "x", "size": 2},
            {"type": "fixed", "name": "F", "namespace": "y", "size": 2},
            b"ab",
            True,
        ),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [1, 2], True),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "string"}, [1], False),
        ({"type": "array", "items": ["int", "null"]}, {"type": "array", "items": "long"}, [(0, 1)], True),
        ({"type": "array", "items": ["int", "null"]}, {"type": "array", "items": "long"}, [(1, None)], False),
        ({"type": "map", "values": "int"}, {"type": "map", "values": ["null", "long"]}, {"k": 1}, True),
        ({"type": "map", "values": "int"}, {"type": "array", "items": "int"}, {}, False),
        ({"type": "array", "items": "null"}, {"type": "array", "items": ["null", "int"]}, [None], True),
        ({"type": "array", "items": "null"}, {"type": "array", "items": "int"}, [], False),
        (enum("A"), {"type": "fixed", "name": "E", "size": 1}, 0, False),
    ],
)
def test_types_beside_the_columns(writer: Any, reader: Any, value: Any, good: bool) -> None:
    mine = schema_of_fields(field("x", writer), field("n", "long"))
    theirs = schema_of_fields(field("n", "long"), field("x", reader))
    registry = MemoryRegistry(compatibility="NONE")
    codec = codec_for(theirs, registry)
    wire = FRAME.pack(0, registry.register("elsewhere", mine)) + encode(mine, {"x": value, "n": 9}, random.Random(1))
    parts = [batch([(0, 0, b"k", wire, [])])]
    wanted = frozenset({"n"})
    by_rows = BlockDecoder("t", codec, wanted, few=BY_ROWS).decode(0, parts, 0)
    found = agrees(codec, parts, by_rows, wanted, compiled=True)
    if good:
        assert found.batches[0]["n"].to_list() == [9]
        if writer != {"type": "array", "items": "null"}:
            assert found.block_rows == 1
    assert len(found.bad) == (not good)


def test_fields_by_name_alias_and_default() -> None:
    writer = schema_of_fields(field("gone", "string"), field("old", "int"), field("b", "bytes"))
    reader = schema_of_fields(
        field("b", "bytes"),
        field("new", "double", aliases=["old"]),
        field("s", "string", default="é"),
        field("raw", "bytes", default="ÿ"),
        field("half", ["double", "null"], default=1),
        field("none", ["null", "string"], default=None),
        field("yes", "boolean", default=True),
    )
    found, bad = read(writer, reader, {"gone": "x", "old": 3, "b": b"\x01"})
    assert repr(found) == repr([b"\x01", 3.0, "é", b"\xff", 1.0, None, True])
    assert not bad


@pytest.mark.parametrize("kind", ["long", {"type": "array", "items": "long"}])  # wanted, and not
def test_a_field_without_default_that_nobody_wrote(kind: Any) -> None:
    reader = schema_of_fields(field("a", "long"), field("b", kind))
    found, bad = read(schema_of_fields(field("a", "long")), reader, {"a": 1})
    assert found == []
    assert "No default value for field b" in bad[0]


def test_a_field_that_is_written_twice() -> None:
    writer = schema_of_fields(field("a", "long"), field("b", "long"))
    reader = schema_of_fields(field("a", "long", aliases=["b"]))
    assert len(read(writer, reader, {"a": 1, "b": 2})[1]) == 1
    fields = Fields(reader)
    assert fields.take("b") is reader["fields"][0]
    assert fields.take("a") is None
    with pytest.raises(ValueError, match="twice"):
        fields.take("b")


def test_named_types_are_found_by_name() -> None:
    inner = {"type": "record", "name": "In", "fields": [field("v", "int")]}
    writer = schema_of_fields(field("x", inner), field("y", "In"))
    types = Resolution(writer, schema_of_fields(field("z", {**inner, "name": "In"})))
    assert types.matches("In", "In")
    assert types.branch("In", ["null", "In"]) == "In"
    assert types.branch("long", ["null", "In"]) is None


@pytest.mark.parametrize(
    ("kind", "default"), [("long", 2**63), ("double", "NaN"), ("bytes", "Ā"), (["null", "long"], "x"), ("fixed", "ab")]
)
def test_defaults_that_no_column_holds_are_left_to_the_row_way(kind: Any, default: Any) -> None:
    kind = {"type": "fixed", "name": "F", "size": 2} if kind == "fixed" else kind
    with_default = {"type": "record", "name": "R", "fields": [field("a", kind, default=default)]}
    schema = with_defaults(with_default)
    if isinstance(kind, dict):
        assert Layout(schema, {"a"}).constants == b"ab"
    else:
        with pytest.raises(ValueError, match="a default that no"):
            Layout(schema, {"a"})
