"""Record batches to Kafka through aiokafka's sender: idempotent or transactional, bounded, in order per partition.

The sender has a thread of its own (:mod:`streamproc.runtime.transport.sender`), so that batches are built and sent
while the event loop computes. What comes for a partition while its last batch waits to be sent joins that batch, so
that many small sends do not queue up behind each other.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamproc.errors import BrokerError, BrokerUnavailable, ProducerFenced
from streamproc.log.batch_builder import Body
from streamproc.log.ports import Delivery
from streamproc.runtime.transport.sender import JOIN, Sender, said
from streamproc.settings import KafkaSettings

Done = Callable[[Delivery], None]

_FENCED = re.compile("ProducerFenced|InvalidProducerEpoch")  # aiokafka's errors
_SLOW = 10.0  # seconds without an answer from which on it is a problem
_log = logging.getLogger("streamproc.worker")


class BatchProducer:
    """Sends bodies of record batches. Make it inside a running event loop.

    Batches wait for the cluster as long as it takes. After one that the cluster refuses for good, nothing more is
    sent: what came behind it must not be there without it.

    Args:
        transactional_id: for transactions; a producer with the same id is fenced off. None: idempotent only.
        compression: Kafka's name of the codec.
        max_bytes: how much undelivered data it holds, uncompressed; one body may be more. Also the most that one
            request can hold, which brokers bound by 100 MiB.
        join_bytes: up to which small bodies that wait become one batch.
        close_timeout: seconds that :meth:`close` waits before it refuses what is left.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        transactional_id: str | None = None,
        compression: str = "lz4",
        max_bytes: int = 32 << 20,
        join_bytes: int = JOIN,
        close_timeout: float = 10.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bootstrap = settings.bootstrap
        self._transactional = transactional_id is not None
        self._max_bytes, self._close_timeout = max_bytes, close_timeout
        self._tickets = itertools.count()
        self._waiting: dict[int, tuple[int, Done | None]] = {}  # by ticket, oldest first: bytes, and whom to tell
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._known: set[TopicPartition] = set()
        self._woken = False
        self._closed = False
        self.fatal: str | None = None  # why it will never deliver again, if so
        self._sender = Sender(
            settings,
            type(self._loop)(),
            self._wake,
            transactional_id=transactional_id,
            compression=compression,
            most=join_bytes,
        )

    async def start(self) -> None:
        """Connects, and gets a producer id.

        Raises:
            BrokerUnavailable: nobody answers. It is closed then.
        """
        try:
            await self._sender.run(self._sender.start())
        except BrokerUnavailable:
            self._closed = True
            await self._sender.end()
            raise

    @property
    def problem(self) -> str | None:
        """Why batches do not get through at the moment, if so."""
        oldest = self._sender.oldest()
        if self.fatal or oldest is None:
            return self.fatal
        waited, tries = time.monotonic() - oldest[0], oldest[1]
        if waited < _SLOW and tries < 3:
            return None
        return f"{len(self._sender.outstanding)} batches of results wait for Kafka, the oldest for {waited:.0f} s"

    async def send(self, topic: str, partition: int, body: Body, done: Done | None = None) -> None:
        """Queues the records of a body. Waits while there is no room.

        Args:
            done: called on the event loop, once, with the first record's place, when the cluster has them or refused
                them for good.

        Raises:
            ProducerFenced, BrokerError: an earlier batch was refused for good.
        """
        tp = TopicPartition(topic, partition)
        if tp not in self._known:
            await self._know(tp)
        while self._bytes and self._bytes + len(body.data) > self._max_bytes and self.fatal is None:
            await self._change()
        if self._closed:
            raise RuntimeError("send() on a producer that is closed")
        if self.fatal is not None:
            raise _lost(self.fatal)
        if self._transactional:
            self._check_transaction()
        ticket = next(self._tickets)
        self._waiting[ticket] = (len(body.data), done)
        self._bytes += len(body.data)
        self._sender.put(tp, body, ticket)

    async def flush(self) -> None:
        """Returns when everything sent so far was delivered or refused, and its ``done`` called."""
        for ticket in list(self._waiting):
            while ticket in self._waiting:
                await self._change()

    async def begin(self) -> None:
        """Begins a transaction.

        Raises:
            ProducerFenced: another producer has its transactional id now.
        """
        await self._transact(self._sender.client.begin_transaction)

    async def commit(self) -> None:
        """Ends a transaction: everything sent in it is seen from now on. Waits until the cluster has all of it.

        Raises:
            ProducerFenced: another producer has its transactional id now; nothing of it is seen.
            BrokerError: the cluster refused it for good; nothing of it is seen.
        """
        await self.flush()
        if self.fatal is not None:
            raise _lost(self.fatal)
        await self._transact(self._sender.client.commit_transaction)

    async def abort(self) -> None:
        """Ends a transaction: readers of what is committed never see anything of it."""
        await self._transact(self._sender.client.abort_transaction)

    async def _transact(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._sender.run(step())
        except KafkaError as error:
            raise _lost(f"a transaction failed: {said(error)}") from error

    def _check_transaction(self) -> None:
        """Raises where what is sent now would not be in a transaction."""
        manager = self._sender.client._txn_manager
        if manager.is_in_transaction():
            return
        ended = manager.wait_for_transaction_end()
        error = ended.exception() if ended is not None and ended.done() and not ended.cancelled() else None
        if error is None:
            raise RuntimeError("send() outside of a transaction")
        raise _lost(f"a transaction failed: {said(error)}") from error

    async def close(self, timeout: float | None = None) -> None:
        """Flushes and lets go. ``timeout`` overrides ``close_timeout``."""
        if self._closed:
            return
        self._closed = True
        timeout = self._close_timeout if timeout is None else timeout
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except TimeoutError:
            if self._waiting:
                said = "%d bodies of results were not delivered in time, and are refused"
                _log.warning(said, len(self._waiting))
            await self._sender.run(
                self._sender.refuse(BrokerUnavailable(f"closed before Kafka at {self._bootstrap} had it"))
            )
            await self.flush()
        await self._sender.run(self._sender.stop(max(timeout, 1.0)))
        await self._sender.end()

    async def _know(self, tp: TopicPartition) -> None:
        """Waits until the partition's leader can be asked for. Raises BrokerError where there is no such partition."""
        while self.fatal is None and not self._closed:
            try:
                partitions = await self._sender.run(self._sender.client.partitions_for(tp.topic))
            except KafkaError as error:
                _log.warning("topic %s: %s", tp.topic, error)
                await asyncio.sleep(0.1)
                continue
            if tp.partition not in partitions:
                raise BrokerError(f"topic {tp.topic!r} has no partition {tp.partition}")
            self._known.add(tp)
            return

    def _wake(self) -> None:
        """In the sender's thread: there are reports."""
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop was closed under us
                return

    def _settle(self) -> None:
        """On the loop, once per round: what became of our bodies."""
        self._woken = False  # first: what comes from now on wakes again
        reports = self._sender.reports
        while reports:
            report = reports.popleft()
            self.fatal = self.fatal or report.fatal
            size, done = self._waiting.pop(report.ticket)
            self._bytes -= size
            if done is not None:
                done(report.delivery)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


def _lost(said: str) -> BrokerError:
    return (ProducerFenced if _FENCED.search(said) else BrokerError)(said)
