"""A schema registry server that speaks Confluent's HTTP API, through confluent-kafka's client.

Source: Confluent Schema Registry API reference; tested against Apicurio Registry 2.6.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from confluent_kafka.schema_registry import Schema as ServerSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from streamproc.avro.compat import change_problems
from streamproc.avro.ports import Registered, Schema
from streamproc.avro.schema import canonical, parse, parse_text
from streamproc.errors import IncompatibleSchema, SchemaError, SchemaNotFound, SettingsError

_RETRIES = 1
_RETRY_WAIT_MS = 200
#: Confluent's codes for: no such subject, version, schema, and no policy of its own for this subject.
_NOT_FOUND = (40401, 40402, 40403, 40408)


class HttpRegistry:
    """Schemas and subjects on a server.

    The policy of compatibility is the server's, per subject or for all: Confluent's is BACKWARD unless changed,
    Apicurio's is NONE, so there nothing is refused until someone sets it.

    Args:
        url: ``http[s]://host:port[/path]`` of one server, or several separated by commas.
        user: for HTTP's basic authentication; needs ``password``.
        ssl_ca: PEM file with the authorities to trust; those of certifi by default.
        ssl_cert: PEM file with the client's certificate, for mutual TLS; needs ``ssl_key``.
        ssl_key: PEM file with the client's private key.
        timeout: seconds that one request may take; a failed one is tried twice.

    Raises:
        SettingsError: the options do not go together.
        SchemaError: (from any method) the server cannot be reached or refuses.
    """

    OPTIONS = ("user", "password", "ssl_ca", "ssl_cert", "ssl_key", "timeout")

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ssl_ca: str | None = None,
        ssl_cert: str | None = None,
        ssl_key: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.address = _without_password(url)
        if (user is None) != (password is None):
            raise SettingsError("schema registry: user and password go together: give both or neither")
        if (ssl_cert is None) != (ssl_key is None):
            raise SettingsError("schema registry: ssl_cert and ssl_key go together: give both or neither")
        conf: dict[str, Any] = {
            "url": url,
            "timeout": timeout,
            "max.retries": _RETRIES,
            "retries.wait.ms": _RETRY_WAIT_MS,
            "basic.auth.user.info": None if user is None else f"{user}:{password}",
            "ssl.ca.location": ssl_ca,
            "ssl.certificate.location": ssl_cert,
            "ssl.key.location": ssl_key,
        }
        try:
            self._client = SchemaRegistryClient({key: value for key, value in conf.items() if value is not None})
        except (ValueError, OSError) as error:  # ssl.SSLError is an OSError
            raise SettingsError(f"schema registry {self.address}: {error}") from None
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def register(self, subject: str, schema: Schema) -> int:
        schema = parse(schema, where=subject)
        key = (subject, canonical(schema))
        if key not in self._ids:
            self._ids[key] = self._register(subject, schema, key[1])
        return self._ids[key]

    def by_id(self, schema_id: int) -> Schema:
        if schema_id not in self._schemas:
            with self._asking(f"no schema with the id {schema_id}"):
                self._schemas[schema_id] = self._parsed(self._client.get_schema(schema_id), f"schema {schema_id}")
        return self._schemas[schema_id]

    def latest(self, subject: str) -> Registered:
        return self._version(subject, "latest")

    def subjects(self) -> list[str]:
        with self._asking("no subjects"):
            return sorted(self._client.get_subjects())

    def check(self, subject: str, schema: Schema) -> list[str]:
        schema = parse(schema, where=subject)
        try:
            if canonical(self.latest(subject).schema) == canonical(schema) or self._is_registered(subject, schema):
                return []
        except SchemaNotFound:
            return []
        if self._is_compatible(subject, schema):
            return []
        found = self._own_problems(subject, schema)
        return found or [f"{self.address} finds it incompatible under {self._level(subject)}, and gives no reason"]

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _register(self, subject: str, schema: Schema, text: str) -> int:
        try:
            latest = self.latest(subject)
            if canonical(latest.schema) == text:  # the server may tell schemas apart that differ in nothing but doc
                return latest.id
        except SchemaNotFound:
            pass
        try:
            with self._asking(f"no subject {subject!r}"):
                return int(self._client.register_schema(subject, _for_server(schema)))
        except _Refused as refused:
            if refused.status != 409:
                raise
            raise IncompatibleSchema(subject, [*self._own_problems(subject, schema), str(refused)]) from None

    def _is_compatible(self, subject: str, schema: Schema) -> bool:
        """The server's word. Apicurio compares with all versions when asked so, whatever the policy: so ask twice."""
        candidate = _for_server(schema)
        with self._asking(f"no subject {subject!r}"):
            if not self._client.test_compatibility(subject, candidate, "latest"):
                return False
            if not self._level(subject).endswith("_TRANSITIVE"):
                return True
            return bool(self._client.test_compatibility_all_versions(subject, candidate))

    def _is_registered(self, subject: str, schema: Schema) -> bool:
        try:
            with self._asking(""):
                return self._client.lookup_schema(subject, _for_server(schema)) is not None
        except SchemaNotFound:
            return False

    def _own_problems(self, subject: str, schema: Schema) -> list[str]:
        """What the server objects to, in our words. It does not name fields in a form that is the same everywhere."""
        level = self._level(subject)
        policy = level.removesuffix("_TRANSITIVE")
        if policy not in ("BACKWARD", "FORWARD", "FULL"):
            return []
        versions: list[Any] = ["latest"]
        if policy != level:
            with self._asking(f"no subject {subject!r}"):
                versions = self._client.get_versions(subject)
        found: dict[str, None] = {}
        for version in versions:
            old = self._version(subject, version).schema
            found |= dict.fromkeys(change_problems(schema, old, policy))  # type: ignore[arg-type]
        return list(found)

    def _level(self, subject: str) -> str:
        """The policy for ``subject``; where two are named, the one that can refuse."""
        for asked in (subject, None):
            try:
                with self._asking(""):
                    level = str(self._client.get_compatibility(asked))
            except SchemaNotFound:
                continue
            if level != "NONE":  # Apicurio says NONE of a subject to which the level for all applies
                return level
        return "NONE"

    def _version(self, subject: str, version: int | Literal["latest"]) -> Registered:
        with self._asking(f"no subject {subject!r}"):
            found = self._client.get_version(subject, version)
            schema = self._parsed(found.schema, f"{subject} version {found.version}")
            return Registered(subject, int(found.version), int(found.schema_id), schema)

    def _parsed(self, found: Any, what: str) -> Schema:
        where = f"{self.address}: {what}"
        if (found.schema_type or "AVRO") != "AVRO":
            raise SchemaError(f"{where}: expected an Avro schema; it is {found.schema_type}")
        if found.references:
            raise SchemaError(f"{where}: refers to other schemas, which is not supported: register it as one schema")
        return parse_text(found.schema_str, where=where)

    @contextmanager
    def _asking(self, missing: str) -> Iterator[None]:
        """Turns what the client raises into errors of ours; ``missing`` is what a 404 means."""
        try:
            yield
        except SchemaRegistryError as error:
            text = f"{error.error_message} (HTTP {error.http_status_code})"
            if error.error_code in _NOT_FOUND:
                raise SchemaNotFound(f"{missing} at {self.address}: {text}") from None
            if error.http_status_code == 404:
                text += "; check the URL's path, such as /apis/ccompat/v7 for Apicurio"
            if error.http_status_code in (401, 403):
                text += "; check user and password"
            raise _Refused(f"schema registry {self.address} refuses: {text}", error.http_status_code) from None
        except SchemaError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SchemaError(f"{self.address} is not a schema registry: it answers something else: {error}") from error
        except Exception as error:
            if not type(error).__module__.startswith("httpx"):  # httpx2 or httpx, as the client's version has it
                raise
            why = str(error) or type(error).__name__
            raise SchemaError(f"schema registry {self.address} does not answer: {why}") from None

    def __repr__(self) -> str:
        return f"HttpRegistry({self.address})"


class _Refused(SchemaError):
    """The server answered with an error. ``status`` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


def _for_server(schema: Schema) -> ServerSchema:
    return ServerSchema(json.dumps(schema, separators=(",", ":"), ensure_ascii=False), schema_type="AVRO")


def _without_password(urls: str) -> str:
    """``urls`` as messages show them. Raises SettingsError for what is not a URL of a server."""
    shown = []
    for url in urls.split(","):
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"schema registry {url.strip()!r}: expected http[s]://host:port[/path]")
        shown.append(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    return ",".join(shown)
