"""What is a server's alone; the suite that it shares with the others is in test_registry.py."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from streamproc.avro.http_registry import HttpRegistry
from streamproc.errors import IncompatibleSchema, SchemaError, SchemaNotFound

OLD = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]}
WITHOUT_B = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "int"}]}
WITH_C = {"type": "record", "name": "A", "fields": [*OLD["fields"], {"name": "c", "type": "int"}]}


@contextmanager
def answering(status: int, body: bytes, kind: str = "application/json") -> Iterator[tuple[str, list[Any]]]:
    """A server that gives every request the same answer, and keeps what it was asked."""
    asked: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def connected(url: str, **options: Any) -> Iterator[HttpRegistry]:
    with closing(HttpRegistry(url, **options)) as registry:
        yield registry


def set_policy(url: str, subject: str, level: str) -> None:
    with SchemaRegistryClient({"url": url}) as client:
        client.set_compatibility(subject, level)


@pytest.fixture
def subject() -> str:
    return f"topic/{uuid.uuid4().hex[:12]}-value"


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:  # bound, but not listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with connected(f"http://me:secret@{address}/api") as registry:
            with pytest.raises(SchemaError, match=f"schema registry http://{address}/api does not answer: ") as caught:
                registry.subjects()
            assert "secret" not in str(caught.value)
            with pytest.raises(SchemaError, match="does not answer"):
                registry.register("t-value", "int")


def test_a_server_that_is_no_registry() -> None:
    with (
        answering(200, b"<html>", "text/html") as (url, _),
        connected(url) as registry,
        pytest.raises(SchemaError, match=f"{url} is not a schema registry"),
    ):
        registry.subjects()
    with answering(404, b'{"error_code": 404, "message": "Not Found"}') as (url, _), connected(url) as registry:
        with pytest.raises(SchemaError, match="check the URL's path") as caught:
            registry.latest("t-value")
        assert not isinstance(caught.value, SchemaNotFound)


def test_credentials_are_sent_and_refusal_says_so() -> None:
    body = b'{"error_code": 401, "message": "Unauthorized"}'
    with answering(401, body) as (url, asked), connected(url, user="me", password="p:w") as registry:
        with pytest.raises(SchemaError, match=r"Unauthorized .*check user and password"):
            registry.subjects()
        assert asked[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:p:w").decode()


def test_an_id_is_asked_for_once() -> None:
    with answering(200, b'{"schema": "\\"int\\""}') as (url, asked), connected(url) as registry:
        assert [registry.by_id(5), registry.by_id(5)] == ["int", "int"]
        assert len(asked) == 1


def test_other_words_in_doc_are_no_new_version_whatever_the_server_thinks() -> None:
    text = json.dumps({**OLD, "doc": "Words."})
    body = json.dumps({"subject": "t-value", "version": 3, "id": 9, "schema": text}).encode()
    with answering(200, body) as (url, asked), connected(url) as registry:  # which takes no POST
        assert registry.register("t-value", OLD) == 9
        assert registry.register("t-value", OLD) == 9
        assert registry.check("t-value", OLD) == []
        assert [path.split("?")[0] for path, _ in asked] == ["/subjects/t-value/versions/latest"] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"schema": "{}", "schemaType": "JSON"}', "expected an Avro schema; it is JSON"),
        (b'{"schema": "{}", "references": [{"name": "B", "subject": "b", "version": 1}]}', "refers to other schemas"),
        (b'{"schema": "{"}', "schema 5:1:2: not JSON"),
        (b"[]", "is not a schema registry"),
    ],
)
def test_schemas_that_are_not_for_us(body: bytes, message: str) -> None:
    with answering(200, body) as (url, _), connected(url) as registry, pytest.raises(SchemaError, match=message):
        registry.by_id(5)


@pytest.fixture
def registry(registry_url: str) -> Iterator[HttpRegistry]:
    with connected(registry_url) as registry:
        yield registry


@pytest.mark.e2e
def test_refusal_has_the_servers_words_and_ours(registry: HttpRegistry, subject: str) -> None:
    registry.register(subject, OLD)
    with pytest.raises(IncompatibleSchema) as caught:
        registry.register(subject, WITH_C)
    ours, theirs = caught.value.problems
    assert ours.startswith("field 'c' has no default")
    assert registry.address in theirs
    assert "Incompatible artifact" in theirs
    assert registry.register(subject, OLD) > 0  # the connection is none the worse


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("level", "refused", "taken", "words"),
    [
        ("FORWARD", WITHOUT_B, WITH_C, "field 'b' is gone"),
        ("BACKWARD", WITH_C, WITHOUT_B, "field 'c' has no default"),
        ("BACKWARD_TRANSITIVE", WITH_C, WITHOUT_B, "field 'c' has no default"),
    ],
)
def test_the_servers_policy_counts(
    registry: HttpRegistry, subject: str, level: str, refused: Any, taken: Any, words: str
) -> None:
    registry.register(subject, OLD)
    set_policy(registry.address, subject, level)
    assert registry.check(subject, refused)[0].startswith(words)
    with pytest.raises(IncompatibleSchema, match=words):
        registry.register(subject, refused)
    assert registry.check(subject, taken) == []
    registry.register(subject, taken)
    assert registry.latest(subject).version == 2


@pytest.mark.e2e
def test_transitive_policy_looks_at_every_version(registry: HttpRegistry, subject: str) -> None:
    b_again = {**OLD, "fields": [OLD["fields"][0], {"name": "b", "type": "int", "default": 0}]}
    for version in (WITHOUT_B, b_again):
        registry.register(subject, version)
    z_new = {**OLD, "fields": [*OLD["fields"], {"name": "z", "type": "int", "default": 1}]}
    set_policy(registry.address, subject, "BACKWARD_TRANSITIVE")
    assert registry.check(subject, z_new)[0].startswith("field 'b' has no default")
    set_policy(registry.address, subject, "BACKWARD")
    assert registry.check(subject, z_new) == []


@pytest.mark.e2e
def test_latest_is_not_from_a_cache(registry: HttpRegistry, registry_url: str, subject: str) -> None:
    registry.register(subject, OLD)
    assert registry.latest(subject).version == 1
    with connected(registry_url) as other:
        other.register(subject, WITHOUT_B)
    assert registry.latest(subject).version == 2


@pytest.mark.e2e
def test_a_wrong_path_is_said(registry_url: str) -> None:
    url = registry_url.removesuffix("/ccompat/v7")
    with connected(url) as registry, pytest.raises(SchemaError, match="check the URL's path"):
        registry.subjects()
