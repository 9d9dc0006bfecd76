"""Reads changelog partitions from Kafka to their ends."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamproc.errors import BrokerUnavailable, StateError
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.fetch import give_blocks
from streamproc.settings import KafkaSettings
from streamproc.state.restore import NOTHING, Holder, Restored, Rows

_FETCH_BYTES = 4 << 20  # of a partition in one answer
_ANSWER_BYTES = 16 << 20  # of all partitions in one answer
_WAIT_MS = 20  # for a fetch, before it is looked whether one without any rows came
_THREADS = 2  # that read rows: kernels leave the interpreter to others
_REPORT = 5.0  # seconds between two lines about a partition that takes long
_log = logging.getLogger("streamproc.worker")

Result = TypeVar("Result")


class ChangelogReader:
    """One consumer without a group, for any number of partitions at the same time. Make it inside a running event loop.

    Args:
        patience: seconds without progress after which a read fails.
        use_kernels: None: where there are any.
    """

    def __init__(self, settings: KafkaSettings, *, patience: float = 30.0, use_kernels: bool | None = None) -> None:
        self._bootstrap, self._patience, self._use_kernels = settings.bootstrap, patience, use_kernels
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_THREADS, "changelog")
        self._topics: set[str] = set()
        self._reading: dict[TopicPartition, int] = {}  # and the next offset
        self._assigned: set[TopicPartition] = set()
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_bytes=_ANSWER_BYTES,
            fetch_max_wait_ms=50,
            request_timeout_ms=math.ceil(patience * 1000),
        )

    async def start(self) -> None:
        """Connects.

        Raises:
            BrokerUnavailable: nobody answers.
        """
        try:
            await self._consumer.start()
        except KafkaError as error:
            await self.close()
            raise BrokerUnavailable(f"no Kafka at {self._bootstrap}: {error}") from error
        give_blocks(self._consumer, lambda: frozenset(self._topics))

    async def close(self) -> None:
        """Lets go. What is being read fails."""
        stopping = asyncio.ensure_future(self._consumer.stop())
        await asyncio.wait([stopping])
        if stopping.cancelled() or stopping.exception() is not None:
            # aiokafka's fetcher, cancelled while it waits before it tries a lost broker again, lets this out.
            await self._consumer._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(self, topic: str, partition: int, onto: Restored = NOTHING, into: Holder | None = None) -> Restored:
        """The rows of what is committed when this is called, and maybe of what is a little later.

        Args:
            onto: rows of a snapshot: only what lies behind it is read.
            into: where rows are collected; None: in memory.

        Raises:
            BrokerUnavailable: no progress for ``patience`` seconds.
            StateError: there is something in the log that is no row of a state, or the topic was made anew meanwhile.
        """
        tp = TopicPartition(topic, partition)
        if tp in self._reading:
            raise RuntimeError(f"{topic}[{partition}] is being read already")
        self._reading[tp] = onto.next_offset
        try:
            begin, end = await self.bounds(topic, partition)
            if into is None and onto.head is not None and not begin <= onto.next_offset <= end:
                said = "%s[%d]: its snapshot goes up to offset %d, and the changelog from %d to %d: it is read whole"
                _log.warning(said, topic, partition, onto.next_offset, begin, end)
                onto = NOTHING
            self._begin(tp, max(begin, onto.next_offset))
            rows = Rows(topic, partition, onto, use_kernels=self._use_kernels, into=into)
            return await self._read(tp, rows, end)
        except OffsetOutOfRangeError:
            raise StateError(f"{topic}[{partition}]: offsets went away while it was read; was it made anew?") from None
        finally:
            del self._reading[tp]
            if tp in self._assigned:
                self._consumer.pause(tp)

    async def end(self, topic: str, partition: int) -> int:
        """The offset before which all is committed or aborted. Raises BrokerUnavailable."""
        return (await self.bounds(topic, partition))[1]

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Where the log begins, and its last stable offset: all before that is committed or aborted.

        Raises:
            BrokerUnavailable: no answer for ``patience`` seconds.
        """
        tp = TopicPartition(topic, partition)
        try:
            async with asyncio.timeout(self._patience):
                await self._consumer._client.add_topic(tp.topic)  # or it would be asked for after a first failure
                begins = await self._consumer.beginning_offsets([tp])
                ends = await self._consumer.end_offsets([tp])
        except (KafkaError, TimeoutError) as error:
            raise self._unavailable(tp, self._reading.get(tp, 0)) from error
        return int(begins[tp]), int(ends[tp])

    def _begin(self, tp: TopicPartition, offset: int) -> None:
        """Adds a partition to those that are fetched. aiokafka forgets all positions with every assignment."""
        self._reading[tp] = offset
        self._topics.add(tp.topic)
        if tp in self._assigned:
            self._consumer.resume(tp)
            self._consumer.seek(tp, offset)
            return
        self._assigned = {other for other in self._assigned if other in self._reading} | {tp}
        self._consumer.assign(list(self._assigned))
        for each in self._assigned:
            self._consumer.seek(each, self._reading[each])

    async def _read(self, tp: TopicPartition, rows: Rows, end: int) -> Restored:
        begun = moved = reported = self._loop.time()
        while (at := self._reading[tp]) < end:
            fetched = await self._fetch(tp)
            now = self._loop.time()
            if fetched:
                parts = [part for each in fetched for part in each.parts]
                await self._in_thread(partial(rows.add, parts))
            if self._reading[tp] > at:
                moved = self._loop.time()
            elif now - moved > self._patience:
                raise self._unavailable(tp, at)
            if now - reported > _REPORT:
                reported = now
                said = "%s[%d]: %s rows after %.0f s, at offset %d of %d"
                _log.info(said, *tp, f"{len(rows):,}", now - begun, self._reading[tp], end)
        return await self._in_thread(lambda: rows.restored(self._reading[tp]))

    async def _fetch(self, tp: TopicPartition) -> list[Fetched]:
        """What came, if anything did in a short while. Also moves on past what has no rows: markers of transactions,
        and those that were aborted.
        """
        try:
            found = await self._consumer.getmany(tp, timeout_ms=_WAIT_MS)
        except OffsetOutOfRangeError:
            raise
        except KafkaError as error:
            raise self._unavailable(tp, self._reading[tp]) from error
        fetched: list[Fetched] = found.get(tp, [])
        state = self._consumer._subscription.subscription.assignment.state_value(tp)
        self._reading[tp] = state.position
        return fetched

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await self._loop.run_in_executor(self._threads, function)

    def _unavailable(self, tp: TopicPartition, offset: int) -> BrokerUnavailable:
        said = f"Kafka at {self._bootstrap} gave nothing of {tp.topic}[{tp.partition}] from offset {offset} on"
        return BrokerUnavailable(f"{said} for {self._patience:g} s")
