from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro import schema as module
from streamproc.avro.schema import canonical, find, load, parse, parse_text
from streamproc.errors import SchemaError, SchemaNotFound

READING: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "namespace": "shuttle",
    "doc": "One reading.",
    "aliases": ["Measure"],
    "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "When."},
        {"name": "s1", "type": "double", "default": 0},
        {"name": "labels", "type": {"type": "map", "values": "string"}, "default": {"doc": "kept"}},
        {"name": "next", "type": ["null", "Reading"], "default": None},
    ],
}


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "A", "fields": list(fields), **more}


def test_canonical_text() -> None:
    assert canonical(READING) == (
        '{"aliases":["shuttle.Measure"],"fields":['
        '{"name":"ts","type":{"logicalType":"timestamp-millis","type":"long"}},'
        '{"default":0.0,"name":"s1","type":"double"},'
        '{"default":{"doc":"kept"},"name":"labels","type":{"type":"map","values":"string"}},'
        '{"default":null,"name":"next","type":["null","shuttle.Reading"]}'
        '],"name":"shuttle.Reading","type":"record"}'
    )


def test_canonical_is_a_schema_and_its_own_canonical() -> None:
    assert canonical(parse_text(canonical(READING))) == canonical(READING)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "int"}, "int"),
        (record(name="x.A"), record(namespace="x")),
        (record({"name": "a", "type": {"type": "string"}}), record({"name": "a", "type": "string"})),
    ],
)
def test_spellings_of_one_schema(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (record({"name": "a", "type": "int", "default": 1}), record({"name": "a", "type": "int"})),
        (record({"name": "a", "type": "int", "default": 1}), record({"name": "a", "type": "int", "default": 2})),
        (record({"name": "a", "type": "int", "aliases": ["b"]}), record({"name": "a", "type": "int"})),
        ({"type": "long", "logicalType": "timestamp-millis"}, {"type": "long", "logicalType": "timestamp-micros"}),
        (["null", "int"], ["int", "null"]),
        (record({"name": "a", "type": "int"}, {"name": "b", "type": "int"}),
         record({"name": "b", "type": "int"}, {"name": "a", "type": "int"})),
        (record(namespace="x"), record(namespace="y")),
    ],
)  # fmt: skip
def test_what_readers_see_makes_a_difference(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)


names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
kinds = st.recursive(
    st.sampled_from(["int", "string", "double"]),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda values: {"type": "map", "values": values}, inner)
        | st.builds(lambda kind: ["null", kind], inner.filter(lambda kind: not isinstance(kind, list)))
    ),
    max_leaves=4,
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    counter = 0

    def make(depth: int) -> dict[str, Any]:
        nonlocal counter
        counter += 1
        fields: list[dict[str, Any]] = []
        out = {"type": "record", "name": f"R{counter}", "fields": fields}
        for name in draw(st.lists(names | st.just("doc"), unique=True, max_size=4)):
            nested = depth < 2 and draw(st.booleans())
            fields.append({"name": name, "type": make(depth + 1) if nested else draw(kinds)})
        return out

    return make(0)


def respelt(node: Any, rng: random.Random) -> Any:
    """The same schema with the keys of its objects in another order, and with other doc texts."""
    if isinstance(node, list):
        return [respelt(item, rng) for item in node]
    if not isinstance(node, dict):
        return node
    items = [(key, respelt(value, rng)) for key, value in node.items()]
    if rng.random() < 0.5 and ("name" in node):
        items.append(("doc", rng.choice(["", "Words.", "More words."])))
    rng.shuffle(items)
    return dict(items)


@settings(max_examples=60, deadline=None)
@given(records(), st.randoms(use_true_random=False))
def test_canonical_is_stable_under_key_order_and_doc(schema: dict[str, Any], rng: random.Random) -> None:
    other = respelt(schema, rng)
    assert canonical(other) == canonical(schema)
    assert parse(other) == other
    assert canonical(json.loads(canonical(schema))) == canonical(schema)


