"""Columns to Kafka record bodies: what :meth:`Codec.encode` makes of each row, without making the rows.

Columns of plain types go through a compiled kernel. Everything else, and everything where there are no kernels, goes
row by row through the codec; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from streamproc import compiled
from streamproc.avro.codec import FRAME, Codec, Named
from streamproc.avro.plain import Field, Plain, plain_fields
from streamproc.batch import records_of
from streamproc.columns import Columns, Longs
from streamproc.errors import InvalidRecord, OversizedRecord, RecordError
from streamproc.log.batch_builder import LIMIT, Body, packed, record_size
from streamproc.log.origins import OriginHeaders
from streamproc.log.partition import partition_of
from streamproc.log.ports import DEFAULT_MESSAGE_LIMIT, Headers
from streamproc.record import Record

FEW = 1  # rows: up to here the codec is as fast
_CHUNK = 1 << 15  # rows that are written at a time
_BESIDE = 20_000  # bytes, at least, that a record of plain fields takes beside its texts
_RUN = 1 << 12  # rows without a key that go to one partition, before the next one's turn


class Misfits(InvalidRecord):
    """Rows do not fit their schema or their topic. The message is of the first; ``rows`` has all, ascending."""

    def __init__(self, first: RecordError, rows: Longs) -> None:
        super().__init__(str(first), first.field if isinstance(first, InvalidRecord) else "")
        self.reason = first.reason
        self.rows = rows


class Sink(Named, Protocol):
    """What a writer needs of a topic."""

    @property
    def key(self) -> str | None: ...

    @property
    def partitions(self) -> int: ...

    def key_of(self, record: Any) -> bytes | None: ...


class RecordWriter:
    """Writes rows of one topic.

    Args:
        codec: of the topic's values.
        topic: whose key and partitions they get.
        limit: bytes of a body, uncompressed; one record may be more.
        most: bytes of a record; larger ones do not fit.
        use_kernels: None: where there are any.
    """

    def __init__(
        self,
        codec: Codec,
        topic: Sink,
        *,
        limit: int = LIMIT,
        most: int = DEFAULT_MESSAGE_LIMIT,
        use_kernels: bool | None = None,
    ) -> None:
        self._codec, self._topic, self._limit, self._most = codec, topic, limit, most
        self._use_kernels = compiled.available() if use_kernels is None else use_kernels
        self._fields = plain_fields(codec)
        self._frame = np.frombuffer(FRAME.pack(0, codec.schema_id), np.uint8)
        self._turn = 0  # of rows without a key

    def write(
        self,
        columns: Columns,
        timestamps: Longs,
        partitions: Longs | None = None,
        origins: OriginHeaders | None = None,
    ) -> Iterator[tuple[int, Body]]:
        """Bodies of records with the topic's keys, and the partition of each. Per partition, rows keep their order.
        Checks all rows at once; writes when it is iterated.

        Args:
            columns: the fields of the topic's record.
            timestamps: int64[n], milliseconds since the epoch.
            partitions: int64[n], where the caller has them; else they are found by the keys.
            origins: the rows' ids, as their one header.

        Raises:
            Misfits: some rows do not fit their schema, or are too large.
            InvalidRecord: the columns are not the record's fields.
        """
        if self._use_kernels and self._fields is not None and len(columns) > FEW:
            plain = self._plain(columns, self._fields)
            if plain is not None and plain.text_bytes() + _BESIDE > self._most:
                plain = None  # row by row it is found out which are too large
            elif plain is not None and len(rows := np.flatnonzero(plain.misfit)):
                self._complain(columns, rows)
                plain = None
            if plain is not None:
                return self._write_plain(plain, np.ascontiguousarray(timestamps), partitions, origins)
        headers = [()] * len(columns) if origins is None else list(origins.headers())
        return self._write_rows(records_of(columns, self._topic.record), timestamps, partitions, headers)

    def _complain(self, columns: Columns, rows: Longs) -> None:
        (record,) = records_of(columns.take(rows[:1]), self._topic.record)
        try:
            self._codec.encode(record)
        except InvalidRecord as error:
            raise Misfits(error, rows) from None

    # Row by row.

    def _write_rows(
        self, records: list[Record], timestamps: Longs, partitions: Longs | None, headers: Sequence[Headers]
    ) -> Iterator[tuple[int, Body]]:
        keys = [self._topic.key_of(record) for record in records]
        values: list[bytes] = []
        first: RecordError | None = None
        misfits = []
        for row, record in enumerate(records):
            try:
                values.append(self._encode(record, keys[row], headers[row]))
            except RecordError as error:
                first = first or error
                misfits.append(row)
        if first is not None:
            raise Misfits(first, np.array(misfits))
        if partitions is None:
            count = self._topic.partitions
            partitions = np.array([-1 if key is None else partition_of(key, count) for key in keys], np.int64)
        return self._pack_rows(timestamps.tolist(), keys, values, self._spread(partitions), headers)

    def _encode(self, record: Record, key: bytes | None, headers: Headers) -> bytes:
        value = self._codec.encode(record)
        if (size := record_size(key, value, headers)) > self._most:
            raise OversizedRecord(self._topic.name, size, self._most)
        return value

    def _pack_rows(
        self,
        timestamps: list[int],
        keys: list[bytes | None],
        values: list[bytes],
        partitions: Longs,
        headers: Sequence[Headers],
    ) -> Iterator[tuple[int, Body]]:
        for start in range(0, len(values), _CHUNK):
            for partition, rows in _by_partition(partitions[start : start + _CHUNK]):
                of = [
                    [column[row] for row in (rows + start).tolist()] for column in (timestamps, keys, values, headers)
                ]
                for body in packed(of[0], of[1], of[2], self._limit, of[3]):  # type: ignore[arg-type]
                    yield partition, body

    def _spread(self, partitions: Longs) -> Longs:
        """Gives partitions to rows that have none, in runs."""
        free = np.flatnonzero(partitions < 0)
        if not len(free):
            return partitions
        partitions = partitions.copy()
        partitions[free] = (self._turn + np.arange(len(free)) // _RUN) % self._topic.partitions
        self._turn += (len(free) - 1) // _RUN + 1
        return partitions

    # By the kernel.

    def _plain(self, columns: Columns, fields: list[Field]) -> Plain | None:
        """The columns as the kernel takes them; None where it cannot."""
        if set(columns) != {field.name for field in fields}:
            return None
        plain = Plain(len(columns))
        for field in fields:
            if not plain.add(field, columns[field.name]):
                return None
        if self._topic.key is not None and not plain.add_key(columns[self._topic.key], self._topic.key):
            return None
        return plain

    def _write_plain(
        self, plain: Plain, timestamps: Longs, partitions: Longs | None, origins: OriginHeaders | None
    ) -> Iterator[tuple[int, Body]]:
        from streamproc.compiled import writer as kernels

        data, ops = plain.data(), plain.ops()
        starts, sizes = plain.key
        if partitions is None:
            partitions = kernels.partitions_of(data, starts, sizes, self._topic.partitions)
        partitions = self._spread(partitions)
        tail, place, ids = (b"", 0, np.empty((3, plain.rows), np.int64)) if origins is None else origins.tail()
        id_tail = np.frombuffer(tail, np.uint8)
        for start in range(0, plain.rows, _CHUNK):
            some = slice(start, min(start + _CHUNK, plain.rows))
            parts = list(_by_partition(partitions[some]))
            order = np.concatenate([rows for _, rows in parts])
            ends = np.cumsum([len(rows) for _, rows in parts])
            columns = (*plain.tables(some), data, starts[some], sizes[some], timestamps[some])
            ids_of_some = np.ascontiguousarray(ids[:, some])
            out, batches = kernels.write(
                ops, *columns, self._frame, order, ends, self._limit, id_tail, place, ids_of_some
            )
            for part, begin, end, count, first, highest in batches.tolist():
                yield parts[part][0], Body(out[begin:end].tobytes(), count, first, highest)


def _by_partition(partitions: Longs) -> Iterator[tuple[int, Longs]]:
    """The rows of each partition that has some."""
    counts = np.bincount(partitions)
    if np.count_nonzero(counts) <= 1:
        yield int(partitions[0]), np.arange(len(partitions))
        return
    small = len(counts) <= 1 << 16  # then numpy sorts by digits
    order = np.argsort(partitions.astype(np.uint16) if small else partitions, kind="stable")
    ends = np.cumsum(counts)
    for partition in np.flatnonzero(counts).tolist():
        yield partition, order[ends[partition] - counts[partition] : ends[partition]]
