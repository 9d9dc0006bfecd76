"""Feeds a replay with what its sources hold, up to the offsets that the kept state has seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import numpy as np

from streamproc.avro.blocks import BlockDecoder
from streamproc.avro.codec import Codec
from streamproc.runtime.flow_task import seen_number
from streamproc.runtime.replaying import Replay
from streamproc.runtime.shared_tables import own_sources
from streamproc.runtime.source_blocks import SourceReader
from streamproc.runtime.topic_reader import take_out_ahead
from streamproc.runtime.transport.block import Fetched
from streamproc.state.head import Head

Ranges = Mapping[str, tuple[int, int]]  # by topic: from an offset, to before another one


def ends(definition: Any, head: Head) -> dict[str, int]:
    """By source, the offset before which the kept state has seen all. Of several inputs that is further than where it
    would be read from again: rows that wait have been seen.
    """
    numbers = {source.topic.name: number for number, source in enumerate(getattr(definition, "inputs", ()))}
    return {
        topic.name: (
            head.header.get(seen_number(numbers[topic.name])) or 0
            if definition.sequenced
            else head.positions.get(topic.name, 0)
        )
        for topic in own_sources(definition)
    }


class ReplaySources:
    """One partition of the sources of a stage.

    Args:
        codecs: by topic.
        progress: told a topic's offset and its end.
    """

    def __init__(
        self,
        reader: SourceReader,
        definition: Any,
        partition: int,
        codecs: Mapping[str, Codec],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._reader, self._partition, self._progress = reader, partition, progress
        self._topics = {topic.name: topic for topic in own_sources(definition)}
        self._decoders = {name: BlockDecoder(name, codecs[name]) for name in self._topics}
        self.bad = 0  # records that could not be decoded
        self.ahead = 0  # events too far ahead in time

    async def feed(self, replay: Replay, ranges: Ranges) -> None:
        """Replays these offsets; of several sources the one that is behind in event time comes next, so that few rows
        wait.
        """
        left = {name: self._reader.blocks(name, self._partition, *ranges[name]) for name in self._topics}
        while left:
            name = min(left, key=replay.time_of)
            if not await self._feed_one(replay, name, left[name], ranges[name][1]):
                del left[name]

    async def _feed_one(self, replay: Replay, name: str, blocks: AsyncIterator[Fetched], end: int) -> bool:
        """Feeds one fetch. False where there is none any more."""
        fetched = await anext(blocks, None)
        if fetched is None:
            return False
        topic = self._topics[name]
        decoded = self._decoders[name].decode(self._partition, fetched.parts, fetched.first_offset)
        self.bad += sum(found.record.offset < end for found in decoded.bad)
        if topic.ahead is not None:
            self.ahead += sum(event.offset < end for event in take_out_ahead(decoded, topic.time, topic.ahead))
        for batch in decoded.batches:
            await replay.feed(batch, end)
        for beat in decoded.beats:
            if beat.offset < end:
                await replay.hear(name, beat.offset, np.array([beat.partition]), np.array([beat.time]))
        self._progress(name, min(fetched.next_offset, end), end)
        await asyncio.sleep(0)
        return True
