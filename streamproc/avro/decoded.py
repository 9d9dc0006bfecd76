"""What decoding gives, and the way that reads one record after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from streamproc.avro.codec import Codec
from streamproc.batch import Batch
from streamproc.errors import UndecodableRecord
from streamproc.log.batches import Part, RawRecord, RecordBatch
from streamproc.log.origins import Origin, origin_of, origins_of

#: Records that are read one by one before others may run: bad ones take up to 90 us each.
STEP: Final = 500


@dataclass(slots=True)
class Bad:
    """One record that could not be decoded."""

    record: RawRecord
    error: UndecodableRecord

    def __post_init__(self) -> None:
        self.error.__traceback__ = None  # its frames hold whole blocks


class Beat(NamedTuple):
    """A record that tells no more than how far a partition is, of which the topic's records are results."""

    offset: int  # its own
    partition: int
    time: int  # the stream time there, ms


@dataclass(slots=True)
class Decoded:
    """What a block's record batches hold: good rows as batches in offset order, bad ones one by one, and how each row
    went. Beats count as tombstones, which they are.
    """

    batches: list[Batch] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    block_rows: int = 0
    row_rows: int = 0
    tombstones: int = 0
    beats: list[Beat] = field(default_factory=list)


def decode_rows(
    out: Decoded, topic: str, codec: Codec, partition: int, parts: Sequence[Part], first_offset: int
) -> Iterator[None]:
    """One record at a time; the good ones of all these parts become one batch. Stops now and then, so that others may
    run.
    """
    records, offsets, stamps = [], [], []
    origins: list[Origin | None] = []
    for number, raw in enumerate(_unpacked(out, parts), 1):
        if number % STEP == 0:
            yield
        if raw.offset < first_offset:
            continue
        origin = None
        if raw.headers:
            origin = origin_of(raw.headers, empty=raw.key is None and raw.value is None)
        if raw.value is None:
            out.tombstones += 1
            if origin is not None and origin.is_beat:
                out.beats.append(Beat(raw.offset, origin.partition, origin.time))
            continue
        try:
            records.append(codec.decode(raw.value))
        except UndecodableRecord as error:
            out.bad.append(Bad(raw, error))
            continue
        offsets.append(raw.offset)
        stamps.append(raw.timestamp)
        origins.append(origin)
    out.row_rows += len(records)
    if records:
        at, ts = np.array(offsets, np.int64), np.array(stamps, np.int64)
        found = origins_of(origins)
        out.batches.append(Batch(topic, partition, codec.record, at, ts, records=records, origins=found))


def bad_batch(batch: RecordBatch, error: UndecodableRecord) -> Bad:
    """A record batch that is malformed, as one record: what came before its fault is good."""
    return Bad(RawRecord(batch.base_offset, batch.first_timestamp, None, bytes(batch.data), ()), error)


def _unpacked(out: Decoded, parts: Sequence[Part]) -> Iterator[RawRecord]:
    for part in parts:
        try:
            yield from part.records() if isinstance(part, RecordBatch) else part
        except UndecodableRecord as error:
            assert isinstance(part, RecordBatch)
            out.bad.append(bad_batch(part, error))
