"""Puts dead letters' records back into the topics that they came from: each once, in transactions.

A record and the note that its letter was replayed are committed together or not at all. The note lies among the
letters: a record of a topic of letters whose header :data:`~streamproc.cli.letters.NOTE` names the letter. Of two that
replay the same topic at the same time, Kafka lets only the later one go on, and it begins by reading all notes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.cli.letters import Found, Letters, Note, note_header
from streamproc.cli.originals import Originals, is_same
from streamproc.cli.replay_plan import Plan, chosen
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import BrokerError, BrokerUnavailable, InvalidRecord, RecordError
from streamproc.log.kafka_lines import exception
from streamproc.log.ports import Headers
from streamproc.settings import KafkaSettings

HEADER = "streamproc-replayed"  # of a record that was put back: which letter it was, TOPIC/PARTITION/OFFSET
STAGE = "replay"  # of notes
_OURS = "streamproc-"  # headers of this platform's are about where a record was, not about what it says
_CHUNK, _CHUNK_BYTES = 500, 8 << 20  # letters, and bytes of their values, of one transaction
_WITHIN = 30.0  # seconds for Kafka's answer
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class Back(NamedTuple):
    """A record to put back. Partition -1 is its key's."""

    found: Found
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    timestamp: int
    headers: Headers


