"""Record batches straight to columns, by a fast Avro reader.

A v2 record is a valid Avro record, because Kafka's varints are Avro's zig-zag longs: one with a key or one without, one
with so and so many headers. So the body of a record batch, with an Avro object-container header in front and a sync
marker behind, is an Avro file block, and a fast Avro reader turns it into columns with no Python per record. That holds
only where every record of the batch has that shape, so what was read is believed only when it is proven right (see
:class:`_Proof`); everything else takes the row way, with the same result.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from streamproc.avro.codec import FRAME, Codec, physical
from streamproc.avro.decoded import Decoded, decode_rows
from streamproc.avro.ports import Schema
from streamproc.avro.walk import Places, Step, Unproven, require, steps_over, varint_sizes
from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import RecordBatch, varint
from streamproc.log.origins import NAME

_SYNC = b"streamproc-block"
_LEAST = 12  # bytes that a record takes: six numbers, the attributes, the framing
_BLOCK_TYPES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
#: Names that no schema's field can have by accident.
_OURS = "kafka__"
_LEN, _ATTR, _TIME, _OFFSET, _KEY, _VLEN, _WIRE, _HEADERS = (
    _OURS + name for name in ("len", "attr", "ts", "off", "key", "vlen", "wire", "hdrs")
)
_MOST_HEADERS = 16
_ORIGIN = NAME.encode()
#: Whether keys are null, and how many headers every record has.
Shape = tuple[bool, int]
_USUAL: Shape = (False, 0)


class PolarsBlocks:
    """Decodes record batches of a topic by polars' Avro reader.

    Raises:
        ValueError: the schema is not one that it reads; see :func:`fits_blocks`.
    """

    def __init__(self, topic: str, codec: Codec, wanted: list[str]) -> None:
        if not fits_blocks(codec.schema):
            raise ValueError("a schema that is not flat and plain")
        self.topic, self.codec = topic, codec
        self._wanted = wanted
        fields = physical(codec.schema)["fields"]
        # A string that nobody wants must be one all the same, or the two ways would differ; the reader looks at it.
        texts = [f["name"] for f in fields if "string" in f["type"] and f["name"] not in wanted]
        self._columns = [_LEN, *wanted, *texts]
        self._fields = fields
        self._starts: dict[Shape, bytes] = {}
        self._proof = _Proof(FRAME.pack(0, codec.schema_id), [f["type"] for f in fields])

    def steps(self, out: Decoded, partition: int, batches: Sequence[RecordBatch], first_offset: int) -> Iterator[None]:
        """Adds the rows at or behind ``first_offset``. Record batches in a row that look alike are one block."""
        for shape, group in groupby(batches, _shape):
            alike = list(group)
            if shape is None or not self._block(out, partition, alike, shape, first_offset):
                for batch in alike:
                    single = shape is not None and len(alike) > 1
                    if not (single and self._block(out, partition, [batch], shape or _USUAL, first_offset)):
                        yield from decode_rows(out, self.topic, self.codec, partition, [batch], first_offset)

    def _block(self, out: Decoded, partition: int, batches: list[RecordBatch], shape: Shape, first_offset: int) -> bool:
        try:
            bodies = [batch.body() for batch in batches]
            if batches[0].attributes & 0x07:
                shape = _shape_of(bodies[0])
                require(shape[1] <= _MOST_HEADERS)
            if shape[1]:  # ids of results are read by rows
                require(not any(_ORIGIN in bytes(body) for body in bodies))
            require(all(batch.count * _LEAST <= len(body) for batch, body in zip(batches, bodies, strict=True)))
            container, starts = self._container(batches, bodies, shape)
            frame = _read(container, self._columns)
            sizes = [len(body) for body in bodies]
            offsets, stamps = self._proof.of(batches, container, starts, sizes, frame[_LEN].to_numpy(), shape)
        except (UndecodableRecord, Unproven):
            return False
        rows = frame.select(_plain(frame[name]) for name in self._wanted)
        if offsets[0] < first_offset:
            keep = np.flatnonzero(offsets >= first_offset)
            rows, offsets, stamps = rows[keep], offsets[keep], stamps[keep]
        out.block_rows += len(rows)
        if len(rows):
            out.batches.append(Batch(self.topic, partition, self.codec.record, offsets, stamps, frame=rows))
        return True

    def _container(
        self, batches: list[RecordBatch], bodies: list[bytes | memoryview], shape: Shape
    ) -> tuple[bytes, list[int]]:
        """The record batches as an Avro file, and where in it each one's body begins."""
        if shape not in self._starts:
            self._starts[shape] = _container_header(self._fields, shape)
        parts: list[bytes | memoryview] = [self._starts[shape]]
        starts, at = [], len(parts[0])
        for batch, body in zip(batches, bodies, strict=True):
            head = _long(batch.count) + _long(len(body))
            starts.append(at + len(head))
            at += len(head) + len(body) + len(_SYNC)
            parts += (head, body, _SYNC)
        return b"".join(parts), starts


