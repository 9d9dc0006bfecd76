"""The thread that aiokafka's consumer runs in, and how what it fetches gets out of there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_set_exception, maybe_set_result

from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.fetch import give_blocks
from streamproc.runtime.transport.group import let_go_late, share_by

_FETCH_WAIT_MS = 50
_FEW = 16  # records: an agent has so many done in about _MOMENT
_MOMENT = 1e-3  # seconds
_COMMIT = 5.0  # seconds that a commit may take; aiokafka looks for a lost broker for ever, and nothing could be stopped
_log = logging.getLogger("streamproc.transport")


def _rows(items: list[Any]) -> int:
    """How many records there are in what was fetched of a partition."""
    return sum(item.rows if isinstance(item, Fetched) else 1 for item in items)


def _stand_back() -> None:
    """Leaves the interpreter to the agents for a moment. This thread would go on with its next fetch, and they would
    wait for the interpreter at every turn of their loop.
    """
    time.sleep(_MOMENT)


class Wanted:
    """What the main thread waits for: records of some partitions, settled once, from the consumer's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, partitions: set[TP] | None) -> None:
        self.partitions = partitions
        self.answer: asyncio.Future[Any] = loop.create_future()
        self.settled = False
        self.timer: asyncio.TimerHandle | None = None  # in the consumer's thread
        self._loop = loop

    def give(self, records: Any) -> None:
        self._settle(maybe_set_result, records)

    def refuse(self, error: BaseException) -> None:
        self._settle(maybe_set_exception, error)

    def _settle(self, how: Callable[[asyncio.Future[Any], Any], Any], what: Any) -> None:
        if not self.settled:
            self.settled = True
            if self.timer is not None:
                self.timer.cancel()
            self._loop.call_soon_threadsafe(how, self.answer, what)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Runs aiokafka's consumer, with a fetcher that gives blocks."""

    _wanted: Wanted | None = None
    _looking: asyncio.Task[None] | None = None
    _waiter: asyncio.Future[None] | None = None  # aiokafka's, of what it has to say

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # While a fetch waits for data, aiokafka asks the same broker for nothing else: a partition that was not in
        # the request (its last data was not taken yet) waits as long. Faust's 1.5 s would be the worst case of every
        # event.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        # What a transaction took back never happened.
        consumer._isolation_level = "read_committed"
        share_by(
            consumer, getattr(self.consumer.app, "source_groups", {})
        )  # of a topology; any Faust app may be read so
        return consumer

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """What has been fetched, as soon as it comes; nothing after ``timeout`` seconds. Called from the main thread.

        Faust sends a method through two queues and waits for its result: many turns of two event loops lie between a
        broker's answer and its agent. Here whoever takes the answer hands it over.
        """
        wanted = Wanted(self.parent_loop, active_partitions)
        self.thread_loop.call_soon_threadsafe(self._want, wanted, timeout)
        try:
            return await wanted.answer
        finally:
            wanted.settled = True  # who waited may have been cancelled

    def _want(self, wanted: Wanted, timeout: float) -> None:
        self._wanted = wanted
        wanted.timer = self.thread_loop.call_later(timeout, wanted.give, {})
        fetcher = self._ensure_consumer()._fetcher
        if self._waiter is None or self._waiter.done():
            self._waiter = fetcher._create_fetch_waiter()
            self._waiter.add_done_callback(self._woken)
        if fetcher._records or fetcher._closed or not self.consumer.flow_active:
            self._look()

    def _look(self) -> None:
        self._looking = self.thread_loop.create_task(self._hand_over())  # kept, or the collector might take it

    def _woken(self, waiter: asyncio.Future[None]) -> None:
        """aiokafka has something to say: of a fetch that failed, of a group that cannot be joined, of its end."""
        if waiter.cancelled() or self._wanted is None:
            return
        error = waiter.exception()
        if error is not None:
            self._wanted.refuse(error)
        elif not self._wanted.settled:
            self._look()

    async def _hand_over(self) -> None:
        """Gives what has come to who waits for it. In the consumer's thread."""
        wanted, consumer = self._wanted, self._ensure_consumer()
        if wanted is None or wanted.settled or consumer._subscription.reassignment_in_progress:
            return
        try:
            records = await self._fetch_records(consumer, wanted.partitions, timeout=0)
        except Exception as error:
            wanted.refuse(error)
        else:
            if records or not self.consumer.flow_active:
                wanted.give(records)
                if records and sum(map(_rows, records.values())) <= _FEW:
                    _stand_back()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._ensure_consumer()._coordinator.between:  # aiokafka would join once more
            return False
        try:
            return cast(bool, await asyncio.wait_for(super()._commit(offsets), _COMMIT))
        except TimeoutError:
            _log.warning("Kafka did not take a commit within %g s; it will be tried again", _COMMIT)
            return False

    async def stop(self) -> None:
        """Stops, and closes the thread's loop. Here, in the thread that calls into that loop: where one thread closes a
        uvloop while another one calls it, the process dies.
        """
        await super().stop()
        if not self.thread_loop.is_running():
            self.thread_loop.close()

    async def on_thread_stop(self) -> None:
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            # aiokafka's fetcher, cancelled while it waits before it tries a lost broker again, lets this out; Faust
            # would take the thread for running, and wait a minute for its end.
            await self._ensure_consumer()._client.close()

    async def on_start(self) -> None:
        self._waiter = None
        await super().on_start()
        give_blocks(self._ensure_consumer(), self.consumer.block_topics, self._hand_over)
        let_go_late(self._ensure_consumer())
