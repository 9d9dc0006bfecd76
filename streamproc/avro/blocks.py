"""Kafka record batches straight to columns.

A v2 record with a key and no headers is a valid Avro record, because Kafka's varints are Avro's zig-zag longs. So the
body of a record batch, with an Avro object-container header in front and a sync marker behind, is an Avro file block,
and a fast Avro reader turns it into columns with no Python per record. That holds only where every record of the
batch has that shape, so the way is taken only when it is proven right afterwards (see :func:`_proven`); everything
else takes the row way, with the same result.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.ports import Schema
from streamproc.batch import Batch, Longs
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import RawRecord, RecordBatch, varint

_SYNC = b"streamproc-block"
_FEW = 48  # rows; below, a columnar reader's fixed cost (about 0.4 ms) is more than reading row by row takes
_BLOCK_TYPES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
#: Names that no schema's field can have by accident.
_LEN, _ATTR, _TIME, _OFFSET, _KEY, _VLEN, _WIRE, _HEADERS = (
    f"kafka__{n}" for n in ("len", "attr", "ts", "off", "key", "vlen", "wire", "hdrs")
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
        self._wire = FRAME.pack(0, codec.schema_id)
        self._fits = fits_blocks(codec.schema)
        self._headers = (
            {null_key: _container_header(codec.schema, null_key) for null_key in (False, True)} if self._fits else {}
        )

    def decode(
        self, partition: int, batches: Sequence[RecordBatch | Sequence[RawRecord]], first_offset: int
    ) -> Decoded:
        """All rows at or after ``first_offset``. Record batches in a row that look alike are decoded as one block."""
        out = Decoded()
        if sum(batch.count if isinstance(batch, RecordBatch) else len(batch) for batch in batches) < self._few:
            for batch in batches:
                self._rows(out, partition, batch, first_offset)
            return out
        for shape, group in groupby(batches, self._shape):
            alike = list(group)
            if shape is None or not self._block(out, partition, alike, shape, first_offset):  # type: ignore[arg-type]
                for batch in alike:
                    single = shape is not None and len(alike) > 1
                    if not (single and self._block(out, partition, [batch], shape, first_offset)):  # type: ignore[list-item, arg-type]
                        self._rows(out, partition, batch, first_offset)
        return out

    def _shape(self, batch: RecordBatch | Sequence[RawRecord]) -> bool | None:
        """Whether the batch's first key is null, if it may go the block way; None if it may not."""
        if not self._fits or not isinstance(batch, RecordBatch) or batch.count < 1 or batch.append_time is not None:
            return None
        if batch.attributes & 0x07:
            return False  # compressed: assume keys, and look again when the body is there
        return _first_key_is_null(batch.data)

    def _block(
        self, out: Decoded, partition: int, batches: list[RecordBatch], null_key: bool, first_offset: int
    ) -> bool:
        try:
            bodies = [bytes(batch.body()) for batch in batches]
        except UndecodableRecord:
            return False
        if batches[0].attributes & 0x07:
            null_key = _first_key_is_null(bodies[0])
        try:
            frame = self._read(batches, bodies, null_key)
        except (
            BaseException
        ) as error:  # a panic of the reader is a BaseException that is no Exception; it costs only this way
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            return False
        counts = np.array([batch.count for batch in batches], np.int64)
        if not _proven(frame, batches, bodies, counts, self._wire):
            return False
        offsets = np.repeat(np.array([b.base_offset for b in batches], np.int64), counts) + frame[_OFFSET].to_numpy()
        stamps = np.repeat(np.array([b.first_timestamp for b in batches], np.int64), counts) + frame[_TIME].to_numpy()
        wanted = [name for name in frame.columns if not name.startswith("kafka__")]
        rows = frame.select(_plain(frame[name]) for name in wanted)
        if offsets[0] < first_offset:
            keep = np.flatnonzero(offsets >= first_offset)
            rows, offsets, stamps = rows[keep], offsets[keep], stamps[keep]
        out.block_rows += len(rows)
        if len(rows):
            out.batches.append(Batch(self.topic, partition, self.codec.record, offsets, stamps, frame=rows))
        return True

    def _read(self, batches: list[RecordBatch], bodies: list[bytes], null_key: bool) -> pl.DataFrame:
        parts: list[bytes] = [self._headers[null_key]]
        for batch, body in zip(batches, bodies, strict=True):
            parts += (_long(batch.count), _long(len(body)), body, _SYNC)
        names = [f["name"] for f in self.codec.schema["fields"]]  # type: ignore[index, call-overload]
        wanted = names if self.columns is None else [n for n in names if n in self.columns]
        return pl.read_avro(io.BytesIO(b"".join(parts)), columns=[_LEN, _TIME, _OFFSET, _WIRE, *wanted, _HEADERS])

    def _rows(self, out: Decoded, partition: int, batch: RecordBatch | Sequence[RawRecord], first_offset: int) -> None:
        records, offsets, stamps = [], [], []
        try:
            for raw in batch.records() if isinstance(batch, RecordBatch) else batch:
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
        except UndecodableRecord as error:  # the batch itself: what came before its fault is good
            assert isinstance(batch, RecordBatch)
            out.bad.append(Bad(RawRecord(batch.base_offset, batch.first_timestamp, None, bytes(batch.data), ()), error))
        out.row_rows += len(records)
        if records:
            at, ts = np.array(offsets, np.int64), np.array(stamps, np.int64)
            out.batches.append(Batch(self.topic, partition, self.codec.record, at, ts, records=records))


