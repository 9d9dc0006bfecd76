from __future__ import annotations

import warnings
from typing import Any

import pytest

from streamproc.avro.compat import change_problems, find_problems, problems
from streamproc.errors import SchemaError


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def record(*fields: dict[str, Any], name: str = "Reading", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "State", "symbols": list(symbols), **more}


def fixed(size: int, name: str = "Digest", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def node(*fields: dict[str, Any]) -> dict[str, Any]:
    return record(field("next", ["null", "Node"], default=None), *fields, name="Node")


def test_field_added_without_default_is_named_with_the_remedy() -> None:
    old, new = record(field("s1", "int")), record(field("s1", "int"), field("s9", "double"))
    assert problems(new, old) == [
        "field 's9' has no default, so data written before it cannot be read: give it a default"
    ]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (record(field("a", "int"), field("b", "int", default=0)), record(field("a", "int"))),
        (record(field("a", "int"), field("b", ["null", "int"], default=None)), record(field("a", "int"))),
        (record(field("a", "int")), record(field("a", "int"), field("gone", "string"))),
        (record(field("b", "int"), field("a", "int")), record(field("a", "int"), field("b", "int"))),
        (record(field("new", "int", aliases=["old"])), record(field("old", "int"))),
        (record(name="New", aliases=["Old"]), record(name="Old")),
        (record(name="New", namespace="x", aliases=["Old"]), record(name="x.Old")),
        (record(name="x.Same"), record(name="y.Same")),
        (record(field("a", ["null", "int"])), record(field("a", "int"))),
        (record(field("a", ["int", "string", "null"])), record(field("a", ["null", "int"]))),
        (record(field("a", ["null", "long"])), record(field("a", ["null", "int"]))),
        (record(field("a", "int")), record(field("a", ["int"]))),
        (record(field("a", enum("ON", "OFF", "IDLE"))), record(field("a", enum("ON", "OFF")))),
        (record(field("a", enum("ON", default="ON"))), record(field("a", enum("ON", "OFF")))),
        (record(field("a", fixed(4))), record(field("a", fixed(4)))),
        (node(field("v", "double"), field("w", "int", default=1)), node(field("v", "float"))),
        ("long", "int"),
    ],
)
def test_allowed(reader: Any, writer: Any) -> None:
    assert problems(reader, writer) == []


PROMOTIONS = {
    ("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"), ("float", "double"),
    ("string", "bytes"), ("bytes", "string"),
}  # fmt: skip
TYPES = ["null", "boolean", "int", "long", "float", "double", "string", "bytes"]


@pytest.mark.parametrize("writer", TYPES)
@pytest.mark.parametrize("reader", TYPES)
def test_every_promotion_and_no_other(reader: str, writer: str) -> None:
    found = problems(record(field("a", reader)), record(field("a", writer)))
    if reader == writer or (writer, reader) in PROMOTIONS:
        assert found == []
    else:
        assert found == [
            f"field 'a' was {writer} and is now {reader}, which cannot read it:"
            f" keep {writer}, or add a field of another name"
        ]


@pytest.mark.parametrize(
    ("reader", "writer", "path", "kind"),
    [
        (record(field("a", "int")), record(field("a", ["null", "int"])), "a", "branch"),
        (record(field("a", ["null", "int"])), record(field("a", ["null", "int", "string"])), "a", "branch"),
        (record(field("a", ["null", "int"])), record(field("a", "string")), "a", "branch"),
        (record(field("a", enum("ON"))), record(field("a", enum("ON", "OFF"))), "a", "symbols"),
        (record(field("a", fixed(8))), record(field("a", fixed(4))), "a", "size"),
        (record(field("a", fixed(4, "New"))), record(field("a", fixed(4, "Old"))), "a", "name"),
        (record(name="New"), record(name="Old"), "", "name"),
        (record(field("a", {"type": "array", "items": "int"})), record(field("a", "int")), "a", "type"),
        (record(field("new", "int")), record(field("old", "int")), "new", "missing"),
        ("int", "string", "", "type"),
    ],
)
def test_refused(reader: Any, writer: Any, path: str, kind: str) -> None:
    assert [(problem.path, problem.kind) for problem in find_problems(reader, writer)] == [(path, kind)]
    assert f"'{path}'" in problems(reader, writer)[0] if path else "the schema" in problems(reader, writer)[0]