class PutBack:
    """Replays letters. Blocking.

    Args:
        topic: of letters.
        limit: how many bytes the largest record may have.

    Raises:
        BrokerUnavailable, BrokerError: (from any method) Kafka does not answer, or refuses. What was committed before
            is replayed, and noted; nothing else is.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, registry: Registry, app: App | None, *, limit: int) -> None:
        self.topic, self.left_out, self.replayed = topic, Counter[str](), Counter[str]()
        self._app, self._registry = app, registry
        self._codecs: dict[str, Codec] = {}
        self._partitions: dict[str, int] = {}
        self._noted: dict[int, int] = {}  # by partition, where the last note lies
        conf = kafka.librdkafka() | {"log_level": 0}
        self._originals = Originals(conf)
        self._producer = Producer(
            conf
            | {
                "transactional.id": f"{topic}-replay",
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": max(limit, 1_000_000),
            }
        )
        self._call(self._producer.init_transactions, _WITHIN)

    def close(self) -> None:
        self._originals.close()
        del self._producer  # librdkafka's threads end here, not wherever the collector comes by

    def run(self, letters: Letters, what: Plan) -> Iterator[int]:
        """Replays all of a plan; gives the number of letters that are done, after every transaction."""
        chunk: list[Found] = []
        done = size = 0
        for found in chosen(letters, what):
            chunk.append(found)
            size += len(found.letter.value or b"")
            if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
                self._put(chunk)
                done, size = done + len(chunk), 0
                chunk = []
                yield done
        if chunk:
            self._put(chunk)
            yield done + len(chunk)
        for partition, offset in self._noted.items():  # whoever looks next is to see it
            self._originals.await_committed(self.topic, partition, offset)

    def _put(self, chunk: list[Found]) -> None:
        self._originals.look_up([found.letter for found in chunk])
        backs = [back for found in chunk if (back := self._back(found)) is not None]
        if not backs:
            return
        self._call(self._producer.begin_transaction)
        try:
            places = self._send(backs)
            self._note(backs, places)
            self._call(self._producer.commit_transaction, _WITHIN)
        except BaseException:
            self._abort()
            raise
        self.replayed.update(back.topic for back in backs)

    def _send(self, backs: list[Back]) -> list[tuple[int, int]]:
        """Produces the records, and returns where they lie: their partitions and offsets."""
        places: list[Any] = [None] * len(backs)

        def delivered(i: int, error: KafkaError | None, message: Message) -> None:
            places[i] = error or (message.partition(), message.offset())

        for i, back in enumerate(backs):
            headers = [*back.headers, (HEADER, f"{self.topic}/{back.found.partition}/{back.found.offset}".encode())]
            self._produce(
                back.topic,
                back.value,
                back.key,
                back.partition,
                timestamp=back.timestamp,
                headers=headers,
                on_delivery=lambda error, message, i=i: delivered(i, error, message),
            )
        self._flush()
        for back, place in zip(backs, places, strict=True):
            if isinstance(place, KafkaError):
                raise BrokerError(f"letter {back.found.offset}: {self._refused(place, back.topic)}")
        return places

    def _note(self, backs: list[Back], places: list[tuple[int, int]]) -> None:
        codec = self._codec_of_letters()
        now = int(time.time() * 1000)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self._noted[message.partition() or 0] = message.offset() or 0

        for back, (partition, offset) in zip(backs, places, strict=True):
            found, text = back.found, f"put back as {back.topic}[{partition}] offset {offset}"
            letter = DeadLetter(
                now, found.letter.app, STAGE, "replayed", text, None, self.topic, found.partition, found.offset
            )
            headers = [note_header(Note(found.partition, found.offset, now, text))]
            self._produce(
                self.topic,
                codec.encode(letter),
                None,
                found.partition,
                timestamp=now,
                headers=headers,
                on_delivery=delivered,
            )
        self._flush()

    def _back(self, found: Found) -> Back | None:
        """What to put back; None and a reason where there is nothing that may be."""
        letter = found.letter
        topic, value = letter.topic or "", letter.value or b""
        count = self._count(topic)
        if not count:
            self._leave(f"came from {topic}, which is not there any more")
            return None
        if letter.offset is None:
            return self._validated(found)
        original = self._originals.of(letter)
        if original is not None and is_same(original, found):
            stamp = original.timestamp()[1]
            headers = [(name, data or b"") for name, data in original.headers() or () if not name.startswith(_OURS)]
            key, value = original.key(), original.value() or b""
        elif found.is_cut or letter.stage == "decode":
            why = "are kept in part only" if found.is_cut else "may be those of many records"
            self._leave(f"have bytes that {why}, and {topic} has not their records any more")
            return None
        else:
            stamp, headers, key = letter.time, [], letter.key
        at = letter.partition if letter.partition is not None and letter.partition < count else -1
        return Back(found, topic, at, key, value, stamp, headers)

    def _validated(self, found: Found) -> Back | None:
        """What never was in Kafka is JSON: it is read as the topic's record."""
        assert self._app is not None
        letter, topic = found.letter, self._app.topics[found.letter.topic or ""]
        if found.is_cut:
            self._leave("never were in Kafka, and are kept in part only")
            return None
        if topic.name not in self._codecs:
            self._codecs[topic.name] = Codec.of(topic, self._registry)
        codec = self._codecs[topic.name]
        try:
            record = codec.from_json(letter.value or b"")
            return Back(found, topic.name, -1, topic.key_of(record), codec.encode(record), letter.time, ())
        except RecordError as error:
            at = f"{error.field}: " if isinstance(error, InvalidRecord) and error.field else ""
            self._leave(f"do not fit {topic.name} still: {at}{error}"[:200])
            return None

    def _leave(self, why: str) -> None:
        self.left_out[why] += 1

    # Kafka.

    def _produce(self, topic: str, *args: Any, **named: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, *args, **named)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise self._refused(error.args[0], topic) from None

    def _flush(self) -> None:
        try:
            left = self._producer.flush(_WITHIN)
        except KafkaException as error:
            raise self._refused(error.args[0], self.topic) from None
        if left:
            raise BrokerUnavailable(f"Kafka did not take the records within {_WITHIN:g} s: none of these is replayed")

    def _call(self, function: Any, *args: Any) -> None:
        until = time.monotonic() + _WITHIN
        while True:
            try:
                function(*args)
                return
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if not reason.retriable() or time.monotonic() > until:
                    raise self._refused(reason, self.topic) from None

    def _refused(self, reason: KafkaError, topic: str) -> BrokerError:
        if reason.code() in _FENCED:
            said = f"somebody else began to replay {self.topic} meanwhile, and goes on: nothing more is done here"
            return BrokerError(said)
        return exception(reason, topic)

    def _abort(self) -> None:
        try:
            self._producer.purge()
            self._producer.abort_transaction(_WITHIN)
        except (KafkaException, RuntimeError):
            pass  # Kafka aborts it when its time is over, or when somebody replays again

    def _count(self, topic: str) -> int:
        """How many partitions a topic has; 0 where it is not there."""
        if topic not in self._partitions:
            try:
                everything = self._producer.list_topics(timeout=_WITHIN).topics  # all: naming one may make it
            except KafkaException as error:
                raise exception(error.args[0], topic) from None
            self._partitions |= {name: len(found.partitions) for name, found in everything.items()}
            self._partitions.setdefault(topic, 0)
        return self._partitions[topic]

    def _codec_of_letters(self) -> Codec:
        if self.topic not in self._codecs:
            self._codecs[self.topic] = Codec(DeadLetter, self._registry, f"{self.topic}-value")
        return self._codecs[self.topic]
