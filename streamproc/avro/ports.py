"""What the platform needs of a schema registry."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

#: A parsed Avro schema as JSON has it: a name, a union (list) or an object.
Schema = str | list[Any] | dict[str, Any]


class Registered(NamedTuple):
    """One version of a subject."""

    subject: str
    version: int
    id: int
    schema: Schema


class Registry(Protocol):
    """Maps schemas to ids that never change. Subjects are named ``<topic>-value``, as Confluent's are.

    Calls may block on a file or a server for a moment; results of ``by_id`` and ``register`` are cached for ever,
    since an id's schema never changes.
    """

    def register(self, subject: str, schema: Schema) -> int:
        """The id of ``schema`` under ``subject``; a new version where it is not there yet.

        Raises:
            IncompatibleSchema: the newest version's data could not be read with it.
        """

    def by_id(self, schema_id: int) -> Schema:
        """Raises SchemaNotFound."""

    def latest(self, subject: str) -> Registered:
        """Raises SchemaNotFound."""

    def subjects(self) -> list[str]: ...

    def check(self, subject: str, schema: Schema) -> list[str]:
        """What is wrong with ``schema`` as the next version of ``subject``, naming each field; empty if compatible."""

    def close(self) -> None:
        """Lets go of connections, where there are any."""