def test_paths_lead_into_records_arrays_maps_and_unions() -> None:
    def order(*item: dict[str, Any]) -> dict[str, Any]:
        items = {"type": "array", "items": record(*item, name="Item")}
        return record(
            field("inner", record(field("items", items), name="Inner")),
            field("labels", {"type": "map", "values": ["null", "Item"]}),
        )

    old, new = order(field("price", "double")), order(field("price", "int"), field("tax", "int"))
    assert [(p.path, p.kind) for p in find_problems(new, old)] == [
        ("inner.items[].price", "type"),
        ("inner.items[].tax", "missing"),
    ]
    assert [p.path for p in find_problems({"type": "map", "values": "int"}, {"type": "map", "values": "string"})] == [
        "{}"
    ]


def test_union_of_records_leads_into_the_one_of_that_name() -> None:
    def union(kind: str) -> dict[str, Any]:
        return record(field("u", [record(name="A"), record(field("x", kind), name="B")]))

    assert [p.path for p in find_problems(union("int"), union("string"))] == ["u.x"]


def test_recursive_schemas_end() -> None:
    found = find_problems(node(field("v", "int")), node(field("v", "string")))
    assert [(p.path, p.kind) for p in found] == [("v", "type")]


def test_every_problem_is_named() -> None:
    old = record(field("a", "int"), field("b", "string"), field("e", enum("ON", "OFF")))
    new = record(field("a", "string"), field("b", "string"), field("c", "int"), field("e", enum("ON")))
    assert [p.path for p in find_problems(new, old)] == ["a", "c", "e"]
    assert "OFF" in problems(new, old)[2]


OLD = record(field("a", "int"), field("b", "int"))
WITHOUT_B = record(field("a", "int"))
WITH_C = record(field("a", "int"), field("b", "int"), field("c", "int"))


@pytest.mark.parametrize(
    ("new", "policy", "found"),
    [
        (WITHOUT_B, "BACKWARD", []),
        (
            WITHOUT_B,
            "FORWARD",
            ["field 'b' is gone, and readers with the old schema have no default for it: keep the field"],
        ),
        (WITH_C, "FORWARD", []),
        (WITH_C, "NONE", []),
        (record(field("a", "long"), field("b", "int")), "BACKWARD", []),
        (
            record(field("a", "long"), field("b", "int")),
            "FULL",
            [
                "field 'a' was int and is now long, which old readers cannot read:"
                " keep int, or add a field of another name"
            ],
        ),
    ],
)
def test_policies(new: Any, policy: Any, found: list[str]) -> None:
    assert change_problems(new, OLD, policy) == found


def test_full_is_both() -> None:
    new = record(field("a", "int"), field("c", "int"))
    both = change_problems(new, OLD, "BACKWARD") + change_problems(new, OLD, "FORWARD")
    assert len(both) == 2
    assert change_problems(new, OLD, "FULL") == both


def test_the_verdict_is_the_avro_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from avro import compatibility

    monkeypatch.setattr(
        compatibility.ReaderWriterCompatibilityChecker,
        "get_compatibility",
        lambda *_: compatibility.SchemaCompatibilityResult(compatibility.SchemaCompatibilityType.compatible),
    )
    assert problems("int", "string") == []
    monkeypatch.setattr(
        compatibility.ReaderWriterCompatibilityChecker,
        "get_compatibility",
        lambda *_: compatibility.incompatible(compatibility.SchemaIncompatibilityType.type_mismatch, "because", ["/"]),
    )
    assert problems(record(), record()) == ["the schema cannot read what was written before: because"]


def test_unknown_logical_types_are_no_matter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problems({"type": "long", "logicalType": "ticks"}, {"type": "int", "logicalType": "weeks"}) == []


def test_what_is_not_a_schema_is_refused() -> None:
    with pytest.raises(SchemaError, match="unknown type 'nope'"):
        problems("int", record(field("a", "nope")))
