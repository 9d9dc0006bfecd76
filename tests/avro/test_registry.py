"""One suite over all registries, then what is the file's alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from streamproc.avro.compat import Compatibility
from streamproc.avro.file_registry import FileRegistry
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.ports import Registered, Registry
from streamproc.avro.registry import open_registry
from streamproc.avro.schema import canonical
from streamproc.errors import IncompatibleSchema, SchemaError, SchemaNotFound, SettingsError


def schema(*names: str, name: str = "Reading", **defaults: Any) -> dict[str, Any]:
    """A record of ints; those given as keywords have a default."""
    fields: list[dict[str, Any]] = [{"name": field, "type": "int"} for field in names]
    fields += [{"name": field, "type": "int", "default": value} for field, value in defaults.items()]
    return {"type": "record", "name": name, "fields": fields}


@pytest.fixture(params=["memory", "file", pytest.param("http", marks=pytest.mark.e2e)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    urls = {"memory": "memory:", "file": f"file:{tmp_path}/schemas/registry.json"}
    url = urls.get(request.param) or request.getfixturevalue("registry_url")
    with closing(open_registry(url)) as registry:
        yield registry


@pytest.fixture
def subject() -> str:
    """A subject that no other test has: a server keeps its subjects from test to test."""
    return f"topic.{uuid.uuid4().hex[:12]}-value"


@pytest.fixture
def unique(subject: str) -> str:
    """A record name that no other test has, likewise."""
    return "R" + subject[6:18]


def test_a_schema_keeps_its_id(registry: Registry, subject: str, unique: str) -> None:
    one = schema("a", name=unique)
    schema_id = registry.register(subject, one)
    assert schema_id > 0
    assert registry.register(subject, one) == schema_id
    assert canonical(registry.by_id(schema_id)) == canonical(one)
    assert registry.latest(subject) == Registered(subject, 1, schema_id, registry.by_id(schema_id))
    assert subject in registry.subjects()
    assert registry.subjects() == sorted(registry.subjects())


def test_doc_and_key_order_are_no_new_version(registry: Registry, subject: str, unique: str) -> None:
    one = schema("a", name=unique)
    schema_id = registry.register(subject, one)
    other = {"fields": one["fields"], "name": one["name"], "doc": "Words.", "type": "record"}
    assert registry.check(subject, other) == []
    assert registry.register(subject, other) == schema_id
    assert registry.latest(subject).version == 1


def test_a_schema_has_one_id_under_two_subjects(registry: Registry, subject: str, unique: str) -> None:
    one = schema("a", name=unique)
    assert registry.register(subject, one) == registry.register("other-" + subject, one)
    assert registry.latest("other-" + subject).version == 1


def test_versions_and_ids_count_up(registry: Registry, subject: str, unique: str) -> None:
    first = registry.register(subject, schema("a", name=unique))
    second = registry.register(subject, schema("a", name=unique, b=0))
    assert second > first
    assert registry.latest(subject)[:3] == (subject, 2, second)
    assert registry.register(subject, schema("a", name=unique)) == first  # an older version has its id still
    assert registry.latest(subject).version == 2
    assert canonical(registry.by_id(first)) == canonical(schema("a", name=unique))


def test_a_change_that_breaks_readers_is_refused_with_the_field(registry: Registry, subject: str, unique: str) -> None:
    first = registry.register(subject, schema("a", name=unique))
    bad = schema("a", "s9", name=unique)
    words = "field 's9' has no default, so data written before it cannot be read: give it a default"
    assert registry.check(subject, bad) == [words]
    with pytest.raises(IncompatibleSchema) as caught:
        registry.register(subject, bad)
    assert caught.value.subject == subject
    assert words in caught.value.problems
    assert registry.latest(subject)[1:3] == (1, first)


def test_check_of_what_is_fine(registry: Registry, subject: str, unique: str) -> None:
    assert registry.check(subject, schema("a", name=unique)) == []  # no such subject yet
    registry.register(subject, schema("a", name=unique))
    registry.register(subject, schema("a", name=unique, b=0))
    assert registry.check(subject, schema("a", name=unique, c=0)) == []
    assert registry.check(subject, schema("a", name=unique)) == []  # an older version, which register takes too
    assert registry.latest(subject).version == 2  # check adds nothing


def test_what_is_not_there(registry: Registry, subject: str) -> None:
    with pytest.raises(SchemaNotFound, match=subject):
        registry.latest(subject)
    with pytest.raises(SchemaNotFound, match="123456789"):
        registry.by_id(123456789)


def test_what_is_no_schema(registry: Registry, subject: str) -> None:
    bad = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "nope"}]}
    for call in (registry.register, registry.check):
        with pytest.raises(SchemaError, match=f"{subject}: not an Avro schema: field 'a': unknown type 'nope'"):
            call(subject, bad)
    assert subject not in registry.subjects()


def test_logical_types_and_defaults_come_back(registry: Registry, subject: str, unique: str) -> None:
    kinds: list[dict[str, Any]] = [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "s", "type": ["null", {"type": "enum", "name": "S" + unique, "symbols": ["A", "B"]}], "default": None},
        {"name": "m", "type": {"type": "map", "values": "double"}, "default": {"é": 0.5}, "aliases": ["k"]},
    ]
    one = {"type": "record", "name": unique, "namespace": "x.y", "fields": kinds}
    assert canonical(registry.by_id(registry.register(subject, one))) == canonical(one)


@pytest.mark.parametrize(
    ("policy", "refused"), [("BACKWARD", False), ("FORWARD", True), ("FULL", True), ("NONE", False)]
)
def test_policies(policy: Compatibility, refused: bool, tmp_path: Path) -> None:
    for registry in (MemoryRegistry(compatibility=policy), FileRegistry(tmp_path / "r.json", compatibility=policy)):
        registry.register("t-value", schema("a", "b"))
        assert bool(registry.check("t-value", schema("a"))) is refused


# --- the file


def test_the_file_is_sorted_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "new" / "registry.json"
    registry = FileRegistry(path)
    assert registry.subjects() == []
    assert not path.parent.exists()  # reading makes nothing
    for n in range(11):
        registry.register(f"t{10 - n:02}-value", schema("a", name=f"R{n}"))
    registry.register("t05-value", schema("a", name="R5", b=1))
    text = path.read_text()
    data = json.loads(text)
    assert text == json.dumps(data, indent=2) + "\n"
    assert list(data["schemas"]) == [str(n) for n in range(1, 13)]
    assert list(data["subjects"]) == sorted(data["subjects"])
    assert data["subjects"]["t05-value"] == [6, 12]
    assert sorted(os.listdir(path.parent)) == ["registry.json", "registry.json.lock"]
    assert FileRegistry(path).latest("t05-value")[:3] == ("t05-value", 2, 12)


def test_ids_are_not_used_again(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_text(json.dumps({"schemas": {"7": schema("a")}, "subjects": {"t-value": [7]}}))
    assert FileRegistry(path).register("u-value", schema("b")) == 8


def test_two_objects_see_each_others_schemas(tmp_path: Path) -> None:
    one, other = FileRegistry(tmp_path / "r.json"), FileRegistry(tmp_path / "r.json")
    first = one.register("a-value", schema("a"))
    assert other.by_id(first) == schema("a")
    second = other.register("b-value", schema("b"))
    assert second == first + 1
    assert one.by_id(second) == schema("b")
    assert one.subjects() == ["a-value", "b-value"]
    with pytest.raises(SchemaNotFound, match=r"no subject 'c-value' in .*r\.json; it has: a-value, b-value"):
        one.latest("c-value")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("<<<<<<< HEAD\n{}", "conflict marks of a merge"),
        ("[]", "expected an object with the objects 'schemas' and 'subjects'"),
        ('{"schemas": {}, "subjects": {}, "more": 1}', "and nothing else"),
        ('{"schemas": {"x": "int"}, "subjects": {}}', "'x' is not an id"),
        ('{"schemas": {"0": "int"}, "subjects": {}}', "'0' is not an id"),
        ('{"schemas": {"1": "nope"}, "subjects": {}}', "schemas.1: not an Avro schema: unknown type 'nope'"),
        ('{"schemas": {"1": "int", "2": {"type": "int"}}, "subjects": {}}', "2 and 1 are the same schema"),
        ('{"schemas": {"1": "int", "1": "long"}, "subjects": {}}', "the key '1' is there twice"),
        ('{"schemas": {"1": "int"}, "subjects": {"t": [2]}}', "subjects.t: there is no schema with the id 2"),
        ('{"schemas": {"1": "int"}, "subjects": {"t": [true]}}', "there is no schema with the id True"),
        ('{"schemas": {"1": "int"}, "subjects": {"t": [1, 1]}}', "expected a list of different ids"),
        ('{"schemas": {"1": "int"}, "subjects": {"t": []}}', "expected a list of different ids"),
        ("\udcff", "can't decode byte"),
    ],
)
def test_a_corrupt_file_is_refused_and_left_alone(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    registry = FileRegistry(path)
    calls: list[Any] = [registry.subjects, lambda: registry.register("t", "long"), lambda: registry.by_id(1)]
    for call in calls:
        with pytest.raises(SchemaError) as caught:
            call()
        assert message in str(caught.value)
        assert f"{path}: not a schema registry" in str(caught.value)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_file_that_becomes_corrupt_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    registry = FileRegistry(path)
    registry.register("t-value", schema("a"))
    path.write_text(path.read_text()[:-10])
    with pytest.raises(SchemaError, match="not a schema registry"):
        registry.register("t-value", schema("a"))


def test_a_read_only_file_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    first = FileRegistry(path).register("t-value", schema("a"))
    path.chmod(0o444)
    registry = FileRegistry(path)
    assert registry.register("t-value", schema("a")) == first
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"registry\.json: is read-only, so no schema can be added: make it writable"):
        registry.register("t-value", schema("a", b=1))
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SchemaError, match=r"cannot be (read|written): Not a directory"):
        FileRegistry(tmp_path / "file/registry.json").register("t", "int")
    with pytest.raises(SchemaError, match="cannot be read: Is a directory"):
        FileRegistry(tmp_path).subjects()


def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "real.json", tmp_path / "link.json"
    FileRegistry(path).register("t-value", schema("a"))
    path.chmod(0o660)
    link.symlink_to(path)
    FileRegistry(link).register("u-value", schema("b"))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o660
    assert FileRegistry(path).subjects() == ["t-value", "u-value"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    registry.register("t-value", schema("a"))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SchemaError, match="cannot be written: No space left on device"):
        registry.register("t-value", schema("a", b=1))
    monkeypatch.undo()
    assert registry.latest("t-value").version == 1
    assert sorted(os.listdir(tmp_path)) == ["registry.json", "registry.json.lock"]


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    registry = FileRegistry(path)
    registry.register("t-value", schema("a"))
    before = path.read_text()
    with path.open() as reader:
        registry.register("t-value", schema("a", b=1))
        assert reader.read() == before
    assert path.read_text() != before


MANY = 25


def register_many(path: Path, who: int, barrier: Barrier) -> None:
    registry = FileRegistry(path)
    barrier.wait(60)
    for n in range(MANY):
        registry.register(f"own{who}-value", schema(name=f"Own{who}", **{f"f{i}": i for i in range(n)}))
        registry.register(f"shared{n}-value", schema("a", name=f"Shared{n}"))


def test_processes_that_register_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path, barrier = tmp_path / "registry.json", context.Barrier(2)
    processes = [context.Process(target=register_many, args=(path, who, barrier)) for who in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    registry = FileRegistry(path)
    data = json.loads(path.read_text())
    assert sorted(map(int, data["schemas"])) == list(range(1, 3 * MANY + 1))
    assert [registry.latest(f"own{who}-value").version for who in range(2)] == [MANY, MANY]
    assert all(registry.latest(f"shared{n}-value").version == 1 for n in range(MANY))


# --- which registry a URL means


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_registry("memory:"), MemoryRegistry)
    assert isinstance(open_registry("memory:", user=None), MemoryRegistry)
    urls = ("registry.json", "./registry.json", "file:registry.json", f"file:{tmp_path}/registry.json",
            f"file://{tmp_path}/registry.json", f"file://localhost{tmp_path}/registry.json")  # fmt: skip
    for url in urls:
        assert repr(open_registry(url)) == f"FileRegistry({tmp_path}/registry.json)"
    assert "%20" not in repr(open_registry(f"file://{tmp_path}/a%20b.json"))
    assert os.listdir(tmp_path) == []
    with closing(open_registry("http://user:secret@localhost:8081/api/")) as registry:
        assert repr(registry) == "HttpRegistry(http://localhost:8081/api/)"
    with closing(open_registry("https://localhost")) as registry:
        assert repr(registry) == "HttpRegistry(https://localhost)"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:",
        "schemas/",
        "ftp://host/x",
        "memory:x",
        "http://",
        "http:///x",
        "file://host/x",
        "https://a,nope",
        "htpp:x",
    ],
)
def test_wrong_urls(url: str) -> None:
    with pytest.raises(SettingsError, match="schema registry"):
        open_registry(url)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory:", {"user": "me"}),
        ("r.json", {"timeout": 1.0}),
        ("http://localhost", {"compatibility": "FULL"}),
        ("http://localhost", {"user": "me"}),
        ("https://localhost", {"ssl_cert": "/nowhere"}),
        ("https://localhost", {"ssl_cert": "/nowhere", "ssl_key": "/nowhere"}),
        ("https://localhost", {"ssl_ca": "/nowhere"}),
    ],
)
def test_wrong_options(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="schema registry"):
        open_registry(url, **options)
