"""Shows keys and values of records for people: as what their schema says, as text, or in hex."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import fastavro
import msgspec

from streamproc.avro.codec import FRAME, parsed
from streamproc.avro.guard import guard_of
from streamproc.avro.ports import Registry
from streamproc.errors import StreamprocError


class Shown(NamedTuple):
    """Bytes as text, and what they were taken for."""

    form: str | None  # such as "Reading (schema 3)", text, or hex
    text: str | None

    def facts(self, *, cut: bool = False) -> dict[str, Any]:
        """For printing."""
        return {"value": self.text, "value is": f"{self.form}, only its begin is kept" if cut else self.form}


def shown(data: bytes | None, registry: Registry) -> Shown:
    """Framed Avro of a schema that the registry has is JSON, what is printable is text, and all else is hex."""
    if data is None:
        return Shown(None, None)
    return _avro(data, registry) or _text(data) or Shown("hex", data.hex())


def _avro(data: bytes, registry: Registry) -> Shown | None:
    if len(data) < FRAME.size or data[0] != 0:
        return None
    schema_id = FRAME.unpack_from(data)[1]
    try:
        schema = parsed(registry.by_id(schema_id))
        guard = guard_of(schema)
        if guard is not None:
            guard.check(data, FRAME.size)
        wire = io.BytesIO(data)
        wire.seek(FRAME.size)
        value = fastavro.schemaless_reader(wire, schema, None)
        if wire.tell() != len(data):
            return None
        name = schema["name"].rpartition(".")[2] if isinstance(schema, dict) and "name" in schema else "Avro"
        return Shown(f"{name}, schema {schema_id}", msgspec.json.encode(value).decode())
    except StreamprocError:
        return None
    except Exception:  # fastavro raises many types on what is not of the schema
        return None


def _text(data: bytes) -> Shown | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return Shown("text", text) if all(c.isprintable() or c in "\n\t" for c in text) else None
