"""What a broker cannot read of its own log, and where a log begins anew: seen in its answers, before aiokafka does.

A batch whose checksum is wrong is sent like any other; that is :class:`BlockRecords`' part. But where a header is
damaged the broker itself cannot find its way, and answers every fetch of that place with an error, for ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError, UnknownError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import CorruptBatch

TRIES = 3  # times that damage is fetched: what was damaged on its way comes whole the next time
_UNREADABLE = (CorruptRecordException.errno, UnknownError.errno)
_EMPTY_TRIES = 20  # times that nothing comes of what is there; a broker that is asked for too much does that, too
_PATIENCE_MS = 10_000  # for the broker to say where a log ends
_log = logging.getLogger("streamproc.transport")


class Damage:
    """How often a partition's next batch has come damaged, how far ahead was looked for a good one, and whether its
    log has begun anew.
    """

    def __init__(self) -> None:
        self._offset, self._tries, self._step = -1, 0, 1
        self._lost: int | None = None

    def seen(self, offset: int) -> int:
        """Counts once more what was fetched at ``offset``; how often that was by now."""
        self._tries = self._tries + 1 if offset == self._offset else 1
        self._offset = offset
        return self._tries

    def step(self) -> int:
        """How many offsets to leave out: twice as many each time, until something good comes."""
        step, self._step = self._step, self._step * 2
        return step

    def passed(self) -> None:
        """Something good came."""
        self._tries, self._step = 0, 1

    def lost(self, offset: int) -> None:
        """The log has no such offset any more."""
        self._lost = offset

    def restarted(self, offset: int) -> bool:
        """Whether this offset, the next that is read, lies before one that the log had: once."""
        lost, self._lost = self._lost, None
        return lost is not None and offset < lost


class GivenUp(bytes):
    """In the place of a fetch's data: offsets that the broker cannot read."""

    batch: CorruptBatch

    @classmethod
    def of(cls, batch: CorruptBatch) -> GivenUp:
        data = cls(b"damage")
        data.batch = batch
        return data


class WatchedClient:
    """In the place of a fetcher's client: looks at the answers to fetches, and passes on everything else."""

    def __init__(self, client: Any, fetcher: Any) -> None:
        self._client, self._fetcher = client, fetcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Sends a request. Of a fetch, partitions that brought nothing and never will come back mended."""
        response = await self._client.send(node_id, request, **options)
        if isinstance(request, FetchRequest) and any(p[1] or not p[-1] for _, parts in response.topics for p in parts):
            asked = {TopicPartition(topic, p): at for topic, parts in request.topics for p, at, _ in parts}
            response.topics = [
                (topic, [await self._seen(node_id, TopicPartition(topic, part[0]), asked, part) for part in parts])
                for topic, parts in response.topics
            ]
        return response

    async def _seen(self, node_id: int, tp: TopicPartition, asked: dict[TopicPartition, int], part: Any) -> Any:
        damage, offset, code = self._fetcher._damages[tp], asked[tp], part[1]
        if code == OffsetOutOfRangeError.errno:
            damage.lost(offset)
            _log.warning("%s[%d]: offset %d is not in the log any more; reading goes on at its start", *tp, offset)
        if code in _UNREADABLE:
            enough = damage.seen(offset) >= TRIES
            await asyncio.sleep(self._fetcher._retry_backoff)  # else it would be asked thousands of times a second
        elif code == 0 and not part[-1] and offset < part[3]:  # there is something, and it does not come
            enough = damage.seen(offset) >= _EMPTY_TRIES and not await self._readable(node_id, tp, offset)
        else:
            return part
        return await self._past(node_id, tp, offset, part) if enough else part

    async def _past(self, node_id: int, tp: TopicPartition, offset: int, part: Any) -> Any:
        """The answer for a partition, with what cannot be read given up."""
        end = (await self._fetcher.end_offsets([tp], _PATIENCE_MS))[tp]
        behind = await self._first_readable(node_id, tp, offset, end)
        if behind is None:
            return part
        said = f"the broker cannot read its log at offset {offset}, however often it is asked"
        said += f"; offsets {offset} to {behind - 1} are given up"
        _log.error("%s[%d]: %s", *tp, said)
        batch = CorruptBatch.of(offset, behind, memoryview(b""), UndecodableRecord(said))
        partition, _, _, _, *rest, _ = part
        return partition, 0, end, end, *rest, GivenUp.of(batch)

    async def _first_readable(self, node_id: int, tp: TopicPartition, offset: int, end: int) -> int | None:
        """The first offset behind ``offset`` that the broker can read, in a number of requests that is logarithmic."""
        bad, good, step = offset, offset, 1
        while True:
            good = min(offset + step, end)
            if good <= bad:
                return None  # not even the log's end
            if await self._readable(node_id, tp, good):
                break
            bad, step = good, step * 2
        while good - bad > 1:
            middle = (bad + good) // 2
            if await self._readable(node_id, tp, middle):
                good = middle
            else:
                bad = middle
        return good

    async def _readable(self, node_id: int, tp: TopicPartition, offset: int) -> bool:
        size = self._fetcher._max_partition_fetch_bytes  # what is not read depends on how much is asked for
        topics = [(tp.topic, [(tp.partition, offset, size)])]
        response = await self._client.send(node_id, FetchRequest(0, 0, size, self._fetcher._isolation_level, topics))
        (part,) = response.topics[0][1]
        return part[1] == 0 and bool(part[-1] or offset >= part[3])
