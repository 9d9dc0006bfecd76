"""What runs in the thread of a :class:`~streamproc.runtime.transport.producer.BatchProducer`: aiokafka's client, and
what its sender takes from us.

Retries, sequence numbers and transactions are aiokafka's; what is corrected of them is in :class:`Sequences`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from streamproc.errors import BrokerError, BrokerUnavailable
from streamproc.log.batch_builder import Body, build, joined
from streamproc.log.ports import Delivery
from streamproc.settings import KafkaSettings

JOIN = 64 << 10  # bytes up to which bodies are joined: of larger ones each is worth a request
LAST_SEQUENCE = (1 << 31) - 1
_STARTING = 30.0  # seconds that a thread may take to begin
_T = TypeVar("_T")


class Sequences(TransactionManager):  # type: ignore[misc]
    """aiokafka's, with sequence numbers that go on at 0 after 2**31 - 1, as brokers count them. aiokafka goes on at
    -2**31, and the partition never takes another batch.
    """

    def increment_sequence_number(self, tp: TopicPartition, increment: int) -> None:
        self._sequence_numbers[tp] = (self._sequence_numbers[tp] + increment) & LAST_SEQUENCE


class Parcel:
    """One batch on its way, in the place of aiokafka's ``BatchBuilder``: takes bodies until it is sent.

    Args:
        codec: Kafka's name of the compression.
        most: bytes up to which bodies are joined.
    """

    def __init__(self, codec: str, *, transactional: bool, most: int = JOIN) -> None:
        self._codec, self._transactional, self._most = codec, transactional, most
        self._bodies: list[Body] = []
        self.tickets: list[tuple[int, int]] = []  # of each body: its first record's place, and its ticket
        self.bytes = 0
        self._count = 0
        self._closed = False
        self._producer = (-1, -1, -1)  # id, epoch, sequence
        self._buffer: bytes | None = None

    def add(self, body: Body, ticket: int) -> bool:
        """False when it takes no more."""
        if self._closed or (self._bodies and self.bytes + len(body.data) > self._most):
            return False
        self.tickets.append((self._count, ticket))
        self._bodies.append(body)
        self._count += body.records
        self.bytes += len(body.data)
        return True

    # What aiokafka calls.

    def record_count(self) -> int:
        return self._count

    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def size(self) -> int:
        return self.bytes if self._buffer is None else len(self._buffer)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._closed = True  # the next batch's sequence is counted from this one's records
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        self._closed = True
        if self._buffer is None:
            producer_id, epoch, sequence = self._producer
            self._buffer = build(
                joined(self._bodies),
                codec=self._codec,
                transactional=self._transactional,
                producer_id=producer_id,
                producer_epoch=epoch,
                sequence=sequence,
            )
            self._bodies = []
        return self._buffer


class Report(NamedTuple):
    """What became of a body."""

    ticket: int
    delivery: Delivery
    fatal: str | None  # why nothing will ever be delivered again, if so


class Sender:
    """aiokafka's producer on a loop and a thread of its own. While kernels compute, with the interpreter's lock free,
    batches are built, compressed and sent.

    Args:
        loop: made for it, and closed by :meth:`end`.
        told: called in the thread when reports have come that nobody was told of.
        most: bytes up to which bodies are joined.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[], None],
        *,
        transactional_id: str | None,
        compression: str,
        most: int,
    ) -> None:
        self.loop, self._told = loop, told
        self._bootstrap, self._compression, self._most = settings.bootstrap, compression, most
        self._transactional = transactional_id is not None
        self.inbox: deque[tuple[TopicPartition, Body, int]] = deque()
        self.reports: deque[Report] = deque()
        self._called = False  # to look into the inbox
        self.outstanding: dict[Any, float] = {}  # aiokafka's batches, oldest first, and since when
        self._refused: Exception | None = None  # why it takes nothing more
        self.fatal: str | None = None
        self._thread = threading.Thread(target=loop.run_forever, name="batch-producer", daemon=True)
        self._thread.start()
        making = self._make(settings, transactional_id)
        self.client = asyncio.run_coroutine_threadsafe(making, loop).result(_STARTING)
        self.accumulator = self.client._message_accumulator

    async def _make(self, settings: KafkaSettings, transactional_id: str | None) -> Any:
        client = AIOKafkaProducer(
            **settings.aiokafka(),
            enable_idempotence=True,
            acks="all",
            transactional_id=transactional_id,
            request_timeout_ms=30_000,
            retry_backoff_ms=100,
        )
        client._txn_manager.__class__ = Sequences
        client._message_accumulator._batch_ttl = math.inf  # a partition without a leader is waited for, too
        return client

    # Called from outside.

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Awaits a coroutine in the thread."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def put(self, tp: TopicPartition, body: Body, ticket: int) -> None:
        """Queues the records of a body. What becomes of them is reported once, with its ticket."""
        self.inbox.append((tp, body, ticket))
        if not self._called:
            self._called = True
            self.loop.call_soon_threadsafe(self._take)

    def oldest(self) -> tuple[float, int] | None:
        """Since when the oldest batch has been waiting, and how often it was tried."""
        for batch, since in list(self.outstanding.items())[:1]:  # a list at once: the thread goes on
            return since, batch.retry_count
        return None

    async def end(self) -> None:
        """Ends the thread. Nothing may be called any more."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            await asyncio.to_thread(self._thread.join)
            self.loop.close()  # here: where a thread closes a uvloop that another one calls, the process dies

    # In the thread.

    async def start(self) -> None:
        """Raises BrokerUnavailable where nobody answers."""
        try:
            await self.client.start()
        except KafkaError as error:
            await self.client.stop()
            raise BrokerUnavailable(f"no Kafka at {self._bootstrap}: {error}") from error

    async def stop(self, timeout: float) -> None:
        """Lets go of the cluster, within about so many seconds."""
        stopping = asyncio.ensure_future(self.client.stop())
        done, _ = await asyncio.wait([stopping], timeout=timeout)
        if not done:  # it waits for a broker that does not answer
            stopping.cancel()
            await asyncio.wait([stopping])
            await self.client.client.close()

    async def refuse(self, error: Exception) -> None:
        """What has not been sent never will be."""
        self._refuse(error)

    def _take(self) -> None:
        self._called = False  # first: what comes from now on calls again
        while self.inbox:
            tp, body, ticket = self.inbox.popleft()
            if self._refused is None:
                try:
                    self._append(tp, body, ticket)
                    continue
                except Exception as error:  # of a transaction that was fenced off, say
                    self._fail(tp, error)
            self._report(ticket, Delivery(-1, -1, said(self._refused or BrokerError("refused"))))

    def _append(self, tp: TopicPartition, body: Body, ticket: int) -> None:
        waiting = self.accumulator._batches.get(tp)
        if waiting and waiting[-1]._builder.add(body, ticket):
            return
        parcel = Parcel(self._compression, transactional=self._transactional, most=self._most)
        parcel.add(body, ticket)
        batch = self.accumulator._append_batch(parcel, tp)
        self.outstanding[batch] = time.monotonic()
        batch.future.add_done_callback(lambda future: self._settle(batch, parcel, future))

    def _settle(self, batch: Any, parcel: Parcel, future: asyncio.Future[Any]) -> None:
        """The cluster has a batch, or never will."""
        self.outstanding.pop(batch, None)
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(batch.tp, error)
        result = None if error is not None else future.result()
        for place, ticket in parcel.tickets:
            if error is not None:
                delivery = Delivery(-1, -1, said(error))
            else:
                at = -1 if result is None or result.offset < 0 else result.offset + place
                delivery = Delivery(batch.tp.partition, at, None)
            self._report(ticket, delivery)

    def _report(self, ticket: int, delivery: Delivery) -> None:
        self.reports.append(Report(ticket, delivery, self.fatal))
        self._told()

    def _fail(self, tp: TopicPartition, error: BaseException) -> None:
        if self.fatal is None:
            self.fatal = f"Kafka refused a batch for {tp.topic}[{tp.partition}]: {said(error)}"
            self._refuse(BrokerError(self.fatal))

    def _refuse(self, error: Exception) -> None:
        self._refused = self._refused or error
        waiting = [batch for batches in self.accumulator._batches.values() for batch in batches]
        self.accumulator.fail_all(error)
        for batch in waiting:
            batch._builder.close()
        self.accumulator._batches.clear()


def said(error: BaseException) -> Exception:
    """An error of Kafka's client as one of ours."""
    if isinstance(error, BrokerError):
        return error
    return BrokerError(f"{type(error).__name__}: {error}".rstrip(": "))
