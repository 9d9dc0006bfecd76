"""What a registry of ours keeps, and its rules: ids never change, no incompatible version is added. Does no I/O."""

from __future__ import annotations

from typing import Any

from streamproc.avro.compat import Compatibility, change_problems
from streamproc.avro.ports import Registered, Schema
from streamproc.avro.schema import canonical, parse
from streamproc.errors import IncompatibleSchema, SchemaError, SchemaNotFound


class Ledger:
    """Schemas by id, and ids by subject in the order of their versions.

    One schema has one id, under however many subjects; schemas are the same when their canonical texts are. The next id
    is the highest plus one, so that none is used again.
    """

    def __init__(self) -> None:
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[str, int] = {}
        self._subjects: dict[str, list[int]] = {}

    def known(self, subject: str, schema: Schema) -> int | None:
        """The id of ``schema`` if it is a version of ``subject``, else None."""
        schema_id = self._ids.get(canonical(schema))
        return schema_id if schema_id in self._subjects.get(subject, ()) else None

    def check(self, subject: str, schema: Schema, compatibility: Compatibility) -> list[str]:
        """What is wrong with ``schema`` as the subject's next version. Raises SchemaError if it is not a schema."""
        schema = parse(schema, where=subject)
        versions = self._subjects.get(subject)
        if not versions or self.known(subject, schema) is not None:
            return []
        return change_problems(schema, self._schemas[versions[-1]], compatibility)

    def register(self, subject: str, schema: Schema, compatibility: Compatibility) -> int:
        """The id of ``schema`` under ``subject``, added where it is new.

        Raises:
            SchemaError: it is not a schema, or the subject has no name.
            IncompatibleSchema: the policy forbids it after the newest version.
        """
        if not subject:
            raise SchemaError("a subject needs a name, such as '<topic>-value'; got an empty one")
        found = self.check(subject, schema, compatibility)
        if found:
            raise IncompatibleSchema(subject, found)
        schema = parse(schema)
        schema_id = self._ids.setdefault(canonical(schema), max(self._schemas, default=0) + 1)
        self._schemas.setdefault(schema_id, schema)
        versions = self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def by_id(self, schema_id: int) -> Schema | None:
        return self._schemas.get(schema_id)

    def latest(self, subject: str, where: str) -> Registered:
        """The newest version. Raises SchemaNotFound, which names ``where`` it was looked for."""
        versions = self._subjects.get(subject)
        if not versions:
            has = ", ".join(self.subjects()) or "none"
            raise SchemaNotFound(f"no subject {subject!r} in {where}; it has: {has}")
        return Registered(subject, len(versions), versions[-1], self._schemas[versions[-1]])

    def subjects(self) -> list[str]:
        return sorted(self._subjects)

    def to_json(self) -> dict[str, Any]:
        """As JSON: ``schemas`` by id in their order, ``subjects`` by name, each the list of its versions' ids."""
        return {
            "schemas": {str(schema_id): self._schemas[schema_id] for schema_id in sorted(self._schemas)},
            "subjects": {subject: self._subjects[subject] for subject in self.subjects()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Ledger:
        """The inverse of :meth:`to_json`. Raises ValueError or SchemaError for what that cannot have made."""
        match data:
            case {"schemas": dict(schemas), "subjects": dict(subjects)} if len(data) == 2:
                ledger = cls()
                ledger._load_schemas(schemas)
                ledger._load_subjects(subjects)
                return ledger
        raise ValueError("expected an object with the objects 'schemas' and 'subjects', and nothing else")

    def copy(self) -> Ledger:
        """An independent ledger with the same content."""
        other = Ledger()
        other._schemas, other._ids = dict(self._schemas), dict(self._ids)
        other._subjects = {subject: list(versions) for subject, versions in self._subjects.items()}
        return other

    def _load_schemas(self, schemas: dict[str, Any]) -> None:
        for key, schema in schemas.items():
            if not key.isdecimal() or str(int(key)) != key or int(key) < 1:
                raise ValueError(f"schemas: {key!r} is not an id (1, 2, …)")
            text = canonical(parse(schema, where=f"schemas.{key}"))
            if text in self._ids:
                raise ValueError(f"schemas: {key} and {self._ids[text]} are the same schema")
            self._ids[text] = int(key)
            self._schemas[int(key)] = schema

    def _load_subjects(self, subjects: dict[str, Any]) -> None:
        for subject, versions in subjects.items():
            if not isinstance(versions, list) or not versions or len(set(map(str, versions))) != len(versions):
                raise ValueError(f"subjects.{subject}: expected a list of different ids")
            unknown = [v for v in versions if type(v) is not int or v not in self._schemas]
            if unknown:
                raise ValueError(f"subjects.{subject}: there is no schema with the id {unknown[0]!r}")
            self._subjects[subject] = versions