def _shape(batch: RecordBatch) -> Shape | None:
    """The shape of the batch's first record; None if there is none, or too many headers."""
    if batch.count < 1:
        return None
    if batch.attributes & 0x07:
        return _USUAL  # compressed: look again when the body is there
    shape = _shape_of(batch.data)
    return shape if shape[1] <= _MOST_HEADERS else None


def fits_blocks(schema: Schema) -> bool:
    """Whether values of a schema can be read as blocks: a flat record of plain types, each perhaps nullable."""
    fields = physical(schema)["fields"] if isinstance(schema, dict) and schema.get("type") == "record" else ()
    return bool(fields) and all(_fits(f["type"]) and not f["name"].startswith(_OURS) for f in fields)


def _fits(kind: Any) -> bool:
    if isinstance(kind, list):
        return len(kind) == 2 and "null" in kind and any(_fits(branch) for branch in kind)
    return isinstance(kind, str) and kind in _BLOCK_TYPES


class _Proof:
    """Proves that record batches hold exactly the rows that were read of them, and gives their offsets and times.

    The reader tells only each record's length. By these every record is walked over from its start to its end; all
    must come out there, with keys alike, one schema id, as many headers, and offsets rising within their
    batch.
    """

    def __init__(self, wire: bytes, kinds: list[Any]) -> None:
        self._wire = wire
        self._value: list[Step] = steps_over(kinds)

    def of(
        self,
        batches: list[RecordBatch],
        data: bytes,
        starts: list[int],
        filled: list[int],
        lengths: Longs,
        shape: Shape,
    ) -> tuple[Longs, Longs]:
        """Offsets and timestamps of the rows.

        Args:
            data: the bodies of ``batches`` lie in it at ``starts``, each of so many bytes as ``filled`` says.
            lengths: of each record, as it was read.

        Raises:
            Unproven: what was read may be wrong.
        """
        counts = np.array([batch.count for batch in batches], np.int64)
        require(len(lengths) == counts.sum() and lengths.min() > 0 and lengths.max() < len(data))
        sizes = lengths + varint_sizes(lengths)
        ends = np.cumsum(sizes)
        last = np.cumsum(counts) - 1  # each batch's last row
        behind = np.cumsum(filled)
        require(np.array_equal(ends[last], behind))
        ends += np.repeat(starts - (behind - filled), counts)
        places = Places(data, ends - sizes)
        require(np.array_equal(places.longs(), lengths) and np.array_equal(places.at, ends - lengths))
        times, deltas = self._walk(places, ends, shape)
        return self._offsets(batches, counts, last, deltas), _stamps(batches, counts, times)

    def _walk(self, places: Places, ends: Longs, shape: Shape) -> tuple[Longs, Longs]:
        null_key, headers = shape
        places.move(1)  # the attributes are unused
        times, deltas, key = places.longs(), places.longs(), places.longs()
        require((key == -1).all() if null_key else ((key >= 0) & (key < 1 << 31)).all())
        if not null_key:
            places.move(key)
        value = places.longs()
        value_end = places.at + value
        places.five(self._wire)
        for step in self._value:
            step(places)
        require(np.array_equal(places.at, value_end))
        require((places.longs() == headers).all())
        for step in steps_over(["bytes"] * 2 * headers):
            step(places)
        require(np.array_equal(places.at, ends))
        return times, deltas

    @staticmethod
    def _offsets(batches: list[RecordBatch], counts: Longs, last: Longs, deltas: Longs) -> Longs:
        rising = np.diff(deltas, prepend=-1) > 0
        rising[last[:-1] + 1] = deltas[last[:-1] + 1] >= 0  # each batch's first row
        require(rising.all())
        require((deltas[last] <= [batch.last_offset_delta for batch in batches]).all())
        return np.repeat(np.array([batch.base_offset for batch in batches], np.int64), counts) + deltas


