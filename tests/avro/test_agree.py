"""Record types against schemas: each kind of mismatch is named, with its path."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest

from streamproc.avro.agree import schema_of
from streamproc.errors import DefinitionError, SchemaMismatch, SchemaNotFound
from streamproc.record import Record
from tests.avro.kit import bound, field, schema_of_fields


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: int
    y: float


class Node(msgspec.Struct):
    name: str
    next: Node | None = None


POINT = {"type": "record", "name": "Point", "fields": [field("x", "long"), field("y", "double")]}
NODE = {"type": "record", "name": "Node", "fields": [field("name", "string"), field("next", ["null", "Node"])]}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (str, "string"),
        (str, {"type": "string", "logicalType": "uuid"}),
        (int, "int"),
        (int, "long"),
        (int, MILLIS),
        (Annotated[int, msgspec.Meta(ge=0)], "long"),
        (float, "float"),
        (float, "double"),
        (bool, "boolean"),
        (bytes, "bytes"),
        (bytes, {"type": "fixed", "name": "F", "size": 4}),
        (Any, "long"),
        (Any, ["null", POINT]),
        (int | None, ["null", "long"]),
        (Optional[int], [MILLIS, "null"]),  # noqa: UP045  the older spelling is another type at run time
        (int | str, ["long", "string"]),
        (float | str | None, ["string", "null", "double"]),
        (list[int], {"type": "array", "items": "int"}),
        (list[int | None], {"type": "array", "items": ["null", "int"]}),
        (dict[str, float], {"type": "map", "values": "double"}),
        (dict[str, list[Point]], {"type": "map", "values": {"type": "array", "items": POINT}}),
        (Point, POINT),
        (Point | None, ["null", POINT]),
        (Node, NODE),
        (Colour, COLOUR),
        (Literal["blue", "red"], COLOUR),
        (Literal["blue", "red"] | None, ["null", COLOUR]),
    ],
)
def test_what_agrees(tmp_path: Path, hint: Any, kind: Any) -> None:
    schema = schema_of_fields(field("a", "string"), field("b", kind))
    assert schema_of(bound(tmp_path, schema, {"b": hint, "a": str})) == schema


def test_a_type_named_twice_is_one_type(tmp_path: Path) -> None:
    schema = schema_of_fields(
        field("a", POINT),
        field("b", "Point"),
        field("c", ["null", "test.Point"]),
        field("d", {"type": "array", "items": "Point"}),
    )
    hints = {"a": Point, "b": Point, "c": Point | None, "d": list[Point]}
    assert schema_of(bound(tmp_path, schema, hints)) == schema


@pytest.mark.parametrize(
    ("hint", "kind", "said"),
    [
        (str, "long", "b: the class says str, the schema long"),
        (int, "double", "b: the class says int, the schema double"),
        (float, "long", "b: the class says float, the schema long"),
        (bool, "int", "b: the class says bool, the schema int"),
        (int, "boolean", "b: the class says int, the schema boolean"),
        (str, "bytes", "b: the class says str, the schema bytes"),
        (str, MILLIS, "b: the class says str, the schema timestamp-millis"),
        (int | None, "long", "b: the class allows int | None, the schema only long"),
        (int, ["null", "long"], "b: the schema allows null, the class says int"),
        (int | None, ["long", "string"], "b: the schema does not allow null, the class says int | None"),
        (str | None, ["null", "long"], "b: the class says str, the schema long"),
        (int, ["long", "string"], "b: the schema allows string, the class only int"),
        (int | bool, ["long", "int"], "b: the class allows bool, the schema only long or int"),
        (list[str], {"type": "array", "items": "long"}, "b[]: the class says str, the schema long"),
        (list, {"type": "array", "items": "long"}, "b: the class says list, the schema array"),
        (str, {"type": "array", "items": "long"}, "b: the class says str, the schema array"),
        (dict[str, str], {"type": "map", "values": "long"}, "b{}: the class says str, the schema long"),
        (dict[int, int], {"type": "map", "values": "long"}, "b: the class says dict[int, int], the schema map"),
        (Point, "long", "b: the class says Point, the schema long"),
        (int, POINT, "b: the class says int, the schema test.Point"),
        (
            Point,
            {**POINT, "fields": [field("x", "long"), field("y", "long")]},
            "b.y: the class says float, the schema long",
        ),
        (Point, {**POINT, "fields": [field("x", "long")]}, "b: the class has y, the schema does not"),
        (
            Point,
            {**POINT, "fields": [*POINT["fields"], field("z", "long")]},
            "b: the schema has z, the class does not",
        ),
        (
            dict[str, list[Point | None]],
            {
                "type": "map",
                "values": {"type": "array", "items": ["null", {**POINT, "fields": [field("x", "long")]}]},
            },
            "b{}[]: the class has y, the schema does not",
        ),
        (Colour, {**COLOUR, "symbols": ["red"]}, "b: the class has blue, the schema does not"),
        (Literal["red"], COLOUR, "b: the schema has blue, the class does not"),
        (str, COLOUR, "b: the class says str, the schema test.Colour"),
        (str, {"type": "fixed", "name": "F", "size": 4}, "b: the class says str, the schema test.F"),
    ],
)
def test_what_disagrees_is_named(tmp_path: Path, hint: Any, kind: Any, said: str) -> None:
    schema = schema_of_fields(field("a", "string"), field("b", kind))
    with pytest.raises(SchemaMismatch) as caught:
        schema_of(bound(tmp_path, schema, {"a": str, "b": hint}))
    assert str(caught.value) == f"Thing and thing.avsc disagree: Thing.{said}"
    assert isinstance(caught.value, DefinitionError)


def test_fields_that_only_one_side_has(tmp_path: Path) -> None:
    schema = schema_of_fields(field("a", "string"), field("b", "string"), field("c", "string"))
    with pytest.raises(SchemaMismatch, match="Thing: the schema has b, c, the class does not"):
        schema_of(bound(tmp_path, schema, {"a": str, "d": str}))
    with pytest.raises(SchemaMismatch, match="Thing: the class has d, e, the schema does not"):
        schema_of(bound(tmp_path, schema, dict.fromkeys("abcde", str)))


def test_a_field_may_be_spelt_otherwise_on_the_wire(tmp_path: Path) -> None:
    schema = schema_of_fields(field("unitName", "string"))
    assert schema_of(bound(tmp_path, schema, {"unit_name": str}, rename="camel")) == schema


def test_a_schema_that_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match="Thing: expected a record schema"):
        schema_of(bound(tmp_path, "string", {"a": str}))  # type: ignore[arg-type]


def test_no_file_at_all() -> None:
    class NobodyWroteThisOne(Record):
        a: str

    with pytest.raises(SchemaNotFound, match="nobody_wrote_this_one"):
        schema_of(NobodyWroteThisOne)
