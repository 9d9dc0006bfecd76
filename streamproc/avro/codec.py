"""Records to bytes and back: JSON of the edges, Avro of the log.

In the log a value is framed as Confluent's serializers do: a zero byte, the schema's id as four big-endian bytes, the
Avro datum.
Source: Confluent's documentation, "Wire Format".
"""

from __future__ import annotations

import io
import json
import re
import struct
import time
import types
from typing import Any, NamedTuple, Protocol, Union, get_args, get_origin

import fastavro
import msgspec

from streamproc.avro.agree import schema_of
from streamproc.avro.defaults import with_defaults
from streamproc.avro.fit import checker
from streamproc.avro.guard import Guard, Refused, guard_of
from streamproc.avro.ports import Registry, Schema
from streamproc.avro.schema import normal
from streamproc.errors import InvalidRecord, SchemaNotFound, UndecodableRecord
from streamproc.record import Record

_UNKNOWN = 1000  # ids that are remembered as not there
_ASK_AGAIN = 5.0  # seconds
FRAME = struct.Struct(">bI")
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
_ADDRESS = re.compile(r" from <_io\.BytesIO[^>]*>")  # fastavro tells where in memory it read; the same is the same
_NAMED = re.compile(r"(?:unknown|missing required) field `(.*?)`")


class Named(Protocol):
    """What a codec needs of a topic."""

    @property
    def name(self) -> str: ...

    @property
    def record(self) -> type[Record]: ...


class Writer(NamedTuple):
    """How to read values of one schema id: fastavro's parsed schemas, and the reader's where it differs; and what looks
    at them first, where that is needed.
    """

    writer: Any
    reader: Any
    guard: Guard | None


