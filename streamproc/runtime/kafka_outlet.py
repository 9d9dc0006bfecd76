"""Results to Kafka, each tied to the block that it came from: a block is not finished before Kafka has all of its
results. Those that are sent ahead of their state have an id (:mod:`streamproc.log.origins`), by which readers know them
when they come again after a crash. Where the task's keeper has to, and where there is no such id, they are held back
for the flush.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from prometheus_client import Counter

from streamproc.avro.codec import Codec
from streamproc.avro.writer import RecordWriter
from streamproc.batch import records_of
from streamproc.columns import Causes, Columns, Longs
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.errors import OversizedRecord, StreamprocError
from streamproc.log.batch_builder import BATCH_OVERHEAD, LIMIT, packed, record_size
from streamproc.log.origins import OriginHeaders, beat_headers
from streamproc.log.partition import partition_of
from streamproc.log.ports import DEFAULT_MESSAGE_LIMIT, Delivery, Headers, Producer, QueueFull
from streamproc.record import Record
from streamproc.runtime.keeper import Ahead, KeptTask, Result
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.originals import record_at
from streamproc.runtime.outlet import cut
from streamproc.runtime.transport.block import Block
from streamproc.runtime.transport.producer import BatchProducer

Wire = tuple[bytes | None, bytes, Headers]  # key, value, headers

_AHEAD = 60_000  # ms; what is stamped later than this from now is stamped so: brokers refuse more than an hour
_ID = 8  # characters of a topic's id that are enough to tell it from one of the same name
_PAUSE = 1  # bodies that are handed over before others may run
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


def _latest() -> int:
    """The latest timestamp that a result may have, whatever its event's was."""
    return int(time.time() * 1000) + _AHEAD


def _joined(headers: Sequence[Headers] | None, origins: OriginHeaders | None) -> Sequence[Headers] | None:
    """Each record's headers, its id behind them."""
    if origins is None:
        return headers
    ids = origins.headers()
    return list(ids) if headers is None else [(*own, *of) for own, of in zip(headers, ids, strict=True)]


