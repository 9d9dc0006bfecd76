"""Decodes the blocks of one topic, for all stages that read it, and puts aside what none of them shall see."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.avro.blocks import BlockDecoder, Decoded
from streamproc.avro.codec import Codec
from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.define.deadletter import DeadLetter
from streamproc.define.duration import written
from streamproc.errors import TimeAhead
from streamproc.process.measures import values_of
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.metrics import SourceMetrics, WorkerMetrics
from streamproc.runtime.originals import record_at
from streamproc.runtime.outlet import letter_for
from streamproc.runtime.transport.block import Block, Fetched

Beat = tuple[int, Longs, Longs]  # offset; of one record: partitions of the stage before, and their stream times
_LETTERS = 50  # dead letters that are sent before others may run


class Ahead(NamedTuple):
    """An event that is too far ahead."""

    offset: int
    time: int
    stamp: int


def is_ahead(times: Longs, stamps: Longs, most: int) -> NDArray[np.bool_]:
    """Which events have a time more than ``most`` ms after they were taken in (``stamps``, where those are known)."""
    found: NDArray[np.bool_] = (stamps > 0) & (times > stamps) & (times - stamps > most)
    return found


def take_out_ahead(decoded: Decoded, field: str | None, most: int) -> list[Ahead]:
    """Takes out the events whose times, in a field, are too far ahead: one would close everybody's windows."""
    found: list[Ahead] = []
    if field is None:
        return found
    for number, batch in enumerate(decoded.batches):
        times, stamps = values_of(batch.column(field), np.int64).data, batch.timestamps
        ahead = is_ahead(times, stamps, most)
        if ahead.any():
            columns = (column[ahead].tolist() for column in (batch.offsets, times, stamps))
            found += (Ahead(*event) for event in zip(*columns, strict=True))
            decoded.batches[number] = batch.take(np.flatnonzero(~ahead))
    if found:
        decoded.batches[:] = [batch for batch in decoded.batches if len(batch)]
    return found


class TopicReader:
    """Decodes a topic's blocks, once for all that read it. Records that cannot be decoded become dead letters, once.

    Args:
        columns: the fields that anybody reads; None for all.
        time: the field with the event time, where events are refused that are too far ahead.
        ahead: ms; how much later than the record's timestamp it may be. None: no event is refused.
    """

    def __init__(
        self,
        topic: str,
        codec: Codec,
        columns: frozenset[str] | None,
        metrics: WorkerMetrics,
        *,
        time: str | None = None,
        ahead: int | None = None,
    ) -> None:
        self.topic = topic
        self._time, self._most = (None, 0) if ahead is None else (time, ahead)
        if columns is not None and self._time is not None:
            columns |= {self._time}
        self._decoder = BlockDecoder(topic, codec, columns)
        self._whole = self._decoder if columns is None else BlockDecoder(topic, codec)
        self._metrics = SourceMetrics(metrics, topic)

    async def read(self, block: Block, outlet: KafkaOutlet, app: str) -> list[Batch]:
        """The block's good rows. Of a fetch that comes in pieces all is decoded with the first."""
        decoded = block.shared.get(self)
        while isinstance(decoded, asyncio.Future):  # another stage is at it
            await asyncio.wait([decoded])
            decoded = block.shared.get(self)
        if decoded is None:
            decoded = block.shared[self] = await self._decode(block)
            refused = take_out_ahead(decoded, self._time, self._most)  # at once: nobody shall see these events
            await self._send_letters(decoded, block, outlet, app)
            for number, event in enumerate(refused):
                if number % _LETTERS == 0:
                    await asyncio.sleep(0)
                await outlet.dead_letter(self._letter(event, block, app))
        assert isinstance(decoded, Decoded)
        fetched = block.fetched
        if not fetched.is_piece:
            return decoded.batches
        return [part for batch in decoded.batches if len(part := _between(batch, fetched))]

    def beats(self, block: Block) -> list[Beat]:
        """What the block tells of stream times alone, where its topic is rekeyed. After :meth:`read`."""
        decoded, fetched = block.shared.get(self), block.fetched
        assert isinstance(decoded, Decoded)
        return [
            (beat.offset, np.array([beat.partition]), np.array([beat.time]))
            for beat in decoded.beats
            if fetched.first_offset <= beat.offset < fetched.next_offset
        ]

    async def _send_letters(self, decoded: Decoded, block: Block, outlet: KafkaOutlet, app: str) -> None:
        for number, bad in enumerate(decoded.bad):
            if number % _LETTERS == 0:
                await asyncio.sleep(0)
            raw = bad.record
            letter = letter_for(
                bad.error,
                app=app,
                stage="decode",
                topic=block.topic,
                partition=block.partition,
                offset=raw.offset,
                key=raw.key,
                value=raw.value,
            )
            await outlet.dead_letter(letter)
        decoded.bad.clear()

    def _letter(self, event: Ahead, block: Block, app: str) -> DeadLetter:
        beyond = _span(event.time - event.stamp)
        error = TimeAhead(
            f"{self._time} is {_moment(event.time)}, {beyond} after the record's own timestamp, "
            f"{_moment(event.stamp)}; at most {written(self._most)} after it is taken"
        )
        at = {"topic": block.topic, "partition": block.partition, "offset": event.offset}
        letter = letter_for(error, app=app, stage="decode", **at)  # type: ignore[arg-type]
        raw = record_at(block, event.offset)
        return letter if raw is None else msgspec.structs.replace(letter, key=raw.key, value=raw.value)

    async def _decode(self, block: Block) -> Decoded:
        began = time.perf_counter()
        fetched, decoded = block.fetched, Decoded()
        steps = self._decoder.steps(decoded, block.partition, fetched.parts, fetched.begin)
        if next(steps, self) is None:  # it takes its time
            ready = block.shared[self] = asyncio.get_running_loop().create_future()
            try:
                for _ in steps:
                    await asyncio.sleep(0)
            finally:
                block.shared.pop(self, None)
                ready.set_result(None)
        if self._whole is not self._decoder:
            self._lend_all_columns(block, decoded)
        metrics = self._metrics
        metrics.decode.observe(time.perf_counter() - began)
        metrics.blocks.inc()
        metrics.bytes.inc(block.size)
        metrics.count_rows(
            block=decoded.block_rows, row=decoded.row_rows, tombstone=decoded.tombstones, bad=len(decoded.bad)
        )
        return decoded

    def _lend_all_columns(self, block: Block, decoded: Decoded) -> None:
        """Lets each batch of some columns fetch its other columns, should somebody ask for its records (late ones
        are).
        """

        fetched, partition = block.fetched, block.partition  # not the block: it holds the batches that hold this

        def whole(offsets: Longs, timestamps: Longs) -> Batch:
            again = self._whole.decode(partition, fetched.parts, fetched.begin).batches
            records = {int(o): r for batch in again for o, r in zip(batch.offsets, batch.records(), strict=True)}
            rows = [records[int(offset)] for offset in offsets]
            return Batch(self.topic, partition, again[0].record, offsets, timestamps, records=rows)

        for batch in decoded.batches:
            batch.lend(partial(whole, batch.offsets, batch.timestamps))


def _between(batch: Batch, fetched: Fetched) -> Batch:
    """The rows of a piece's offsets."""
    first, end = batch.offsets.searchsorted([fetched.first_offset, fetched.next_offset]).tolist()
    return batch.slice(first, end)


def _moment(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since the epoch"


def _span(ms: int) -> str:
    try:
        return str(timedelta(milliseconds=ms))
    except OverflowError:
        return f"{ms} ms"
