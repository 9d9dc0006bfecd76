"""Whether all ways of decoding say the same of the same record batches.

The ways: blocks by the kernels, blocks by polars, row by row. Beside them stands fastavro's own reading of each value.
"""

from __future__ import annotations

import functools
import inspect
import io
import json
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro

from streamproc.avro.blocks import BlockDecoder, Decoded
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.compiled import available
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import Part, RawRecord, RecordBatch
from tests.avro.kit import bound
from tests.fuzz.schemas import Walker, parsed

_BY_ROWS = 1 << 60
_HINTS = {"boolean": bool, "int": int, "long": int, "float": float, "double": float, "string": str, "bytes": bytes}
#: A row: its offset, its timestamp, its values so that equal means equal to the bit.
Line = tuple[Any, ...]


class World:
    """A reader's record type, and the schemas that its data may be written with, each under an id."""

    def __init__(self, reader: dict[str, Any], writers: Sequence[dict[str, Any]]) -> None:
        registry = MemoryRegistry(compatibility="NONE")
        self.reader = reader
        self.codec = Codec(_record(json.dumps(reader)), registry, "t-value")
        self.ids = [self.codec.schema_id, *(registry.register("t-value", writer) for writer in writers)]
        self._reader = parsed(reader)
        schemas = list(zip(self.ids, (reader, *writers), strict=True))
        self._writers = {id: parsed(schema) for id, schema in schemas}
        self._walkers = {id: Walker(schema) for id, schema in schemas}
        self.names = [field["name"] for field in reader["fields"]]

    def decoders(self, columns: frozenset[str] | None) -> dict[str, BlockDecoder]:
        """A decoder for each way."""
        make = functools.partial(BlockDecoder, "t", self.codec, columns)
        ways = {"rows": make(few=_BY_ROWS)}
        if "compiled" not in inspect.signature(BlockDecoder).parameters:
            return ways | {"polars": make(few=0)}
        ways["polars"] = make(few=0, compiled=False)  # type: ignore[call-arg]
        if available():
            ways["compiled"] = make(few=0, compiled=True)  # type: ignore[call-arg]
        return ways

    def datum(self, wire: bytes) -> dict[str, Any] | None:
        """What fastavro alone reads; None where it does not take the value, all of it."""
        writer = self._writers.get(_id(wire))
        if writer is None:
            return None
        data = io.BytesIO(wire[5:])
        try:
            # As it is: with the same schema for a reader fastavro would take the way of resolution.
            same = writer is self._writers[self.codec.schema_id]
            found = fastavro.schemaless_reader(data, writer, None if same else self._reader)
        except Exception:  # it raises many types
            return None
        return found if data.tell() == len(wire) - 5 else None  # type: ignore[return-value]

    def is_datum(self, wire: bytes) -> bool:
        """Whether a value is one by the letter, of no unusual depth or length."""
        walker = self._walkers.get(_id(wire))
        return walker is not None and walker.takes(wire[5:])


def _id(wire: bytes) -> int:
    """The schema's id; -1 for what is not framed."""
    return int.from_bytes(wire[1:5], "big") if len(wire) >= 5 and wire[0] == 0 else -1


@functools.lru_cache(1)
def world(reader: str, writers: tuple[str, ...]) -> World:
    """A world of schemas as JSON; the last one is kept."""
    return World(json.loads(reader), [json.loads(writer) for writer in writers])


def _record(reader: str) -> Any:
    schema = json.loads(reader)
    with tempfile.TemporaryDirectory(prefix="streamproc-test-") as folder:
        made = bound(Path(folder), schema, {f["name"]: _hint(f["type"]) for f in schema["fields"]})
        from streamproc.avro.agree import schema_of

        schema_of(made)  # kept from now on
        return made


def _hint(kind: Any) -> Any:
    if isinstance(kind, list):
        inner = [branch for branch in kind if branch != "null"]
        return _hint(inner[0]) | None if len(inner) == 1 and len(kind) == 2 and isinstance(inner[0], str) else Any
    if isinstance(kind, dict):
        return bytes if kind["type"] == "fixed" else _hint(kind["type"]) if "logicalType" in kind else Any
    return _HINTS.get(kind, Any)


