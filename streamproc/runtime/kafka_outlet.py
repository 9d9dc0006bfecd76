"""Results to Kafka, each tied to the block that it came from: a block is not finished before Kafka has all of its
results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import Counter

from streamproc.avro.codec import Codec
from streamproc.avro.writer import RecordWriter
from streamproc.batch import records_of
from streamproc.columns import Columns, Longs
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.errors import StreamprocError
from streamproc.log.ports import Delivery, Headers, Producer, QueueFull
from streamproc.record import Record
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transport.block import Block
from streamproc.runtime.transport.producer import BatchProducer

_PAUSE = 8  # bodies that are handed over before others may run
_log = logging.getLogger("streamproc.deadletters")


class Lane:
    """Which of the two producers has a topic's last results of this outlet, and how many of them are under way. The
    other one has its turn when Kafka has them all: so results keep their order.
    """

    def __init__(self) -> None:
        self.by_batches = False
        self._under_way = 0
        self._empty: asyncio.Future[None] | None = None

    async def turn(self, *, by_batches: bool) -> None:
        """Returns when that producer may send."""
        while self.by_batches is not by_batches and self._under_way:
            if self._empty is None or self._empty.done():
                self._empty = asyncio.get_running_loop().create_future()
            await self._empty
        self.by_batches = by_batches

    def sent(self) -> None:
        self._under_way += 1

    def settled(self) -> None:
        self._under_way -= 1
        if not self._under_way and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


class KafkaOutlet:
    """The outlet of one agent or aggregation.

    Args:
        app: the topology.
        stage: the agent's name.
        codecs: by topic name.
        producer: of single records, shared by all outlets of a worker.
        failed: called with what must stop the worker: a result that Kafka refused for good.
        batches: of what comes as columns, shared too. None: that goes to ``producer``, row by row.
    """

    def __init__(
        self,
        app: App,
        stage: str,
        codecs: Mapping[str, Codec],
        producer: Producer,
        metrics: WorkerMetrics,
        failed: Callable[[Exception], None],
        batches: BatchProducer | None = None,
    ) -> None:
        self.block: Block | None = None  # in work; None between blocks, when only the clock moves
        self._app, self._stage = app, stage
        self._codecs, self._producer, self._metrics, self._failed = codecs, producer, metrics, failed
        self._batches = batches
        self._writers: dict[str, RecordWriter] = {}
        self._lanes: dict[str, Lane] = {}
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

    async def send_columns(
        self, topic: Topic, columns: Columns, timestamps: Longs, partitions: Longs | None = None
    ) -> None:
        """Writes rows as record batches.

        Raises:
            InvalidRecord: one does not fit its schema; nothing was sent.
            BrokerError: Kafka refused an earlier batch for good.
        """
        if self._batches is None:
            await self.send(topic, records_of(columns, topic.record), timestamps.tolist())
            return
        bodies = self._writer(topic).write(columns, timestamps, partitions)
        lane = self._lane(topic)
        await lane.turn(by_batches=True)
        for i, (partition, body) in enumerate(bodies, 1):
            await self._batches.send(topic.name, partition, body, self._tied(topic, body.records))
            if i % _PAUSE == 0:
                await asyncio.sleep(0)

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
        await self._lane(topic).turn(by_batches=False)
        done = self._tied(topic, 1)
        while True:
            try:
                self._producer.send(topic.name, value, key=key, timestamp=timestamp, headers=headers, done=done)
                return
            except QueueFull:
                await self._producer.room()

    def _writer(self, topic: Topic) -> RecordWriter:
        if topic.name not in self._writers:
            self._writers[topic.name] = RecordWriter(self._codecs[topic.name], topic)
        return self._writers[topic.name]

    def _lane(self, topic: Topic) -> Lane:
        lane = self._lanes.get(topic.name)
        if lane is None:
            lane = self._lanes[topic.name] = Lane()
        return lane

    def _done_counter(self, topic: str) -> Counter:
        counter = self._delivered.get(topic)
        if counter is None:
            counter = self._delivered[topic] = self._metrics.results.labels(topic)
        return counter

    def _tied(self, topic: Topic, records: int) -> Callable[[Delivery], None]:
        """What is to be called when Kafka has these records, or refused them."""
        block, lane, delivered = self.block, self._lane(topic), self._done_counter(topic.name)
        if block is not None:
            block.hold()
        lane.sent()

        def done(delivery: Delivery) -> None:
            lane.settled()
            if delivery.error is not None:
                self._failed(StreamprocError(f"Kafka refused a result of {self._stage!r}: {delivery.error}"))
                return
            delivered.inc(records)
            if block is not None:
                block.release()

        return done