class KafkaOutlet:
    """The outlet of one agent or aggregation.

    Args:
        app: the topology.
        stage: the agent's name.
        codecs: by topic name.
        producer: of single records, shared by all outlets of a worker.
        failed: called with what must stop the worker: a result that Kafka refused for good.
        batches: of what comes as columns, shared too. None: that goes to ``producer``, row by row.
        limits: by topic name, how many bytes a record batch may have.
        topic_ids: by topic name, Kafka's ids of the stage's sources.
        may_be_out: whether others may have the worker's partitions, and it does not know yet.
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
        limits: Mapping[str, int] | None = None,
        topic_ids: Mapping[str, str] | None = None,
        may_be_out: Callable[[], bool] = lambda: False,
    ) -> None:
        self.block: Block | None = None  # in work; None between blocks, when only the clock moves
        self.kept: KeptTask | None = None  # in work, where its state is kept
        self._app, self._stage = app, stage
        self._codecs, self._producer, self._metrics, self._failed = codecs, producer, metrics, failed
        self._batches = batches
        self._limits = limits or {}
        self._topic_ids = topic_ids or {}
        self._may_be_out = may_be_out
        self._anew: dict[tuple[str, int], str] = {}  # partitions that began anew since, and something of their own
        self._writers: dict[str, RecordWriter] = {}
        self._lanes: dict[str, Lane] = {}
        self._exactly_once = app.guarantee == "exactly_once"
        self._turn = 0  # of results without a key that are held
        self._delivered: dict[str, Counter] = {}

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        causes: Causes | None = None,
    ) -> None:
        """Encodes all, then sends.

        Raises:
            InvalidRecord: one does not fit its schema; nothing was sent.
            OversizedRecord: one is larger than the topic takes; nothing was sent.
        """
        encode, key_of = self._codecs[topic.name].encode, topic.key_of
        extra = _joined(headers, self._origins(causes))
        wires = [(key_of(record), encode(record), extra[i] if extra else ()) for i, record in enumerate(records)]
        most = self._limit(topic)
        for wire in wires:
            if (size := record_size(*wire)) > most:
                raise OversizedRecord(topic.name, size, most)
        if self._must_hold(causes is not None):
            self._hold(topic, wires, timestamps)
            return
        for (key, value, own), timestamp in zip(wires, timestamps, strict=True):
            await self._send(topic, key, value, timestamp, own)

    async def send_columns(
        self,
        topic: Topic,
        columns: Columns,
        timestamps: Longs,
        partitions: Longs | None = None,
        causes: Causes | None = None,
    ) -> None:
        """Writes rows as record batches.

        Raises:
            InvalidRecord: one does not fit its schema; nothing was sent.
            OversizedRecord: one is larger than the topic takes; nothing was sent.
            BrokerError: Kafka refused an earlier batch for good.
        """
        if self._batches is None:
            await self.send(topic, records_of(columns, topic.record), timestamps.tolist(), causes=causes)
            return
        writer, origins = self._writer(topic), self._origins(causes)
        bodies = writer.write(columns, np.minimum(timestamps, _latest()), partitions, origins)
        if self.kept is not None and self._must_hold(causes is not None):
            for i, (partition, body) in enumerate(bodies, 1):
                self.kept.hold(Result(topic.name, partition, body))
                if i % _PAUSE == 0:
                    await asyncio.sleep(0)
            return
        lane = self._lane(topic)
        await lane.turn(by_batches=True)
        for i, (partition, body) in enumerate(bodies, 1):
            await self._batches.send(topic.name, partition, body, self._tied(topic, body.records))
            if i % _PAUSE == 0:
                await asyncio.sleep(0)

    async def beat(self, topic: Topic, partition: int, time: int, timestamp: int) -> None:
        """Tells every partition of a topic that is rekeyed how far a partition of its source is."""
        headers = beat_headers(f"{self._app.name}/{self._stage}", partition, time)
        (body,) = packed([timestamp], [None], [None], headers=[headers])
        held = self.kept is not None and self._all_held(self.kept)
        for at in range(topic.partitions):
            if held and self.kept is not None:
                self.kept.hold(Result(topic.name, at, body))
            elif self._batches is not None:
                await self._lane(topic).turn(by_batches=True)
                await self._batches.send(topic.name, at, body, self._tied(topic, 0))
            else:
                await self._send(topic, None, None, body.first_timestamp, headers, at)

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        """Sends a dead letter, tied to its block like any result: it is not lost either."""
        if record is not None and letter.topic is not None:
            topic = self._app.topics[letter.topic]
            raw = None if self.block is None or letter.offset is None else record_at(self.block, letter.offset)
            key, value = (
                (raw.key, raw.value) if raw else (topic.key_of(record), self._codecs[topic.name].encode(record))
            )
            letter = msgspec.structs.replace(letter, key=key, value=value)
        sink = self._app.dead_letters
        letter = cut(letter, self._limit(sink))
        self._metrics.dead_letters.labels(letter.stage, letter.reason).inc()
        where = f"{letter.topic}[{letter.partition}] {letter.offset}"
        _log.warning("put aside (%s, %s): %s, at %s", letter.stage, letter.reason, letter.error[:200], where)
        value = self._codecs[sink.name].encode(letter)
        if self._must_hold(True):
            self._hold(sink, [(None, value, ())], [letter.time])
        else:
            await self._send(sink, None, value, letter.time, ())

    def _must_hold(self, known: bool) -> bool:
        """Whether results wait for the flush of the task in work. What the clock brings does, whatever is guaranteed: a
        replay of the input would not bring it. And what comes behind it. And that of which is not ``known`` what would
        be the same when it comes again. And all, while another worker may be at work on the same: its clock may have
        closed windows, and only what goes with the state is refused then.
        """
        kept = self.kept
        return kept is not None and (self.block is None or not known or self._all_held(kept))

    def _all_held(self, kept: KeptTask) -> bool:
        return self._exactly_once or kept.holds or self._may_be_out()

    def _origins(self, causes: Causes | None) -> OriginHeaders | None:
        """What results get for ids. Those that are held may need one, too: where they were sent ahead the last time,
        they come again with their state. Only under ``exactly_once`` that cannot be. What is rekeyed has one always.
        """
        block = self.block
        if causes is None or block is None:
            return None
        if self._exactly_once and self.kept is not None and causes.times is None:
            return None
        return OriginHeaders(self._giver(block), block.partition, causes)

    def _giver(self, block: Block) -> str:
        """What tells results of this stage over this source from all others: offsets of another app's stage, or of a
        topic that was made anew, are others.
        """
        at = (block.topic, block.partition)
        if block.fetched.restarted:
            self._anew[at] = f"{time.time_ns():x}"
        known = self._anew.get(at) or self._topic_ids.get(block.topic, "")[:_ID]
        return f"{self._app.name}/{self._stage}@{known}" if known else f"{self._app.name}/{self._stage}"

    def _hold(self, topic: Topic, wires: Sequence[Wire], timestamps: Sequence[int]) -> None:
        assert self.kept is not None
        parts: dict[int, list[int]] = {}
        for i, (key, _, _) in enumerate(wires):
            self._turn += key is None
            partition = self._turn % topic.partitions if key is None else partition_of(key, topic.partitions)
            parts.setdefault(partition, []).append(i)
        latest = _latest()
        for partition, rows in parts.items():
            keys, values, headers = zip(*(wires[i] for i in rows), strict=True)
            stamps = [min(timestamps[i], latest) for i in rows]
            for body in packed(stamps, keys, values, self._body_limit(topic), headers):
                self.kept.hold(Result(topic.name, partition, body))

    async def _send(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None = None,
    ) -> None:
        await self._lane(topic).turn(by_batches=False)
        done = self._tied(topic, 0 if value is None else 1)
        stamp, to = min(timestamp, _latest()), partition
        while True:
            try:
                self._producer.send(
                    topic.name, value, key=key, timestamp=stamp, headers=headers, partition=to, done=done
                )
                return
            except QueueFull:
                await self._producer.room()

    def _writer(self, topic: Topic) -> RecordWriter:
        if topic.name not in self._writers:
            limit, most = self._body_limit(topic), self._limit(topic)
            self._writers[topic.name] = RecordWriter(self._codecs[topic.name], topic, limit=limit, most=most)
        return self._writers[topic.name]

    def _body_limit(self, topic: Topic) -> int:
        return min(LIMIT, self._limit(topic) - BATCH_OVERHEAD)

    def _limit(self, topic: Topic) -> int:
        return self._limits.get(topic.name, DEFAULT_MESSAGE_LIMIT)

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
        ahead: Ahead | None = None if self.kept is None else self.kept.ahead
        if ahead is not None:
            ahead.sent()

        def done(delivery: Delivery) -> None:
            lane.settled()
            if delivery.error is not None:
                self._failed(StreamprocError(f"Kafka refused a result of {self._stage!r}: {delivery.error}"))
                return
            delivered.inc(records)
            if ahead is not None:
                ahead.settled()
            if block is not None:
                block.release()

        return done
