"""Kafka record batches straight to columns.

A v2 record with a key and no headers is a valid Avro record, because Kafka's varints are Avro's zig-zag longs. So the
body of a record batch, with an Avro object-container header in front and a sync marker behind, is an Avro file block,
and a fast Avro reader turns it into columns with no Python per record. That holds only where every record of the
batch has that shape, so what was read is believed only when it is proven right (see :class:`_Proof`); everything else
takes the row way, with the same result.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from streamproc.avro.codec import FRAME, Codec, physical
from streamproc.avro.ports import Schema
from streamproc.avro.walk import Places, Step, Unproven, require, steps_over, varint_sizes
from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import Part, RawRecord, RecordBatch, varint

_SYNC = b"streamproc-block"
_FEW = 48  # rows; below, a columnar reader's fixed cost (about 0.4 ms) is more than reading row by row takes
_LEAST = 12  # bytes that a record takes: six numbers, the attributes, the framing
_BLOCK_TYPES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
#: Names that no schema's field can have by accident.
_OURS = "kafka__"
_LEN, _ATTR, _TIME, _OFFSET, _KEY, _VLEN, _WIRE, _HEADERS = (
    _OURS + name for name in ("len", "attr", "ts", "off", "key", "vlen", "wire", "hdrs")
)


@dataclass(slots=True)
class Bad:
    """One record that could not be decoded."""

    record: RawRecord
    error: UndecodableRecord


@dataclass(slots=True)
class Decoded:
    """What a block's record batches hold: good rows as batches in offset order, bad ones one by one, and how each row
    went.
    """

    batches: list[Batch] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    block_rows: int = 0
    row_rows: int = 0
    tombstones: int = 0


class BlockDecoder:
    """Decodes the record batches of one topic.

    Args:
        topic: the topic's name.
        codec: of the topic's values.
        columns: the fields that are needed, or None for all; a batch has at least these.
        few: fetches of fewer records than this are read row by row, because that is faster.
    """

    def __init__(self, topic: str, codec: Codec, columns: frozenset[str] | None = None, *, few: int = _FEW) -> None:
        self.topic = topic
        self._few = few
        self.codec = codec
        self.columns = columns
        self._fits = fits_blocks(codec.schema)
        if self._fits:
            fields = physical(codec.schema)["fields"]
            self._wanted = [f["name"] for f in fields if columns is None or f["name"] in columns] or [fields[0]["name"]]
            # A string that nobody wants must be one all the same, or the two ways would differ; the reader looks at it.
            texts = [f["name"] for f in fields if "string" in f["type"] and f["name"] not in self._wanted]
            self._columns = [_LEN, *self._wanted, *texts]
            self._headers = {null_key: _container_header(fields, null_key) for null_key in (False, True)}
            self._proof = _Proof(FRAME.pack(0, codec.schema_id), [f["type"] for f in fields])

    def decode(self, partition: int, batches: Sequence[Part], first_offset: int) -> Decoded:
        """All rows at or after ``first_offset``. Record batches in a row that look alike are decoded as one block."""
        out = Decoded()
        if sum(batch.count if isinstance(batch, RecordBatch) else len(batch) for batch in batches) < self._few:
            self._rows(out, partition, batches, first_offset)
            return out
        for shape, group in groupby(batches, self._shape):
            alike = list(group)
            if shape is None or not self._block(out, partition, alike, shape, first_offset):  # type: ignore[arg-type]
                for batch in alike:
                    single = shape is not None and len(alike) > 1
                    if not (single and self._block(out, partition, [batch], shape, first_offset)):  # type: ignore[list-item, arg-type]
                        self._rows(out, partition, [batch], first_offset)
        return out

    def _shape(self, batch: Part) -> bool | None:
        """Whether the batch's first key is null, if it may go the block way; None if it may not."""
        if not self._fits or not isinstance(batch, RecordBatch) or batch.count < 1:
            return None
        if batch.attributes & 0x07:
            return False  # compressed: assume keys, and look again when the body is there
        return _first_key_is_null(batch.data)

    def _block(
        self, out: Decoded, partition: int, batches: list[RecordBatch], null_key: bool, first_offset: int
    ) -> bool:
        try:
            bodies = [batch.body() for batch in batches]
            if batches[0].attributes & 0x07:
                null_key = _first_key_is_null(bodies[0])
            require(all(batch.count * _LEAST <= len(body) for batch, body in zip(batches, bodies, strict=True)))
            container, starts = self._container(batches, bodies, null_key)
            frame = _read(container, self._columns)
            sizes = [len(body) for body in bodies]
            offsets, stamps = self._proof.of(batches, container, starts, sizes, frame[_LEN].to_numpy(), null_key)
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
        self, batches: list[RecordBatch], bodies: list[bytes | memoryview], null_key: bool
    ) -> tuple[bytes, list[int]]:
        """The record batches as an Avro file, and where in it each one's body begins."""
        parts: list[bytes | memoryview] = [self._headers[null_key]]
        starts, at = [], len(parts[0])
        for batch, body in zip(batches, bodies, strict=True):
            head = _long(batch.count) + _long(len(body))
            starts.append(at + len(head))
            at += len(head) + len(body) + len(_SYNC)
            parts += (head, body, _SYNC)
        return b"".join(parts), starts

    def _rows(self, out: Decoded, partition: int, batches: Sequence[Part], first_offset: int) -> None:
        """One record at a time; the good ones of all these batches become one batch."""
        records, offsets, stamps = [], [], []
        for raw in _unpacked(out, batches):
            if raw.offset < first_offset:
                continue
            if raw.value is None:
                out.tombstones += 1
                continue
            try:
                records.append(self.codec.decode(raw.value))
            except UndecodableRecord as error:
                out.bad.append(Bad(raw, error))
                continue
            offsets.append(raw.offset)
            stamps.append(raw.timestamp)
        out.row_rows += len(records)
        if records:
            at, ts = np.array(offsets, np.int64), np.array(stamps, np.int64)
            out.batches.append(Batch(self.topic, partition, self.codec.record, at, ts, records=records))


def _unpacked(out: Decoded, batches: Sequence[Part]) -> Iterator[RawRecord]:
    for batch in batches:
        try:
            yield from batch.records() if isinstance(batch, RecordBatch) else batch
        except UndecodableRecord as error:  # the batch itself: what came before its fault is good
            assert isinstance(batch, RecordBatch)
            out.bad.append(Bad(RawRecord(batch.base_offset, batch.first_timestamp, None, bytes(batch.data), ()), error))


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
    must come out there, with keys alike, one schema id, no headers, and offsets rising within their batch.
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
        null_key: bool,
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
        times, deltas = self._walk(places, ends, null_key)
        return self._offsets(batches, counts, last, deltas), _stamps(batches, counts, times)

    def _walk(self, places: Places, ends: Longs, null_key: bool) -> tuple[Longs, Longs]:
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
        places.byte(0)  # no headers
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


def _first_key_is_null(body: bytes | memoryview) -> bool:
    try:
        _, at = varint(body, 0)
        _, at = varint(body, at + 1)
        _, at = varint(body, at)
        length, _ = varint(body, at)
    except IndexError:
        return False
    return length < 0


def _plain(series: pl.Series) -> pl.Series:
    """A column of the types that batches have: narrow numbers widened."""
    if series.dtype == pl.Int32:
        return series.cast(pl.Int64)
    return series.cast(pl.Float64) if series.dtype == pl.Float32 else series


def _container_header(fields: list[dict[str, Any]], null_key: bool) -> bytes:
    """The start of an Avro object-container file whose records are Kafka's, around values with these fields."""
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
