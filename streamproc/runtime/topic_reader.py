"""Decodes the blocks of one topic, for all stages that read it."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from streamproc.avro.blocks import BlockDecoder, Decoded
from streamproc.avro.codec import Codec
from streamproc.batch import Batch
from streamproc.columns import Longs
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.metrics import SourceMetrics, WorkerMetrics
from streamproc.runtime.outlet import letter_for
from streamproc.runtime.transport.block import Block, Fetched

_LETTERS = 50  # dead letters that are sent before others may run


class TopicReader:
    """Decodes a topic's blocks, once for all that read it. Records that cannot be decoded become dead letters, once."""

    def __init__(self, topic: str, codec: Codec, columns: frozenset[str] | None, metrics: WorkerMetrics) -> None:
        self.topic = topic
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
            await self._send_letters(decoded, block, outlet, app)
        assert isinstance(decoded, Decoded)
        fetched = block.fetched
        if not fetched.is_piece:
            return decoded.batches
        return [part for batch in decoded.batches if len(part := _between(batch, fetched))]

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