def agree(world: World, parts: Sequence[Part], columns: frozenset[str] | None = None, first: int = 0) -> Counter[str]:
    """Decodes every way, and raises AssertionError where one differs. How many rows there are, and how many of them
    each way for blocks read as such.
    """
    names = [name for name in world.names if columns is None or name in columns]
    found = {way: decoder.decode(0, parts, first) for way, decoder in world.decoders(columns).items()}
    rows = found.pop("rows")
    lines, bad = _lines(rows, names), _bad(rows)
    _right(world, parts, names, first, lines)
    taken = Counter({"rows": len(lines)})
    for way, decoded in found.items():
        _same(lines, _lines(decoded, names), way)
        _same(bad, _bad(decoded), f"{way}: bad records")
        assert decoded.tombstones == rows.tombstones, way
        _same(_ids(rows), _ids(decoded), f"{way}: ids")
        assert decoded.beats == rows.beats, way
        assert decoded.block_rows + decoded.row_rows == len(lines), way
        taken[way] = decoded.block_rows
    return taken


def _same(rows: list[Any], others: list[Any], way: str) -> None:
    for row, other in zip(rows, others, strict=False):
        assert row == other, f"{way} has {str(other)[:1000]}; the row way {str(row)[:1000]}"
    assert len(rows) == len(others), f"{way} has {len(others)}, the row way {len(rows)}"


def _right(world: World, parts: Sequence[Part], names: list[str], first: int, lines: list[Line]) -> None:
    """Holds the row way against fastavro. It may refuse what fastavro takes without being Avro, never Avro."""
    read = {line[0]: line for line in lines}
    assert len(read) == len(lines), "an offset twice"
    for record in records(parts):
        line = read.pop(record.offset, None)
        if record.offset < first or record.value is None:
            assert line is None, f"offset {record.offset} is not wanted"
        elif line is not None or world.is_datum(record.value):
            values = world.datum(record.value)
            expected = values and (record.offset, record.timestamp, *(exact(values[name]) for name in names))
            assert line == expected, f"the row way has {line}; fastavro {expected} for {record.value!r:.500}"
    assert not read, f"rows that are nowhere: {read}"


def records(parts: Sequence[Part]) -> Iterator[RawRecord]:
    """All records; of a broken batch those before its fault."""
    for part in parts:
        try:
            yield from part.records() if isinstance(part, RecordBatch) else part if isinstance(part, Sequence) else ()
        except UndecodableRecord:
            pass


def _lines(decoded: Decoded, names: list[str]) -> list[Line]:
    lines: list[Line] = []
    for batch in decoded.batches:
        assert batch.offsets.dtype == batch.timestamps.dtype == "int64"
        columns = [batch[name].to_list() for name in names]
        assert all(len(column) == len(batch) for column in columns)
        values = [[exact(value) for value in column] for column in columns]
        lines += zip(batch.offsets.tolist(), batch.timestamps.tolist(), *values, strict=True)
    return lines


def _ids(decoded: Decoded) -> list[Line]:
    """Offset, stage, partition, offset there, number and time of each row that says where it comes from."""
    ids: list[Line] = []
    for batch in decoded.batches:
        if batch.origins is not None:
            stages, stage, *rest = batch.origins
            for offset, number, *of in zip(batch.offsets.tolist(), stage.tolist(), *map(list, rest), strict=True):
                if number >= 0:
                    ids.append((offset, stages[number], *map(int, of)))
    return ids


def _bad(decoded: Decoded) -> list[Any]:
    return [(bad.record, str(bad.error)) for bad in sorted(decoded.bad, key=lambda bad: bad.record.offset)]


def exact(value: Any) -> Any:
    """A value that equals another exactly if both have the same type and the same bits."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, dict):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return (type(value).__name__, value)
