"""Results to Kafka, each tied to the block that it came from: a block is not finished before Kafka has all of its
results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import Counter

from streamproc.avro.codec import Codec
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.errors import StreamprocError
from streamproc.log.ports import Delivery, Headers, Producer, QueueFull
from streamproc.record import Record
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transport.block import Block

_log = logging.getLogger("streamproc.deadletters")


class KafkaOutlet:
    """The outlet of one agent or aggregation.

    Args:
        app: the topology.
        stage: the agent's name.
        codecs: by topic name.
        producer: shared by all outlets of a worker.
        failed: called with what must stop the worker: a result that Kafka refused for good.
    """

    def __init__(
        self,
        app: App,
        stage: str,
        codecs: Mapping[str, Codec],
        producer: Producer,
        metrics: WorkerMetrics,
        failed: Callable[[Exception], None],
    ) -> None:
        self.block: Block | None = None  # in work; None between blocks, when only the clock moves
        self._app, self._stage = app, stage
        self._codecs, self._producer, self._metrics, self._failed = codecs, producer, metrics, failed
        self._delivered: dict[str, Counter] = {}

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Encodes all, then sends.

        Raises:
            InvalidRecord: one does not fit its schema; nothing was sent.
        """
        encode, key_of = self._codecs[topic.name].encode, topic.key_of
        wires = [(key_of(record), encode(record)) for record in records]
        for i, (key, value) in enumerate(wires):
            await self._send(topic, key, value, timestamps[i], headers[i] if headers else ())

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        """Sends a dead letter, tied to its block like any result: it is not lost either."""
        if record is not None and letter.topic is not None:
            topic = self._app.topics[letter.topic]
            letter = msgspec.structs.replace(
                letter, key=topic.key_of(record), value=self._codecs[topic.name].encode(record)
            )
        self._metrics.dead_letters.labels(letter.stage, letter.reason).inc()
        where = f"{letter.topic}[{letter.partition}] {letter.offset}"
        _log.warning("put aside (%s, %s): %s, at %s", letter.stage, letter.reason, letter.error[:200], where)
        sink = self._app.dead_letters
        await self._send(sink, None, self._codecs[sink.name].encode(letter), letter.time, ())

    async def _send(self, topic: Topic, key: bytes | None, value: bytes, timestamp: int, headers: Headers) -> None:
        done = self._tied(self._done_counter(topic.name))
        while True:
            try:
                self._producer.send(topic.name, value, key=key, timestamp=timestamp, headers=headers, done=done)
                return
            except QueueFull:
                await self._producer.room()

    def _done_counter(self, topic: str) -> Counter:
        counter = self._delivered.get(topic)
        if counter is None:
            counter = self._delivered[topic] = self._metrics.results.labels(topic)
        return counter

    def _tied(self, delivered: Counter) -> Callable[[Delivery], None]:
        block = self.block
        if block is not None:
            block.hold()

        def done(delivery: Delivery) -> None:
            if delivery.error is not None:
                self._failed(StreamprocError(f"Kafka refused a result of {self._stage!r}: {delivery.error}"))
                return
            delivered.inc()
            if block is not None:
                block.release()

        return done