def _stamps(batches: list[RecordBatch], counts: Longs, times: Longs) -> Longs:
    """Each record's time, or its batch's where the broker stamped it."""
    low, high = int(times.min()), int(times.max())
    require(all(abs(b.first_timestamp) < 1 << 62 for b in batches) and low > -1 << 62 and high < 1 << 62)
    if any(batch.append_time is not None for batch in batches):
        times = times * np.repeat([batch.append_time is None for batch in batches], counts)
    first = [batch.first_timestamp if batch.append_time is None else batch.append_time for batch in batches]
    return np.repeat(np.array(first, np.int64), counts) + times


def _read(container: bytes, columns: list[str]) -> pl.DataFrame:
    try:
        return pl.read_avro(io.BytesIO(container), columns=columns)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the reader is no Exception; it costs no more than this way
        raise Unproven from error


def _shape_of(body: bytes | memoryview) -> Shape:
    """The shape of a body's first record."""
    try:
        _, at = varint(body, 0)
        _, at = varint(body, at + 1)
        _, at = varint(body, at)
        key, at = varint(body, at)
        value, at = varint(body, at + max(key, 0))
        headers, _ = varint(body, at + max(value, 0))
    except IndexError:
        return _USUAL
    return key < 0, max(headers, 0)


def _plain(series: pl.Series) -> pl.Series:
    """A column of the types that batches have: narrow numbers widened."""
    if series.dtype == pl.Int32:
        return series.cast(pl.Int64)
    return series.cast(pl.Float64) if series.dtype == pl.Float32 else series


def _container_header(fields: list[dict[str, Any]], shape: Shape) -> bytes:
    """The start of an Avro object-container file whose records are Kafka's, around values with these fields."""
    null_key, headers = shape
    around = {
        "type": "record",
        "name": "kafka__record",
        "fields": [
            {"name": _LEN, "type": "long"},
            {"name": _ATTR, "type": {"type": "fixed", "name": "kafka__attributes", "size": 1}},
            {"name": _TIME, "type": "long"},
            {"name": _OFFSET, "type": "long"},
            {"name": _KEY, "type": "long" if null_key else "bytes"},
            {"name": _VLEN, "type": "long"},
            {"name": _WIRE, "type": {"type": "fixed", "name": "kafka__framing", "size": FRAME.size}},
            *({"name": f["name"], "type": f["type"]} for f in fields),
            {"name": _HEADERS, "type": "long"},
            *({"name": f"{_HEADERS}{i}", "type": "bytes"} for i in range(2 * headers)),
        ],
    }
    text = json.dumps(around).encode()
    return b"Obj\x01" + _long(1) + _long(11) + b"avro.schema" + _long(len(text)) + text + _long(0) + _SYNC


def _long(value: int) -> bytes:
    """A non-negative number as Avro's long."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
