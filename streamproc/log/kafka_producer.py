"""An idempotent Kafka producer for an event loop: bounded, acknowledged by all, one wake-up per round of reports."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial as bind

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as Report
from confluent_kafka import Producer as Client

from streamproc.log.kafka_lines import Lines, exception
from streamproc.log.ports import Delivery, Headers, QueueFull
from streamproc.settings import KafkaSettings

Done = Callable[[Delivery], None]


class KafkaProducer:
    """Of the port :class:`streamproc.log.ports.Producer`. Make it inside a running event loop.

    Args:
        max_bytes: how much undelivered data it holds; rounded down to KiB.
        max_messages: how many undelivered records it holds.
        max_message_bytes: how large one record may be; larger ones are refused.
        batch_bytes: how large a batch of several may be.
        linger_ms: how long a record waits for company. 0 for latency: under load, batches form by themselves.
        compression: Kafka's name of the codec.
        delivery_timeout: seconds until a record that the cluster does not take is refused with BrokerUnavailable. It
            may have been written all the same: the answer was lost, not the record.
        close_timeout: seconds that :meth:`close` waits before it refuses what is left.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_bytes: int = 64 << 20,
        max_messages: int = 100_000,
        max_message_bytes: int = 1_000_000,
        batch_bytes: int = 1_000_000,
        linger_ms: float = 0,
        compression: str = "lz4",
        delivery_timeout: float = 30.0,
        close_timeout: float = 10.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines = Lines("producer", settings.bootstrap)
        self._close_timeout = close_timeout
        self._reports: deque[tuple[Done | None, KafkaError | None, int | None, int | None, str | None]] = deque()
        self._woken = False
        self._outstanding = 0
        self._full = False
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False
        self._stop = threading.Event()
        timeout_ms = max(int(delivery_timeout * 1000), 1)
        conf = settings.librdkafka() | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            # A record that comes while two requests are under way joins others in the next one: batches under load,
            # no wait without. Five in flight, the default, made more than twice the requests and the median wait for
            # an ack 2.5 times as long at 2,500 records/s.
            "max.in.flight.requests.per.connection": 2,
            "compression.type": compression,
            "message.max.bytes": max_message_bytes,
            "batch.size": batch_bytes,
            "queue.buffering.max.messages": max_messages,
            "queue.buffering.max.kbytes": max(max_bytes // 1024, 1),
            "delivery.timeout.ms": timeout_ms,
            "request.timeout.ms": min(timeout_ms, 30_000),
            "topic.metadata.propagation.max.ms": min(timeout_ms, 10_000),
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "error_cb": self._lines.error,
        }
        self._client = Client(conf, logger=self._lines)
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    @property
    def fatal(self) -> str | None:
        """Why it will never deliver again, if so: then only a new process helps."""
        return self._lines.fatal

    @property
    def problem(self) -> str | None:
        """Why records do not get through at the moment, if so."""
        return self._lines.fatal or self._lines.down

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
        partition: int | None = None,
        done: Done | None = None,
    ) -> None:
        if self._closed:
            raise RuntimeError("send() on a producer that is closed")
        try:
            self._client.produce(
                topic,
                value,
                key,
                -1 if partition is None else partition,
                on_delivery=bind(self._report, done),
                timestamp=timestamp or 0,
                headers=list(headers) or None,
            )
        except BufferError:
            self._full = True
            raise QueueFull from None
        except KafkaException as error:
            # Refused on the spot: too large, no such partition, or the client is past help. Told like any refusal.
            self._reports.append((done, error.args[0], None, None, topic))
            self._loop.call_soon(self._settle)
        self._outstanding += 1

    async def room(self) -> None:
        while self._full:
            await self._change()

    async def flush(self) -> None:
        while self._outstanding:
            await self._change()

    async def close(self, timeout: float | None = None) -> None:
        """Flushes and lets go. ``timeout`` overrides ``close_timeout``."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.wait_for(self.flush(), self._close_timeout if timeout is None else timeout)
        except TimeoutError:
            self._lines.warn("CLOSE", f"{self._outstanding} records were not delivered in time, and are refused")
            await asyncio.to_thread(self._client.purge)
            await self.flush()
        self._stop.set()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._thread.join()
        del self._client  # librdkafka's threads end here, not wherever the collector comes by

    def _report(self, done: Done | None, error: KafkaError | None, report: Report) -> None:
        """On the polling thread, from inside poll()."""
        self._reports.append((done, error, report.partition(), report.offset(), report.topic() if error else None))

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._client.poll(0.1)
            if self._reports and not self._woken:
                self._woken = True
                try:
                    self._loop.call_soon_threadsafe(self._settle)
                except RuntimeError:  # the loop was closed under us
                    return

    def _settle(self) -> None:
        """On the loop, once per round: what the cluster said of our records."""
        self._woken = False
        reports = self._reports
        for _ in range(len(reports)):
            done, error, partition, offset, topic = reports.popleft()
            self._outstanding -= 1
            if error is None:
                self._lines.alive()
                delivery = Delivery(partition or 0, offset or 0, None)
            else:
                delivery = Delivery(-1, -1, exception(error, topic or ""))
            if done is not None:
                done(delivery)
        self._full = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter
