"""Values to bytes and back. What is wrong is named, and nothing else than what was said is ever written."""

from __future__ import annotations

import enum
import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import fastavro
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.errors import InvalidRecord, SchemaNotFound, UndecodableRecord
from tests.avro.kit import bound, field, schema_of_fields

Make = Callable[..., Codec]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    y: float


POINT = {"type": "record", "name": "Point", "fields": [field("x", "int"), field("y", "double")]}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A codec of a type with these fields: name to (hint, schema)."""

    def make(registry: MemoryRegistry | None = None, /, **fields: tuple[Any, Any]) -> Codec:
        schema = schema_of_fields(*(field(name, kind) for name, (_, kind) in fields.items()))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        record = bound(folder, schema, {name: hint for name, (hint, _) in fields.items()})
        return Codec(record, registry or MemoryRegistry(), "thing-value")

    return make


def datum(codec: Codec, **values: Any) -> bytes:
    """Framed Avro by fastavro alone, whatever the values are."""
    out = io.BytesIO(FRAME.pack(0, codec.schema_id))
    out.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(out, codec._parsed, values)
    return out.getvalue()


# There and back.

NESTED: dict[str, tuple[Any, Any]] = {
    "id": (str, "string"),
    "at": (int, {"type": "long", "logicalType": "timestamp-millis"}),
    "point": (Point, POINT),
    "path": (list[Point], {"type": "array", "items": "Point"}),
    "named": (dict[str, Point | None], {"type": "map", "values": ["null", "Point"]}),
    "colour": (Colour, COLOUR),
    "level": (Literal["low", "high"], {"type": "enum", "name": "Level", "symbols": ["low", "high"]}),
    "either": (int | str | None, ["null", "long", "string"]),
    "raw": (bytes, "bytes"),
    "four": (bytes, {"type": "fixed", "name": "Four", "size": 4}),
    "flags": (list[bool], {"type": "array", "items": "boolean"}),
}


def nested(codec: Codec, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "id": "x",
        "at": 1_700_000_000_123,
        "point": Point(1, 2.5),
        "path": [Point(1, 0.0), Point(-2, math.inf)],
        "named": {"a": None, "ü": Point(3, -0.5)},
        "colour": Colour.BLUE,
        "level": "low",
        "either": "text",
        "raw": b"\x00\xff",
        "four": b"1234",
        "flags": [True, False],
    }
    return codec.record(**{**values, **changes})


def test_a_nested_record_there_and_back(make: Make) -> None:
    codec = make(**NESTED)
    for either in ("text", 7, None):
        record = nested(codec, either=either)
        again = codec.decode(codec.encode(record))
        assert again == record
        assert isinstance(again.colour, Colour)  # type: ignore[attr-defined]
    without = {name: kind for name, kind in NESTED.items() if name not in ("raw", "four", "path")}
    other = make(**without)
    values = {name: getattr(nested(codec), name) for name in without}
    assert other.from_json(other.to_json(other.record(**values))) == other.record(**values)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(),
    st.floats(width=32),
    st.text(),
    st.binary(),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_flat_values_there_and_back(a: int, b: int, c: float, d: float, e: str, f: bytes, g: bool) -> None:
    record = FLAT.record(a, b, c, d, e, f, g)  # type: ignore[call-arg]
    back = msgspec.structs.asdict(FLAT.decode(FLAT.encode(record)))
    for (name, value), given_ in zip(back.items(), (a, b, c, d, e, f, g), strict=True):
        assert type(value) is type(given_)
        assert value == given_ or (value != value and given_ != given_), name


@pytest.fixture(scope="module", autouse=True)
def _flat(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FLAT
    kinds = {"a": "long", "b": "int", "c": "double", "d": "float", "e": "string", "f": "bytes", "g": "boolean"}
    hints = {"a": int, "b": int, "c": float, "d": float, "e": str, "f": bytes, "g": bool}
    schema = schema_of_fields(*(field(name, kind) for name, kind in kinds.items()))
    FLAT = Codec(bound(tmp_path_factory.mktemp("flat"), schema, hints), MemoryRegistry(), "flat-value")


FLAT: Codec


def test_the_frame_is_confluents(make: Make) -> None:
    registry = MemoryRegistry()
    registry.register("other-value", schema_of_fields(field("z", "long"), name="Other"))
    codec = make(registry, a=(int, "long"))
    assert codec.encode(codec.record(a=-1)) == struct.pack(">bI", 0, codec.schema_id) + b"\x01"
    assert codec.schema_id > 1


def test_a_renamed_field_there_and_back(tmp_path: Path) -> None:
    record = bound(tmp_path, schema_of_fields(field("unitName", "string")), {"unit_name": str}, rename="camel")
    codec = Codec(record, MemoryRegistry(), "thing-value")
    one = record(unit_name="u")  # type: ignore[call-arg]
    assert codec.decode(codec.encode(one)) == one == codec.from_json(b'{"unitName": "u"}')
    with pytest.raises(InvalidRecord, match="unitName: 5 does not fit"):
        codec.encode(record(unit_name=5))  # type: ignore[call-arg]


@pytest.mark.parametrize("logical", ["date", "timestamp-micros", "local-timestamp-millis", "time-micros", "anything"])
def test_a_logical_type_leaves_the_number_that_it_is(make: Make, logical: str) -> None:
    kind = {"type": "int" if logical == "date" else "long", "logicalType": logical}
    codec = make(a=(int, kind), b=(int | None, ["null", kind]), c=(list[int], {"type": "array", "items": kind}))
    record = codec.record(a=20_000, b=3, c=[1])  # type: ignore[call-arg]
    assert codec.decode(codec.encode(record)) == record


def test_a_decimal_and_a_uuid_are_left_as_they_are(make: Make) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    codec = make(a=(bytes, decimal), b=(str, {"type": "string", "logicalType": "uuid"}))
    record = codec.record(a=b"\x01\x02", b="not even a uuid")  # type: ignore[call-arg]
    assert codec.decode(codec.encode(record)) == record


# JSON that does not fit.


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ('{"id": 5}', "id", "Expected `str`, got `int`"),
        ('{"wrong": 1}', "wrong", "unknown field `wrong`"),
        ("{}", "id", "missing required field `id`"),
        ('{"id": "x", "point": {"x": "1", "y": 1}}', "point.x", "Expected `int`, got `str`"),
        ('{"id": "x", "point": {"x": 1}}', "point.y", "missing required field `y`"),
        ('{"id": "x", "point": {"x": 1, "y": 1, "z": 1}}', "point.z", "unknown field `z`"),
        ('{"id": "x", "path": [{"x": 1, "y": 2}, {"x": 1.5, "y": 2}]}', "path[1].x", "Expected `int`, got `float`"),
        ('{"id": "x", "named": {"k": {}}}', "named[...].x", "missing required field `x`"),
        ('{"id": "x", "colour": "green"}', "colour", "Invalid enum value 'green'"),
        ('{"id": "x", "level": "mid"}', "level", "Invalid enum value 'mid'"),
        ('{"id": null}', "id", "Expected `str`, got `null`"),
        ("[]", "", "Expected `object`, got `array`"),
        ("{", "", "not JSON"),
        ("", "", "not JSON"),
        ('{"id": "x" more', "", "not JSON"),
        ('{"id": NaN}', "", "not JSON"),
    ],
)
def test_json_that_does_not_fit_names_the_field(make: Make, text: str, at: str, said: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        make(**NESTED).from_json(text.encode())
    assert caught.value.field == at
    assert said in str(caught.value)
    assert "$" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b'{"id": "\xff"}', b"[" * 100_000, b'{"id":' * 100_000, b"\x00"])
def test_json_that_is_none(make: Make, data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        make(**NESTED).from_json(data)


# Values that do not fit their schema: nothing is written.


@pytest.mark.parametrize(
    ("hint", "kind", "value"),
    [
        (int, "long", 2**63),
        (int, "long", -(2**63) - 1),
        (int, "long", 1.5),
        (int, "long", 1.0),
        (int, "long", True),
        (int, "long", "1"),
        (int, "long", None),
        (int, "int", 2**31),
        (int, "int", -(2**31) - 1),
        (int | None, ["null", "int"], 2**31),
        (int | None, ["null", "long"], True),
        (bool, "boolean", None),
        (bool, "boolean", 1),
        (bool, "boolean", "yes"),
        (float, "double", "1.5"),
        (float, "double", True),
        (float, "double", None),
        (float, "double", 2**53 + 1),
        (float, "double", 10**400),
        (float, "float", 1e300),
        (float, "float", -3.5e38),
        (float | None, ["null", "float"], 1e300),
        (str, "string", None),
        (str, "string", b"x"),
        (str, "string", 5),
        (str, "string", "half a pair: \ud800"),
        (str | None, ["null", "string"], 5),
        (bytes, "bytes", "text"),
        (bytes, {"type": "fixed", "name": "F", "size": 2}, b"123"),
        (list[int], {"type": "array", "items": "long"}, None),
        (list[str], {"type": "array", "items": "string"}, "ab"),
        (Literal["red", "blue"], COLOUR, "green"),
        (Colour, COLOUR, "green"),
        (Point, POINT, None),
        (Point, POINT, {"x": 1}),
        (float, "double", object()),
    ],
)
def test_a_value_that_does_not_fit_is_named(make: Make, hint: Any, kind: Any, value: Any) -> None:
    codec = make(first=(str, "string"), b=(hint, kind))
    with pytest.raises(InvalidRecord, match=r"does not fit|unsupported") as caught:
        codec.encode(codec.record(first="x", b=value))  # type: ignore[call-arg]
    if "unsupported" not in str(caught.value):
        assert caught.value.field.split(".")[0] == "b"


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"point": Point("1", 2.0)}, "point.x"),  # type: ignore[arg-type]
        ({"point": Point(2**31, 2.0)}, "point.x"),
        ({"path": [Point(1, 1.0), Point(1, None)]}, "path[1].y"),  # type: ignore[arg-type]
        ({"named": {"k": Point(1, "x")}}, "named['k'].y"),  # type: ignore[arg-type]
        ({"named": {5: None}}, "named[5]"),
        ({"flags": [True, None]}, "flags[1]"),
        ({"either": 2**63}, "either"),
        ({"either": 1.5}, "either"),
    ],
)
def test_a_nested_value_that_does_not_fit_is_named(make: Make, change: dict[str, Any], at: str) -> None:
    codec = make(**NESTED)
    with pytest.raises(InvalidRecord, match="does not fit") as caught:
        codec.encode(nested(codec, **change))
    assert caught.value.field == at


def test_what_fits_though_it_looks_otherwise(make: Make) -> None:
    codec = make(
        a=(float, "double"), b=(int, "int"), c=(float, "float"), d=(float, "float"), e=(int | None, ["null", "long"])
    )
    record = codec.record(a=5, b=np.int64(7), c=math.nan, d=-math.inf, e=np.int32(3))  # type: ignore[call-arg]
    back = codec.decode(codec.encode(record))
    assert (back.a, back.b, back.d, back.e) == (5.0, 7, -math.inf, 3)  # type: ignore[attr-defined]
    greatest = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0]
    assert codec.decode(codec.encode(codec.record(0.5, 1, greatest, 0.1, None))).c == greatest  # type: ignore[call-arg,attr-defined]


def test_a_long_value_is_not_shown_whole(make: Make) -> None:
    codec = make(a=(int, "long"))
    with pytest.raises(InvalidRecord) as caught:
        codec.encode(codec.record(a="x" * 10_000))  # type: ignore[call-arg]
    assert len(str(caught.value)) < 500


# Bytes that are not what their framing says.


def test_a_short_or_foreign_frame(make: Make) -> None:
    codec = make(a=(int, "long"))
    good = codec.encode(codec.record(a=5))  # type: ignore[call-arg]
    for length in range(FRAME.size):
        with pytest.raises(UndecodableRecord, match=f"at least 5 bytes of framing; got {length}"):
            codec.decode(good[:length])
    for magic in (1, 0x7B, 0xFF):
        with pytest.raises(UndecodableRecord, match=f"0x{magic:02x}"):
            codec.decode(bytes([magic]) + good[1:])


def test_an_unknown_schema_id(make: Make) -> None:
    codec = make(a=(int, "long"))
    for schema_id in (0, 999, 2**32 - 1):
        with pytest.raises(UndecodableRecord, match=f"schema id {schema_id} is not in the registry"):
            codec.decode(FRAME.pack(0, schema_id) + b"\x02")


def test_an_id_whose_schema_is_no_avro(make: Make) -> None:
    class Foreign(MemoryRegistry):
        def by_id(self, schema_id: int) -> Any:
            if schema_id == 77:
                return {"$schema": "JSON Schema", "type": "object"}
            raise SchemaNotFound("no")

    codec = make(Foreign(), a=(int, "long"))
    with pytest.raises(UndecodableRecord, match="schema 77 is no Avro schema"):
        codec.decode(FRAME.pack(0, 77) + b"\x02")


def test_a_datum_cut_anywhere_or_too_long(make: Make) -> None:
    codec = make(**NESTED)
    good = codec.encode(nested(codec))
    for length in range(FRAME.size, len(good)):
        with pytest.raises(UndecodableRecord, match=f"schema {codec.schema_id}: ") as caught:
            codec.decode(good[:length])
        assert " at 0x" not in str(caught.value)
    with pytest.raises(UndecodableRecord, match="3 bytes left after the datum"):
        codec.decode(good + b"\x00\x01\x02")


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_garbage_is_a_record_or_an_error(data: bytes) -> None:
    try:
        FLAT.decode(FRAME.pack(0, FLAT.schema_id) + data)
    except UndecodableRecord:
        pass


# Evolution: written with another schema than it is read with.


def old_and_new(make: Make, old: dict[str, Any], new: dict[str, Any]) -> tuple[Codec, Codec]:
    registry = MemoryRegistry(compatibility="NONE")
    return make(registry, **old), make(registry, **new)


def test_a_field_that_the_writer_did_not_have_takes_its_default(make: Make, tmp_path: Path) -> None:
    registry = MemoryRegistry()
    old = make(registry, a=(int, "long"))
    schema = schema_of_fields(field("b", "string", default="none"), field("a", "long"))
    new = Codec(bound(tmp_path, schema, {"a": int, "b": str}), registry, "thing-value")
    assert new.decode(old.encode(old.record(a=3))) == new.record(a=3, b="none")  # type: ignore[call-arg]


def test_a_field_that_the_reader_lacks_is_skipped(make: Make) -> None:
    old, new = old_and_new(
        make,
        {"a": (int, "long"), "gone": (list[Point], {"type": "array", "items": POINT}), "b": (str, "string")},
        {"b": (str, "string"), "a": (int, "long")},
    )
    record = old.record(a=1, gone=[Point(1, 1.0)], b="x")  # type: ignore[call-arg]
    assert new.decode(old.encode(record)) == new.record(a=1, b="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("hint", "kind", "value", "wider", "to", "expected"),
    [
        (int, "int", 7, int, "long", 7),
        (int, "int", 7, float, "double", 7.0),
        (int, "long", 7, float, "double", 7.0),
        (float, "float", 0.5, float, "double", 0.5),
        (str, "string", "é", bytes, "bytes", "é".encode()),
        (int, "long", 7, int | None, ["null", "long"], 7),
        (int, "int", 7, float | None, ["null", "double"], 7.0),
    ],
)
def test_a_promoted_type(make: Make, hint: Any, kind: Any, value: Any, wider: Any, to: Any, expected: Any) -> None:
    old, new = old_and_new(make, {"a": (hint, kind)}, {"a": (wider, to)})
    got = new.decode(old.encode(old.record(a=value))).a  # type: ignore[call-arg,attr-defined]
    assert got == expected
    assert type(got) is type(expected)


def test_what_cannot_be_resolved_is_undecodable(make: Make) -> None:
    old, new = old_and_new(make, {"a": (str, "string")}, {"a": (int, "long")})
    with pytest.raises(UndecodableRecord, match=f"schema {old.schema_id}: "):
        new.decode(old.encode(old.record(a="x")))  # type: ignore[call-arg]
    old, new = old_and_new(make, {"a": (str, "string")}, {"a": (str, "string"), "b": (int, "long")})
    with pytest.raises(UndecodableRecord, match="b"):
        new.decode(old.encode(old.record(a="x")))  # type: ignore[call-arg]