def inner(*fields: Any) -> dict[str, Any]:
    return record(*fields, name="B")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record({"name": "a", "type": "nope"}, {"name": "b", "type": "int"}), "field 'a': unknown type 'nope'"),
        (record({"name": "a", "type": "int"}, {"name": "a", "type": "int"}), "field 'a': Field name a already in use."),
        (record({"name": "a", "type": "int", "default": "x"}), "field 'a': Default value <x> must match"),
        (record({"name": "b", "type": "int"}, {"name": "a-b", "type": "int"}), "field 'a-b': the name 'a-b'"),
        (record({"name": "a", "type": {"type": "array"}}), "field 'a': 'items' is missing"),
        (record({"name": "a", "type": {"type": "fixed", "name": "F", "size": -1}}), "field 'a': Fixed Schema requires"),
        (record({"name": "a", "type": ["int", "int"]}), "field 'a': int type already in Union"),
        (record({"type": "int"}), "field '?': Record field is missing 'name'"),
        (record({"name": "a"}), "field 'a': Record field 'a' is missing 'type'"),
        (record({"name": "a", "type": {"type": ["null", "int"]}}), "field 'a': a type is a name"),
        (record({"name": "u", "type": inner({"name": "ok", "type": "int"}, {"name": "bad", "type": "nope"})}),
         "field 'u.bad': unknown type 'nope'"),
        (record({"name": "l", "type": {"type": "array", "items": inner({"name": "x", "type": "B.C"})}}), "'l[].x'"),
        (record({"name": "m", "type": {"type": "map", "values": ["int", inner({"name": "x", "type": 7})]}}), "'m{}.x'"),
        ({"type": "record", "name": "A"}, "schema: not an Avro schema: Record schema requires"),
        ({"type": "record", "fields": []}, 'not an Avro schema: "name" is a required field'),
        (5, "schema: not an Avro schema: "),
        (None, "schema: not an Avro schema: "),
        ({}, "schema: not an Avro schema: 'type' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(schema: Any, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse(schema)
    assert message in str(caught.value)


def test_parse_returns_what_came_without_fastavros_marks() -> None:
    import fastavro

    plain = record({"name": "a", "type": "int"})
    assert parse(plain) is plain
    assert parse(fastavro.parse_schema(plain)) == plain


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "a.avsc"
    path.write_text(json.dumps(READING))
    assert load(path) == READING
    path.write_text(json.dumps(record({"name": "a", "type": "nope"})))
    with pytest.raises(SchemaError, match=r"a\.avsc: not an Avro schema: field 'a': unknown type 'nope'"):
        load(path)
    path.write_text('{\n  "type": oops}')
    with pytest.raises(SchemaError, match=r"a\.avsc:2:11: not JSON"):
        load(path)
    path.write_text('{"default": NaN}')
    with pytest.raises(SchemaError, match="NaN is not a JSON number"):
        load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match=r"a\.avsc: cannot be read"):
        load(path)
    with pytest.raises(SchemaNotFound, match=r"no schema file at .*b\.avsc"):
        load(tmp_path / "b.avsc")


def place(folder: Path, name: str = "reading") -> Path:
    path = folder / "schemas" / f"{name}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('"int"')
    return path


def test_find_goes_upwards_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cwd = tmp_path / "cwd"
    in_cwd, far, near = place(cwd), place(tmp_path / "a"), place(tmp_path / "a/b")
    (tmp_path / "a/b/c").mkdir()
    source = tmp_path / "a/b/c/topology.py"
    source.write_text("")
    monkeypatch.chdir(cwd)
    assert find("reading") == in_cwd
    assert find("reading", source) == near
    near.unlink()
    assert find("reading", source) == far
    assert find("reading", source.parent) == far
    far.unlink()
    assert find("reading", source) == in_cwd


def test_find_ends_with_the_packages_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "site/streamproc"
    monkeypatch.setattr(module, "_PACKAGE", package)
    in_checkout = place(tmp_path / "site")
    assert find("reading") == in_checkout
    in_wheel = package / "_schemas/reading.avsc"
    in_wheel.parent.mkdir(parents=True)
    in_wheel.write_text('"int"')
    assert find("reading") == in_wheel


def test_find_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SchemaNotFound) as caught:
        find("nowhere", tmp_path / "a/b.py")
    for folder in (tmp_path / "a/schemas", tmp_path / "schemas", Path("/schemas"), module._PACKAGE / "_schemas"):
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["", "..", "../secret", "a/b", "a\\b"])
def test_find_takes_names_only(name: str) -> None:
    with pytest.raises(SchemaNotFound, match="is not a schema's name"):
        find(name)
