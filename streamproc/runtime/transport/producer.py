"""Record batches to Kafka through aiokafka's sender: idempotent or transactional, bounded, in order per partition.

What comes for a partition while its last batch waits to be sent joins that batch, so that many small sends do not queue
up behind each other. Retries, sequence numbers and transactions are aiokafka's; what is corrected of them is in
:class:`Sequences`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from streamproc.errors import BrokerError, BrokerUnavailable
from streamproc.log.batch_builder import Body, build, joined
from streamproc.log.ports import Delivery
from streamproc.settings import KafkaSettings

Done = Callable[[Delivery], None]

JOIN = 64 << 10  # bytes up to which bodies are joined: of larger ones each is worth a request
_SLOW = 10.0  # seconds without an answer from which on it is a problem
_LAST_SEQUENCE = (1 << 31) - 1
_log = logging.getLogger("streamproc.worker")


class Sequences(TransactionManager):  # type: ignore[misc]
    """aiokafka's, with sequence numbers that go on at 0 after 2**31 - 1, as brokers count them. aiokafka goes on at
    -2**31, and the partition never takes another batch.
    """

    def increment_sequence_number(self, tp: TopicPartition, increment: int) -> None:
        self._sequence_numbers[tp] = (self._sequence_numbers[tp] + increment) & _LAST_SEQUENCE


class Parcel:
    """One batch on its way, in the place of aiokafka's ``BatchBuilder``: takes bodies until it is sent.

    Args:
        codec: Kafka's name of the compression.
        most: bytes up to which bodies are joined.
    """

    def __init__(self, codec: str, *, transactional: bool, most: int = JOIN) -> None:
        self._codec, self._transactional, self._most = codec, transactional, most
        self._bodies: list[Body] = []
        self.dones: list[tuple[int, Done | None]] = []  # of each body: its first record's place, and whom to tell
        self.bytes = 0
        self._count = 0
        self._closed = False
        self._producer = (-1, -1, -1)  # id, epoch, sequence
        self._buffer: bytes | None = None

    def add(self, body: Body, done: Done | None) -> bool:
        """False when it takes no more."""
        if self._closed or (self._bodies and self.bytes + len(body.data) > self._most):
            return False
        self.dones.append((self._count, done))
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
        self._bootstrap, self._compression = settings.bootstrap, compression
        self._transactional = transactional_id is not None
        self._max_bytes, self._join_bytes, self._close_timeout = max_bytes, join_bytes, close_timeout
        self._bytes = 0
        self._outstanding: dict[Any, float] = {}  # aiokafka's batches, oldest first, and since when
        self._waiters: list[asyncio.Future[None]] = []
        self._known: set[tuple[str, int]] = set()
        self._closed = False
        self.fatal: str | None = None  # why it will never deliver again, if so
        self._client = AIOKafkaProducer(
            **settings.aiokafka(),
            enable_idempotence=True,
            acks="all",
            transactional_id=transactional_id,
            request_timeout_ms=30_000,
            retry_backoff_ms=100,
        )
        self._client._txn_manager.__class__ = Sequences
        self._accumulator = self._client._message_accumulator
        self._accumulator._batch_ttl = math.inf  # a partition without a leader is waited for, too

    async def start(self) -> None:
        """Connects, and gets a producer id.

        Raises:
            BrokerUnavailable: nobody answers.
        """
        try:
            await self._client.start()
        except KafkaError as error:
            await self._client.stop()
            raise BrokerUnavailable(f"no Kafka at {self._bootstrap}: {error}") from error

    @property
    def problem(self) -> str | None:
        """Why batches do not get through at the moment, if so."""
        if self.fatal or not self._outstanding:
            return self.fatal
        oldest = next(iter(self._outstanding))
        waited = self._loop.time() - self._outstanding[oldest]
        if waited < _SLOW and oldest.retry_count < 3:
            return None
        return f"{len(self._outstanding)} batches of results wait for Kafka, the oldest for {waited:.0f} s"

    async def send(self, topic: str, partition: int, body: Body, done: Done | None = None) -> None:
        """Queues the records of a body. Waits while there is no room.

        Args:
            done: called on the event loop, once, with the first record's place, when the cluster has them or refused
                them for good.

        Raises:
            BrokerError: an earlier batch was refused for good.
        """
        if (topic, partition) not in self._known:
            await self._know(topic, partition)
        while self._bytes and self._bytes + len(body.data) > self._max_bytes and self.fatal is None:
            await self._change()
        if self._closed:
            raise RuntimeError("send() on a producer that is closed")
        if self.fatal is not None:
            raise BrokerError(self.fatal)
        if self._transactional and not self._client._txn_manager.is_in_transaction():
            raise RuntimeError("send() outside of a transaction")
        tp = TopicPartition(topic, partition)
        waiting = self._accumulator._batches.get(tp)
        parcel = waiting[-1]._builder if waiting else None
        if parcel is None or not parcel.add(body, done):
            parcel = Parcel(self._compression, transactional=self._transactional, most=self._join_bytes)
            parcel.add(body, done)
            batch = self._accumulator._append_batch(parcel, tp)
            self._outstanding[batch] = self._loop.time()
            batch.future.add_done_callback(lambda future: self._settle(batch, parcel, future))
        self._bytes += len(body.data)

    async def flush(self) -> None:
        """Returns when everything sent so far was delivered or refused, and its ``done`` called."""
        for batch in list(self._outstanding):
            while batch in self._outstanding:
                await self._change()

    async def begin(self) -> None:
        """Begins a transaction."""
        await self._client.begin_transaction()

    async def commit(self) -> None:
        """Ends a transaction: everything sent in it is seen from now on. Waits until the cluster has all of it."""
        await self.flush()
        if self.fatal is not None:
            raise BrokerError(self.fatal)
        await self._client.commit_transaction()

    async def abort(self) -> None:
        """Ends a transaction: readers of what is committed never see anything of it."""
        await self._client.abort_transaction()

    async def close(self, timeout: float | None = None) -> None:
        """Flushes and lets go. ``timeout`` overrides ``close_timeout``."""
        if self._closed:
            return
        self._closed = True
        timeout = self._close_timeout if timeout is None else timeout
        try:
            await asyncio.wait_for(self.flush(), timeout)
        except TimeoutError:
            _log.warning("%d batches of results were not delivered in time, and are refused", len(self._outstanding))
            self._refuse(BrokerUnavailable(f"closed before Kafka at {self._bootstrap} had it"))
        stopping = asyncio.ensure_future(self._client.stop())
        done, _ = await asyncio.wait([stopping], timeout=max(timeout, 1.0))
        if not done:  # it waits for a broker that does not answer
            stopping.cancel()
            await asyncio.wait([stopping])
            await self._client.client.close()

    async def _know(self, topic: str, partition: int) -> None:
        """Waits until the partition's leader can be asked for. Raises BrokerError where there is no such partition."""
        while self.fatal is None and not self._closed:
            try:
                partitions = await self._client.partitions_for(topic)
            except KafkaError as error:
                _log.warning("topic %s: %s", topic, error)
                await asyncio.sleep(0.1)
                continue
            if partition not in partitions:
                raise BrokerError(f"topic {topic!r} has no partition {partition}")
            self._known.add((topic, partition))
            return

    def _settle(self, batch: Any, parcel: Parcel, future: asyncio.Future[Any]) -> None:
        """The cluster has a batch, or never will."""
        self._outstanding.pop(batch, None)
        self._bytes -= parcel.bytes
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(batch.tp, error)
        for place, done in parcel.dones:
            if done is None:
                continue
            if error is not None:
                done(Delivery(-1, -1, _said(error)))
                continue
            result = future.result()
            at = -1 if result is None or result.offset < 0 else result.offset + place
            done(Delivery(batch.tp.partition, at, None))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, tp: TopicPartition, error: BaseException) -> None:
        if self.fatal is None:
            self.fatal = f"Kafka refused a batch for {tp.topic}[{tp.partition}]: {_said(error)}"
            self._refuse(BrokerError(self.fatal))

    def _refuse(self, error: Exception) -> None:
        """What has not been sent never will be."""
        waiting = [batch for batches in self._accumulator._batches.values() for batch in batches]
        self._accumulator.fail_all(error)
        for batch in waiting:
            batch._builder.close()
        self._accumulator._batches.clear()

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


def _said(error: BaseException) -> Exception:
    if isinstance(error, BrokerError):
        return error
    return BrokerError(f"{type(error).__name__}: {error}".rstrip(": "))
