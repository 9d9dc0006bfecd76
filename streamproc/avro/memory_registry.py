"""A registry in memory: for tests, and for topologies that run without a broker."""

from __future__ import annotations

import threading

from streamproc.avro.compat import Compatibility
from streamproc.avro.ledger import Ledger
from streamproc.avro.ports import Registered, Schema
from streamproc.errors import SchemaNotFound


class MemoryRegistry:
    """Keeps schemas for as long as it lives. Its ids mean nothing to any other. May be used from several threads."""

    def __init__(self, *, compatibility: Compatibility = "BACKWARD") -> None:
        self.compatibility = compatibility
        self._ledger = Ledger()
        self._lock = threading.Lock()

    def register(self, subject: str, schema: Schema) -> int:
        with self._lock:
            return self._ledger.register(subject, schema, self.compatibility)

    def by_id(self, schema_id: int) -> Schema:
        schema = self._ledger.by_id(schema_id)
        if schema is None:
            raise SchemaNotFound(f"no schema with the id {schema_id} in memory")
        return schema

    def latest(self, subject: str) -> Registered:
        with self._lock:
            return self._ledger.latest(subject, "memory")

    def subjects(self) -> list[str]:
        with self._lock:
            return self._ledger.subjects()

    def check(self, subject: str, schema: Schema) -> list[str]:
        with self._lock:
            return self._ledger.check(subject, schema, self.compatibility)

    def close(self) -> None:
        """There is nothing to close."""

    def __repr__(self) -> str:
        return "MemoryRegistry()"
