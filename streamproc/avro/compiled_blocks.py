"""Record batches straight to columns, by compiled kernels.

One kernel finds the records of all bodies, another reads their values by the program of each one's schema. What they
do not read, record by record, is read the row way: it has the last word on what is bad, and why.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.avro.codec import Codec
from streamproc.avro.decoded import STEP, Bad, Beat, Decoded, bad_batch
from streamproc.avro.layout import Layout, Slot
from streamproc.avro.program import program_of
from streamproc.batch import Batch
from streamproc.columns import Column, Columns, Longs, Origins, Texts
from streamproc.compiled.ops import ARRAY, BAD, CALL, GOOD, OTHER, TOMBSTONE, WIDTH
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import RawRecord, RecordBatch, varint

if TYPE_CHECKING:
    from streamproc.compiled.records import Found
    from streamproc.compiled.values import Values

_TOGETHER = 2 << 20  # bytes of bodies, about, that are decoded as one block: what comes of it stays in the cache
_PROGRAMS = 256  # schemas whose programs are kept
_LONGEST = 100_000  # rows of a program
_NONE = np.empty(0, np.int64)


class CompiledBlocks:
    """Decodes record batches of a topic by compiled kernels.

    Raises:
        ValueError: a wanted field is of a type that has no column.
    """

    def __init__(self, topic: str, codec: Codec, wanted: list[str]) -> None:
        self.topic, self.codec = topic, codec
        from streamproc.compiled import records, values  # now, not with the first block: they may have to be compiled

        self.walk, self.values = records.walk, values.Values
        self.attributes = {field.encode_name: field.name for field in msgspec.structs.fields(codec.record)}
        self._layout = Layout(codec.reader, frozenset(wanted))
        self._programs: dict[int, int | None] = {}  # by schema id: where it begins, or None if it cannot be had
        self._ids, self._entries = _NONE, _NONE
        self._code: NDArray[np.int64] = np.empty((0, WIDTH), np.int64)
        self._learn(codec.schema_id)
        if self._programs[codec.schema_id] is None:
            raise ValueError("a schema that no program reads")

    def steps(self, out: Decoded, partition: int, batches: Sequence[RecordBatch], first_offset: int) -> Iterator[None]:
        """Adds the rows at or behind ``first_offset``."""
        for together, bodies in self._unpacked(out, batches):
            yield from _Block(self, out, partition, together, bodies, first_offset).steps()

    def _unpacked(
        self, out: Decoded, batches: Sequence[RecordBatch]
    ) -> Iterator[tuple[list[RecordBatch], list[bytes | memoryview]]]:
        together: list[RecordBatch] = []
        bodies: list[bytes | memoryview] = []
        size = 0
        for batch in batches:
            try:
                body = batch.body()
            except UndecodableRecord as error:
                if together:
                    yield together, bodies
                out.bad.append(bad_batch(batch, error))
                together, bodies, size = [], [], 0
                continue
            together.append(batch)
            bodies.append(body)
            size += len(body)
            if size >= _TOGETHER:
                yield together, bodies
                together, bodies, size = [], [], 0
        if together:
            yield together, bodies

    @property
    def layout(self) -> Layout:
        return self._layout

    def read(self, values: Values) -> int:
        """Reads all rows whose schema is known, or becomes known. How many are not good."""
        odd = values.run(self._ids, self._entries, self._code)
        if odd:
            ids = values.others()
            learnt = [schema_id for schema_id in ids[:_PROGRAMS] if self._learn(schema_id)]
            if learnt:
                values.run(self._ids, self._entries, self._code)
        return odd

    def _learn(self, schema_id: int) -> bool:
        """Whether there is a program for a schema now that was not there before."""
        if schema_id in self._programs or len(self._programs) >= _PROGRAMS:
            return False
        try:
            schemas = self.codec.writer(schema_id)
        except UndecodableRecord:
            return False  # it may be registered later
        try:
            code = program_of(schemas.writer, schemas.reader, self._layout)
            if len(code) > _LONGEST:
                raise ValueError("a program too long to be kept")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, struct.error):
            self._programs[schema_id] = None
            return False
        entry = len(self._code)
        self._programs[schema_id] = entry
        self._code = np.concatenate([self._code, _moved(code, entry)])
        self._ids = np.append(self._ids, schema_id)
        self._entries = np.append(self._entries, entry)
        return True


def _moved(code: NDArray[np.int64], by: int) -> NDArray[np.int64]:
    """A program whose first row is ``by``."""
    moved = code.copy()
    moved[:, 1] += by
    moved[np.isin(code[:, 0], (ARRAY, CALL)), 3] += by
    return moved


class _Block:
    """Record batches that are decoded together."""

    def __init__(
        self,
        blocks: CompiledBlocks,
        out: Decoded,
        partition: int,
        batches: list[RecordBatch],
        bodies: list[bytes | memoryview],
        first_offset: int,
    ) -> None:
        self._blocks, self._out, self._partition = blocks, out, partition
        self._batches, self._first = batches, first_offset
        self._layout = blocks.layout
        constants = self._layout.constants
        self._sizes = [len(body) for body in bodies]
        self._raw = bodies[0] if len(bodies) == 1 and not constants else b"".join([constants, *bodies])
        self._data = np.frombuffer(self._raw, np.uint8)

    def steps(self) -> Iterator[None]:
        found = self._found()
        origins = None if found.ids is None else self._origins(found)
        bad: list[tuple[float, Bad]] = []  # by its row; a batch's fault lies between two
        rows: NDArray[np.int64] | slice = slice(None)
        values = self._blocks.values(self._data, found.values, found.sizes, self._layout.words, self._layout.flags)
        if self._blocks.read(values):
            yield from self._odd(found, values, bad)
            rows = np.flatnonzero(values.status == GOOD)
        bad += [
            (int(found.ends[body]) - 0.5, bad_batch(self._batches[body], _fault(self._batches[body])))
            for body in found.faulty.tolist()
        ]
        self._out.bad += [one for _, one in sorted(bad, key=lambda pair: pair[0])]
        offsets = found.offsets[rows]
        if len(offsets):
            columns = Columns(
                {slot.name: _column(slot, self._data, values, rows) for slot in self._layout.slots.values()},
                len(offsets),
            )
            self._out.block_rows += len(offsets)
            of_rows = None if origins is None else origins.take(rows)
            if of_rows is not None and (of_rows.stage < 0).all():
                of_rows = None
            place = (self._blocks.topic, self._partition, self._blocks.codec.record)
            batch = Batch(*place, offsets, found.timestamps[rows], columns=columns, origins=of_rows)
            self._out.batches.append(batch)

    def _origins(self, found: Found) -> Origins:
        """Where records come from; beats are told."""
        assert found.ids is not None
        stages: dict[str, int] = {}
        numbers = []
        for start, size in found.stages.tolist():
            try:
                numbers.append(stages.setdefault(bytes(self._raw[start : start + size]).decode(), len(stages)))
            except UnicodeDecodeError:
                numbers.append(-1)
        stage = np.array([*numbers, -1])[found.ids[0]]  # of -1: the last
        origins = Origins(tuple(stages), stage, *found.ids[1:])
        for row in np.flatnonzero((stage >= 0) & (found.ids[2] < 0)).tolist():
            partition, time = int(origins.partition[row]), int(origins.time[row])
            self._out.beats.append(Beat(int(found.offsets[row]), partition, time))
        return origins

    def _found(self) -> Found:
        from streamproc.compiled.records import Body

        at, heads = len(self._layout.constants), []
        for batch, size in zip(self._batches, self._sizes, strict=True):
            stamped = batch.append_time
            heads.append(
                Body(
                    at,
                    at + size,
                    batch.count,
                    batch.base_offset,
                    batch.last_offset_delta,
                    batch.first_timestamp if stamped is None else stamped,
                    stamped is not None,
                )
            )
            at += size
        return self._blocks.walk(self._data, heads, self._first)

    def _odd(self, found: Found, values: Values, bad: list[tuple[float, Bad]]) -> Iterator[None]:
        """Leaves out the tombstones and reads the rest that no kernel read by rows."""
        status = values.status
        self._out.tombstones += int(np.count_nonzero(status == TOMBSTONE))
        saved: dict[int, Any] = {}
        for number, row in enumerate(np.flatnonzero((status == BAD) | (status == OTHER)).tolist(), 1):
            if number % STEP == 0:
                yield
            at, size = int(found.values[row]), int(found.sizes[row])
            try:
                saved[row] = self._blocks.codec.decode(bytes(self._raw[at : at + size]))
            except UndecodableRecord as error:
                bad.append((row, Bad(self._raw_record(found, row), error)))
        if saved:
            self._save(values, saved)
            self._out.row_rows += len(saved)
            self._out.block_rows -= len(saved)

    def _save(self, values: Values, saved: dict[int, Any]) -> None:
        """Puts records that were read by rows into the columns."""
        extra, at = [self._raw], len(self._raw)
        for row, record in saved.items():
            for slot in self._layout.slots.values():
                value = getattr(record, self._blocks.attributes[slot.name])
                if slot.kind in ("string", "bytes"):
                    if value is None:
                        values.words[slot.at : slot.at + 2, row] = 0, -1
                        continue
                    data = value.encode() if isinstance(value, str) else value
                    values.words[slot.at : slot.at + 2, row] = at, len(data)
                    extra.append(data)
                    at += len(data)
                    continue
                if slot.valid >= 0:
                    values.flags[slot.valid, row] = value is not None
                numbers = values.words.view(np.float64) if slot.kind == "double" else values.words
                target: NDArray[Any] = values.flags if slot.kind == "boolean" else numbers
                target[slot.at, row] = 0 if value is None else value
            values.status[row] = GOOD
        if len(extra) > 1:
            self._raw = b"".join(extra)
            self._data = np.frombuffer(self._raw, np.uint8)

    def _raw_record(self, found: Found, row: int) -> RawRecord:
        batch = self._batches[int(np.searchsorted(found.ends, row, side="right"))]
        start = int(found.starts[row])
        length, at = varint(self._raw, start)
        alone = replace(
            batch, attributes=batch.attributes & ~0x07, count=1, data=memoryview(self._raw)[start : at + length]
        )
        return next(alone.records())


def _fault(batch: RecordBatch) -> UndecodableRecord:
    """What is wrong with a batch that is known to be malformed."""
    try:
        for _ in batch.records():
            pass
    except UndecodableRecord as error:
        return error
    return UndecodableRecord(f"batch at offset {batch.base_offset}: malformed")


def _column(slot: Slot, data: NDArray[np.uint8], values: Values, rows: Longs | slice) -> Column:
    if slot.kind in ("string", "bytes"):
        starts, sizes = values.words[slot.at], values.words[slot.at + 1]
        return Texts(data, starts[rows], sizes[rows], binary=slot.kind == "bytes")
    valid = None if slot.valid < 0 else values.flags[slot.valid][rows]
    if valid is not None and valid.all():
        valid = None
    if slot.kind == "boolean":
        return _series(values.flags[slot.at][rows].view(np.bool_), valid)
    found = values.words[slot.at][rows]
    column = found.view(np.float64) if slot.kind == "double" else found
    return column if valid is None else _series(column, valid)


def _series(column: NDArray[Any], valid: NDArray[np.uint8] | None) -> pl.Series:
    series = pl.Series(column)
    if valid is None:
        return series
    return series.zip_with(pl.Series(valid.view(np.bool_)), pl.Series([None], dtype=series.dtype))