def fits_blocks(schema: Schema) -> bool:
    """Whether values of a schema can be read as blocks: a flat record of plain types, each perhaps nullable."""
    return (
        isinstance(schema, dict) and schema.get("type") == "record" and all(_fits(f["type"]) for f in schema["fields"])
    )


def _fits(kind: Any) -> bool:
    if isinstance(kind, list):
        return (
            len(kind) == 2
            and "null" in kind
            and all(_fits(branch) for branch in kind if branch != "null")
            and kind != ["null", "null"]
        )
    if isinstance(kind, dict):
        return kind.get("logicalType", "timestamp-millis") == "timestamp-millis" and _fits(kind["type"])
    return kind in _BLOCK_TYPES


def _proven(frame: pl.DataFrame, batches: list[RecordBatch], bodies: list[bytes], counts: Longs, wire: bytes) -> bool:
    """Whether a frame read as a block is right.

    All must hold: as many rows as the headers say; no row with headers; one schema id throughout; each batch's record
    lengths add up to its body; the bytes at each place where those lengths put a record are that row's own length,
    time and offset.
    """
    if len(frame) != counts.sum():
        return False
    if not frame.select((pl.col(_HEADERS) == 0).all() & (pl.col(_WIRE) == pl.lit(wire)).all()).item():
        return False
    lengths, deltas, times = (frame[name].to_numpy() for name in (_LEN, _OFFSET, _TIME))
    if lengths.min() < 0 or deltas[0] < 0:
        return False
    last = np.cumsum(counts) - 1  # each batch's last row
    sizes = lengths + varint_sizes(lengths)
    ends = np.cumsum(sizes)
    if not np.array_equal(ends[last], np.cumsum([len(body) for body in bodies])):
        return False
    if (deltas[last] > np.array([batch.last_offset_delta for batch in batches])).any():
        return False
    rising = np.diff(deltas) > 0
    rising[last[:-1]] = deltas[last[:-1] + 1] >= 0  # a batch's first row follows another batch's last
    if not rising.all():
        return False
    data = np.frombuffer(b"".join(bodies), np.uint8)
    read, at = read_varints(data, ends - sizes)
    if not np.array_equal(read, lengths):
        return False
    read, at = read_varints(data, at + 1)  # after the attributes
    if not np.array_equal(read, times):
        return False
    read, _ = read_varints(data, at)
    return np.array_equal(read, deltas)


def varint_sizes(values: Longs) -> Longs:
    """How many bytes each value takes as a zig-zag varint."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    sizes = np.ones(len(values), np.int64)
    for shift in range(7, 64, 7):
        more = zigzag >= np.uint64(1 << shift)
        if not more.any():
            break
        sizes += more
    return sizes


def read_varints(data: np.ndarray[Any, np.dtype[np.uint8]], at: Longs) -> tuple[Longs, Longs]:
    """The zig-zag varints at each of many places, and where each ends; bytes past the end count as zero."""
    value = np.zeros(len(at), np.uint64)
    at = at.copy()
    open_ = np.arange(len(at))
    for shift in range(0, 70, 7):
        byte = data[np.minimum(at[open_], len(data) - 1)]
        value[open_] |= (byte & np.uint8(0x7F)).astype(np.uint64) << np.uint64(min(shift, 63))
        at[open_] += 1
        open_ = open_[byte >= 0x80]
        if not len(open_):
            break
    return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64), at


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
    """A column of the types that batches have: instants as milliseconds, narrow numbers widened."""
    if series.dtype == pl.Datetime:
        return series.dt.timestamp("ms")
    if series.dtype == pl.Int32:
        return series.cast(pl.Int64)
    return series.cast(pl.Float64) if series.dtype == pl.Float32 else series


def _container_header(schema: Any, null_key: bool) -> bytes:
    """The start of an Avro object-container file whose records are Kafka's, around values of ``schema``."""
    key: list[dict[str, Any]] = [{"name": _KEY, "type": "long" if null_key else "bytes"}]
    around = {
        "type": "record",
        "name": "kafka__record",
        "fields": [
            {"name": _LEN, "type": "long"},
            {"name": _ATTR, "type": {"type": "fixed", "name": "kafka__attributes", "size": 1}},
            {"name": _TIME, "type": "long"},
            {"name": _OFFSET, "type": "long"},
            *key,
            {"name": _VLEN, "type": "long"},
            {"name": _WIRE, "type": {"type": "fixed", "name": "kafka__wire", "size": FRAME.size}},
            *({"name": f["name"], "type": f["type"]} for f in schema["fields"]),
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
