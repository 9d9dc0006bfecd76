"""A registry to which nothing is added."""

from __future__ import annotations

from typing import Any

from streamproc.avro.ports import Registry, Schema

_NO_ID = 0  # no schema has it


class ReadOnlyRegistry:
    """Reads another one. What is to be registered gets an id that no schema has."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def register(self, subject: str, schema: Schema) -> int:
        return _NO_ID

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)
