"""Reads all of a topic from its beginning, and goes on with what comes: for tables that every worker holds whole."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamproc.avro.blocks import Bad, BlockDecoder
from streamproc.avro.codec import Codec
from streamproc.batch import Batch
from streamproc.define.topic import Topic
from streamproc.errors import BrokerUnavailable
from streamproc.process.measures import values_of
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.fetch import give_blocks
from streamproc.settings import KafkaSettings

_FETCH_BYTES = 1 << 20  # of a partition in one answer
_ANSWER_BYTES = 8 << 20  # of all partitions in one answer
_WAIT_MS = 100  # for a fetch, before it is looked how far the partitions are
_METADATA_MS = 30_000  # how often it is asked how many partitions there are
_PAUSE = 0.5  # seconds, after Kafka said that something is wrong
_log = logging.getLogger("streamproc.worker")


@dataclass(slots=True)
class Followed:
    """How far one partition has been read.

    Args:
        position: the next offset.
        time: stream time, the highest event time that came; None: nothing came.
        caught_up: since when (seconds since the epoch) there has been no more in Kafka, as far as that was heard; None:
            there is more, or nothing has been heard yet.
    """

    position: int
    time: int | None = None
    caught_up: float | None = None


class TopicFollower:
    """One consumer without a group, for all partitions of a topic. Make it inside a running event loop.

    A broker that goes away is waited for; then it goes on where it was. Where the log has lost what came next (it was
    deleted, or the topic was made anew), it goes on at the log's begin, and says so.

    Args:
        codec: of the topic's values.
        take: gets every batch, in the loop's thread; those of one partition in log order.
        refuse: gets the partition and every record that cannot be read; None: they are counted and logged.
        columns: the fields that batches need have; None: all.
        patience: seconds within which Kafka must answer at the start.
        compiled: whether to use compiled kernels; None for where there are any.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        codec: Codec,
        take: Callable[[Batch], None],
        *,
        refuse: Callable[[int, Bad], None] | None = None,
        columns: frozenset[str] | None = None,
        patience: float = 30.0,
        compiled: bool | None = None,
    ) -> None:
        self.topic, self._take_batch, self._refuse = topic, take, refuse
        self.refused = 0  # records that could not be read, so far
        self._bootstrap, self._patience = settings.bootstrap, patience
        wanted = None if columns is None else columns | ({topic.time} if topic.time else set())
        self._decoder = BlockDecoder(topic.name, codec, wanted, compiled=compiled)
        self._thread = ThreadPoolExecutor(1, f"follow-{topic.name}")
        self._partitions: dict[int, Followed] = {}
        self._ends: dict[int, int] = {}  # of partitions that are not as far yet as they were at the start
        self._ready = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_ANSWER_BYTES,
            metadata_max_age_ms=_METADATA_MS,
            request_timeout_ms=math.ceil(patience * 1000),
        )

    @property
    def partitions(self) -> Mapping[int, Followed]:
        """How far each partition has been read."""
        return MappingProxyType(self._partitions)

    def caught_up(self, partition: int, since: float) -> bool:
        """Whether Kafka has said, after ``since`` (seconds since the epoch), that it has no more of a partition than
        was taken. Not having heard of more is no evidence.
        """
        followed = self._partitions.get(partition)
        if followed is None or followed.caught_up is None:
            return False
        end, heard = self._heard(partition)
        return heard >= since and followed.position >= end

    async def start(self) -> None:
        """Connects, finds the partitions, and begins to read.

        Raises:
            BrokerUnavailable: nobody answers, or there is no such topic.
        """
        name = self.topic.name
        try:
            await self._consumer.start()
            give_blocks(self._consumer, lambda: frozenset((name,)))
            async with asyncio.timeout(self._patience):
                await self._consumer._client.add_topic(name)
                while not (numbers := self._consumer.partitions_for_topic(name)):
                    await asyncio.sleep(0.05)
                    await self._consumer._client.force_metadata_update()
                await self._assign(numbers)
                ends = await self._consumer.end_offsets([TopicPartition(name, number) for number in numbers])
        except (KafkaError, TimeoutError) as error:
            await self.close()
            raise BrokerUnavailable(f"no topic {name} in Kafka at {self._bootstrap}: {error!r}") from error
        self._ends = {tp.partition: int(end) for tp, end in ends.items()}
        self._running = asyncio.create_task(self._run(), name=f"follow {name}")
        self._running.add_done_callback(lambda _: self._ready.set())

    async def ready(self) -> None:
        """Returns once all has been taken that was there at the start. Raises what ended the reading, if that did."""
        await self._ready.wait()
        if self._running is not None and self._running.done():
            await self._running

    async def stopped(self) -> None:
        """Returns when :meth:`close` was called. Raises what ended the reading, if something else did."""
        if self._running is not None:
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                await self._running

    async def close(self) -> None:
        """Lets go."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        stopping = asyncio.ensure_future(self._consumer.stop())
        await asyncio.wait([stopping])
        if stopping.cancelled() or stopping.exception() is not None:
            # aiokafka's fetcher, cancelled while it waits before it tries a lost broker again, lets this out.
            await self._consumer._client.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # Which partitions there are.

    async def _assign(self, numbers: set[int]) -> None:
        """Reads these, new ones from their beginning. aiokafka forgets all positions with every assignment."""
        new = [TopicPartition(self.topic.name, number) for number in sorted(numbers - self._partitions.keys())]
        begins = await self._consumer.beginning_offsets(new)
        self._partitions |= {tp.partition: Followed(int(begins[tp])) for tp in new}
        self._consumer.assign([TopicPartition(self.topic.name, number) for number in self._partitions])
        for number, followed in self._partitions.items():
            self._consumer.seek(TopicPartition(self.topic.name, number), followed.position)

    async def _find_partitions(self) -> None:
        numbers = self._consumer.partitions_for_topic(self.topic.name) or set()
        if not numbers <= self._partitions.keys():
            await self._assign(numbers)
            _log.info("%s: it has %d partitions now", self.topic.name, len(self._partitions))

    async def _begin_anew(self, tp: TopicPartition) -> None:
        (begin,) = (await self._consumer.beginning_offsets([tp])).values()
        followed = self._partitions[tp.partition]
        said = "%s[%d]: there is nothing at offset %d any more: it is read from offset %d on"
        _log.warning(said, *tp, followed.position, begin)
        followed.position = int(begin)
        self._consumer.seek(tp, begin)

    # What comes.

    async def _run(self) -> None:
        while True:
            try:
                await self._find_partitions()
                found = await self._consumer.getmany(timeout_ms=_WAIT_MS)
            except OffsetOutOfRangeError as error:
                found = {}
                await self._again(error)
            except KafkaError as error:
                found = {}
                _log.warning("%s: %r; it is tried again", self.topic.name, error)
                await asyncio.sleep(_PAUSE)
            for tp in found:
                self._partitions[tp.partition].caught_up = None
            for tp, fetches in found.items():
                for fetched in fetches:
                    await self._take(tp.partition, fetched)
            self._note()

    async def _again(self, error: OffsetOutOfRangeError) -> None:
        try:
            for tp in error.args[0]:
                await self._begin_anew(tp)
        except KafkaError as other:
            _log.warning("%s: %r; it is tried again", self.topic.name, other)
            await asyncio.sleep(_PAUSE)

    async def _take(self, partition: int, fetched: Fetched) -> None:
        decode = partial(self._decoder.decode, partition, fetched.parts, fetched.begin)
        decoded = await asyncio.get_running_loop().run_in_executor(self._thread, decode)
        for bad in decoded.bad:
            self.refused += 1
            if self._refuse is not None:
                self._refuse(partition, bad)
            else:
                _log.error("%s[%d] offset %d: %s", self.topic.name, partition, bad.record.offset, bad.error)
        followed = self._partitions[partition]
        for batch in decoded.batches:
            self._take_batch(batch)
            column = batch.column(self.topic.time) if self.topic.time else batch.timestamps
            latest = int(values_of(column, np.int64).data.max())
            followed.time = latest if followed.time is None else max(followed.time, latest)

    def _note(self) -> None:
        """How far the partitions are, with all that came taken. Past markers of transactions, too."""
        for number, followed in self._partitions.items():
            end, heard = self._heard(number)
            if heard:
                followed.position = self._state(number).position
                if followed.position < end:
                    followed.caught_up = None
                elif followed.caught_up is None:
                    followed.caught_up = heard
        self._ends = {number: end for number, end in self._ends.items() if self._partitions[number].position < end}
        if not self._ends:
            self._ready.set()

    def _heard(self, partition: int) -> tuple[int, float]:
        """Where the log ends, and when Kafka said that, in seconds since the epoch; 0: it has said nothing yet."""
        state = self._state(partition)
        if not state.has_valid_position or state.highwater is None:
            return 0, 0.0
        return state.highwater, (state.timestamp or 0) / 1000

    def _state(self, partition: int) -> Any:
        tp = TopicPartition(self.topic.name, partition)
        return self._consumer._subscription.subscription.assignment.state_value(tp)