class Codec:
    """Encodes and decodes one record type's values.

    Args:
        record: the type; its bound schema is registered under ``subject``.

    Raises:
        IncompatibleSchema: the registry refuses the schema.
    """

    def __init__(self, record: type[Record], registry: Registry, subject: str) -> None:
        self.record = record
        self.registry = registry
        self.schema = schema_of(record)
        self.schema_id = registry.register(subject, self.schema)
        self._prefix = FRAME.pack(0, self.schema_id)
        self._parsed = self.reader = parsed(self.schema)
        self._unknown: dict[int, float] = {}  # until when not to ask again
        self._writers: dict[int, Writer] = {self.schema_id: Writer(self._parsed, None, guard_of(self._parsed))}
        self._misfit = checker(physical(self.schema))
        self._flat = _flat(record)
        self._from_json = msgspec.json.Decoder(record)
        self._to_json = msgspec.json.Encoder()

    @classmethod
    def of(cls, topic: Named, registry: Registry) -> Codec:
        """The codec of a topic's values."""
        return cls(topic.record, registry, f"{topic.name}-value")

    def from_json(self, data: bytes | msgspec.Raw) -> Record:
        """Raises InvalidRecord, naming the field."""
        try:
            return self._from_json.decode(data)
        except msgspec.ValidationError as error:
            raise _invalid(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRecord(f"not JSON: {error}") from None

    def to_json(self, record: Record) -> bytes:
        return self._to_json.encode(record)

    def encode(self, record: Record) -> bytes:
        """A record as framed Avro.

        Raises:
            InvalidRecord: a value does not fit its field: a type that the schema does not hold, a number past its
                range; the message and ``field`` name it.
        """
        try:
            values = (
                msgspec.structs.asdict(record) if self._flat else msgspec.to_builtins(record, builtin_types=(bytes,))
            )
            misfit = self._misfit(values)
            if misfit is None:
                out = io.BytesIO()
                out.write(self._prefix)
                fastavro.schemaless_writer(out, self._parsed, values)
                return out.getvalue()
        except (ValueError, TypeError, OverflowError) as error:  # what no Avro type is like
            raise InvalidRecord(f"{self.record.__name__}: {error}") from None
        raise InvalidRecord(*_found(values, misfit, self.schema))

    def decode(self, wire: bytes) -> Record:
        """A framed Avro value as a record, by Avro's resolution rules where another schema wrote it.

        Raises:
            UndecodableRecord: a short frame, an unknown schema id, a truncated or overlong datum, or a schema that
                cannot be resolved.
        """
        values = self.decode_values(wire)
        try:
            return self.record(**values) if self._flat else msgspec.convert(values, self.record)
        except (TypeError, msgspec.ValidationError) as error:
            raise UndecodableRecord(f"not a {self.record.__name__}: {error}") from None

    def decode_values(self, wire: bytes) -> dict[str, Any]:
        """As :meth:`decode`, to a dict."""
        if len(wire) < FRAME.size:
            raise UndecodableRecord(f"expected at least {FRAME.size} bytes of framing; got {len(wire)}")
        magic, schema_id = FRAME.unpack_from(wire)
        if magic != 0:
            raise UndecodableRecord(f"expected framed Avro (a zero byte first); got 0x{magic & 0xFF:02x}")
        schemas = self.writer(schema_id)
        data = io.BytesIO(wire)
        data.seek(FRAME.size)
        try:
            if schemas.guard is not None:
                schemas.guard.check(wire, FRAME.size)
            values = fastavro.schemaless_reader(data, schemas.writer, schemas.reader)
        except Refused as error:
            raise UndecodableRecord(f"schema {schema_id}: {error}") from None
        except Exception as error:  # fastavro raises many types on malformed data
            said = _ADDRESS.sub("", f"{type(error).__name__}: {error}").rstrip(": ")
            raise UndecodableRecord(f"schema {schema_id}: {said}") from None
        if data.tell() != len(wire):
            raise UndecodableRecord(f"schema {schema_id}: {len(wire) - data.tell()} bytes left after the datum")
        return values  # type: ignore[no-any-return]

    def writer(self, schema_id: int) -> Writer:
        """How values of a schema id are read. Raises UndecodableRecord if that cannot be known."""
        found = self._writers.get(schema_id)
        if found is None:
            schema = self._registered(schema_id)
            try:
                writer = parsed(schema)
                found = Writer(writer, self._parsed, guard_of(writer))
            except Exception as error:  # fastavro raises many types on what is not Avro
                raise UndecodableRecord(f"schema {schema_id} is no Avro schema: {error}") from None
            self._writers[schema_id] = found
        return found

    def _registered(self, schema_id: int) -> Schema:
        """The registry is asked for an id that it does not have once in a while, not for every record that names it."""
        now = time.monotonic()
        if now >= self._unknown.get(schema_id, now):
            try:
                return self.registry.by_id(schema_id)
            except SchemaNotFound:
                if len(self._unknown) >= _UNKNOWN:
                    self._unknown.clear()
                self._unknown[schema_id] = now + _ASK_AGAIN
        raise UndecodableRecord(f"schema id {schema_id} is not in the registry")


def parsed(schema: Schema) -> Any:
    """A schema as fastavro takes it, for values as they are on the wire; defaults are such values, too."""
    return with_defaults(fastavro.parse_schema(physical(schema)))


def physical(schema: Schema) -> Any:
    """A schema with full names and without logical types: instants, dates and decimals stay the numbers or bytes that
    they are.
    """
    return normal(schema, drop=("doc", "logicalType", "precision", "scale"))


def _flat(record: type[Record]) -> bool:
    """Whether every field is a plain value under its own name, so that nothing need be converted."""
    plain = frozenset({str, int, float, bool, bytes, type(None)})
    return all(
        field.encode_name == field.name and plain.issuperset(_options(field.type))
        for field in msgspec.structs.fields(record)
    )


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _found(values: dict[str, Any], path: str, schema: Schema) -> tuple[str, str]:
    """A message and the dotted path of what does not fit."""
    path = path.removeprefix(".")
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    kinds = {field["name"]: field["type"] for field in schema["fields"]}  # type: ignore[index, call-overload]
    return f"{path}: {values[name]!r:.200} does not fit {json.dumps(kinds[name]):.200}", path


def field_of(text: str) -> tuple[str, str]:
    """From a message of msgspec: the field it complains of, dotted, or empty; and the message without the place."""
    at, named = _PATH.search(text), _NAMED.search(text)
    field = ".".join(part for part in (at[1] if at else "", named[1] if named else "") if part)
    return field, _PATH.sub("", text)


def _invalid(error: msgspec.ValidationError) -> InvalidRecord:
    field, text = field_of(str(error))
    return InvalidRecord(text, field)
