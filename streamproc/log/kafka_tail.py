"""Reads topics from their ends on, every partition, without a group; for fan-out, so tuned for latency."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as Raw
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamproc.log.kafka_lines import Lines
from streamproc.log.kafka_message import message_of
from streamproc.log.ports import Message
from streamproc.settings import KafkaSettings

logger = logging.getLogger("streamproc.log.kafka")
_BATCH = 500  # records per handoff
_HANDOFFS = 8  # handoffs that wait for the loop before polling stops
_METADATA_TIMEOUT = 2.0


class KafkaTail:
    """Of the port :class:`streamproc.log.ports.Tail`. Make it inside a running event loop; it begins at once.

    What is there at the start is read from its end; partitions and topics that come later are all new, so they are read
    from their beginning. Topics that are missing, and a cluster that is away, are waited for.

    Args:
        refresh: seconds between two looks for new partitions.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], *, refresh: float = 5.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines = Lines("tail", settings.bootstrap)
        self._topics = tuple(topics)
        self._refresh = refresh
        self._assigned: set[tuple[str, int]] = set()
        self._missing: set[str] = set()
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._stop = threading.Event()
        self._slots = threading.Semaphore(_HANDOFFS)
        self._batches: deque[list[Message]] = deque()
        self._arrival = asyncio.Event()
        self._new: deque[list[TopicPartition]] = deque()
        conf = settings.librdkafka() | {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000}
        conf["error_cb"] = self._lines.error
        self._consumer = Consumer(conf | self._config(), logger=self._lines)
        # A consumer that one thread polls keeps other threads' calls waiting, so metadata has a client of its own.
        self._admin = AdminClient(conf, logger=self._lines)
        self._thread = threading.Thread(target=self._poll, name="kafka-tail", daemon=True)
        self._thread.start()
        self._watcher = self._loop.create_task(self._watch(), name="kafka-tail")

    def _config(self) -> dict[str, object]:
        return {
            "group.id": "streamproc-tail",  # librdkafka wants one; it is never joined, and nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",  # of a topic that was deleted and made again, all is new
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 5,
            "fetch.error.backoff.ms": 100,
            "queued.max.messages.kbytes": 16 << 10,
        }

    @property
    def problem(self) -> str | None:
        """Why records do not come at the moment, if so."""
        if self._lines.fatal or self._lines.down:
            return self._lines.fatal or self._lines.down
        return None if self._ready.is_set() else "waiting for the topics' ends"

    async def ready(self) -> None:
        """Returns when every record sent from now on will be seen."""
        await self._ready.wait()

    async def __aiter__(self) -> AsyncIterator[list[Message]]:
        while not self._closing.is_set():
            if self._batches:
                batch = self._batches.popleft()
                self._slots.release()
                yield batch
            else:
                self._arrival.clear()
                await self._arrival.wait()

    async def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._stop.set()
        self._arrival.set()
        await self._watcher  # not cancelled: its thread may be inside the consumer, which must outlive it
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._thread.join()
        self._consumer.close()

    # Partitions: what to read.

    async def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                complete = await asyncio.to_thread(self._look)
            except KafkaException as error:
                self._lines.away(error.args[0].str())
            else:
                self._lines.alive()
                if complete:
                    self._ready.set()
            try:
                await asyncio.wait_for(self._closing.wait(), self._refresh if self._ready.is_set() else 0.2)
            except TimeoutError:
                pass

    def _look(self) -> bool:
        """Gives new partitions to the polling thread; whether none is left over. Raises KafkaException."""
        new: list[TopicPartition] = []
        for topic in self._topics:
            if self._stop.is_set():
                return False
            metadata = self._admin.list_topics(topic, timeout=_METADATA_TIMEOUT).topics[topic]
            self._note_missing(topic, metadata.error is not None)
            new += [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for number in metadata.partitions
                if (topic, number) not in self._assigned
            ]
        wanted = len(new)
        if new and not self._ready.is_set():
            new = self._ends(new)
        if new:
            self._new.append(new)
            self._assigned.update((p.topic, p.partition) for p in new)
        return len(new) == wanted

    def _ends(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Those of the partitions that have a leader, at their ends."""
        asked = self._admin.list_offsets(
            {TopicPartition(p.topic, p.partition): OffsetSpec.latest() for p in partitions},
            request_timeout=_METADATA_TIMEOUT,
        )
        ends: list[TopicPartition] = []
        for partition, future in asked.items():
            try:
                ends.append(TopicPartition(partition.topic, partition.partition, future.result().offset))
            except KafkaException as error:
                # A topic that was just made has no leader for a moment; asked again until it has.
                logger.debug("end of %s/%d: %s", partition.topic, partition.partition, error.args[0].str())
        return ends

    def _note_missing(self, topic: str, missing: bool) -> None:
        if missing and topic not in self._missing:
            self._missing.add(topic)
            self._lines.warn(f"topic {topic!r}", "is not there; waiting for it")
        elif not missing:
            self._missing.discard(topic)

    # Records: the polling thread.

    def _poll(self) -> None:
        while not self._stop.is_set():
            while self._new:
                self._consumer.incremental_assign(self._new.popleft())
            if not self._slots.acquire(timeout=0.1):
                continue
            # consume(n) waits until n records are there or time is up; so wait for one, then take what came with it.
            first = self._consumer.poll(0.1)
            raw = [] if first is None else [first, *self._consumer.consume(_BATCH - 1, 0)]
            batch = [message for record in raw if (message := self._message(record)) is not None]
            if not batch:
                self._slots.release()
                continue
            try:
                self._loop.call_soon_threadsafe(self._arrive, batch)
            except RuntimeError:  # the loop was closed under us
                return

    def _message(self, raw: Raw) -> Message | None:
        if (error := raw.error()) is not None:
            self._lines.error(error)
            return None
        return message_of(raw)

    def _arrive(self, batch: list[Message]) -> None:
        self._lines.alive()
        self._batches.append(batch)
        self._arrival.set()
