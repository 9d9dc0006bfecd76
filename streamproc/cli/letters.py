"""Reads a topic of dead letters: forwards, or its newest; only what is committed, and never all of it in memory."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.avro.read_only import ReadOnlyRegistry
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import BrokerUnavailable, StreamprocError, TopicError, UndecodableRecord
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_lines import exception
from streamproc.log.ports import TopicInfo
from streamproc.settings import KafkaSettings

NOTE = "streamproc-replayed-letter"  # the header of a note: which letter was replayed
_BATCH = 500  # records per call
_PATIENCE = 15.0  # seconds without a word from Kafka
_FIRST_LOOK, _LARGEST_LOOK = 1000, 20_000  # offsets, where the newest are looked for from the end backwards
_CUT = re.compile(r"\(of the value's \d+ bytes the first (\d+) are kept\)")


class Found(NamedTuple):
    """A letter, and where it lies."""

    partition: int
    offset: int
    letter: DeadLetter

    @property
    def is_cut(self) -> bool:
        """Whether the letter has only the begin of its record's value."""
        size = len(self.letter.value or b"")
        return any(int(found) == size for found in _CUT.findall(self.letter.error))


class Note(NamedTuple):
    """Says that a letter was replayed, when, and where its record lies now."""

    partition: int
    offset: int
    time: int
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; None is any. ``since`` is in milliseconds since the epoch."""

    stage: str | None = None
    reason: str | None = None
    topic: str | None = None
    since: int | None = None

    def takes(self, letter: DeadLetter) -> bool:
        return (
            self.stage in (None, letter.stage)
            and self.reason in (None, letter.reason)
            and self.topic in (None, letter.topic)
            and (self.since is None or letter.time >= self.since)
        )


@dataclass(slots=True)
class Newest:
    """Letters in the order of their times, without tracebacks and bytes, and the notes about them by place."""

    letters: list[Found] = field(default_factory=list)
    notes: dict[tuple[int, int], Note] = field(default_factory=dict)
    more: bool = False  # whether there are older ones


class Letters:
    """The letters of one topic, from where it begins up to where it ended when this was made. Blocking.

    Args:
        registry: with the schemas of what lies there; nothing is added to it.

    Raises:
        TopicError: there is no such topic.
        BrokerUnavailable: (from any method) Kafka does not answer.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, registry: Registry) -> None:
        self.topic, self._kafka, self._registry = topic, kafka, registry
        self.info = asyncio.run(_describe(kafka, topic))
        self.stranger_count = 0  # records that are no letters
        self.stranger: tuple[int, int, str] | None = None  # the first of them: where, and why
        self._codec = Codec(DeadLetter, ReadOnlyRegistry(registry), "")
        self._consumer = Consumer(
            kafka.librdkafka()
            | {
                "group.id": "streamproc-dlq",  # librdkafka wants one; it is never joined, and nothing is committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 16 << 10,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Letters:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._consumer.close()

    @property
    def partitions(self) -> range:
        return range(self.info.partitions)

    def all(self, wanted: Wanted) -> Iterator[Found | Note]:
        """Letters and notes, partition by partition, in the order of their offsets."""
        for partition in self.partitions:
            yield from self.read_from(partition, wanted)

    def read_from(self, partition: int, wanted: Wanted, offset: int = 0) -> Iterator[Found | Note]:
        """Letters and notes of one partition from an offset on."""
        return self.read(partition, max(self._first(partition, wanted), offset), self.info.end[partition], wanted)

    def read(self, partition: int, begin: int, end: int, wanted: Wanted | None = None) -> Iterator[Found | Note]:
        """Letters and notes of these offsets."""
        for raw in self._records(partition, begin, end):
            note = _note_of(raw)
            if note is not None:
                yield note
            elif (letter := self._letter(raw)) is not None and (wanted is None or wanted.takes(letter)):
                yield Found(partition, raw.offset() or 0, letter)

    def at(self, partition: int, offset: int) -> Found:
        """One letter. Raises TopicError where there is none."""
        self._known(partition)
        begin, end = self.info.begin[partition], self.info.end[partition]
        for found in self.read(partition, max(offset, begin), min(offset + 1, end)):
            if isinstance(found, Found) and found.offset == offset:
                return found
            raise TopicError(f"offset {offset} of {self.topic} is no letter, but the note that another was replayed")
        if self.stranger is not None:
            raise StreamprocError(self.told_strangers() or "")
        place = f"{self.topic}[{partition}]" if self.info.partitions > 1 else self.topic
        there = f"it has offsets {begin} to {end - 1}" if end > begin else "it is empty"
        raise TopicError(f"no letter at offset {offset} of {place}: {there}")

    def notes_about(self, partition: int, offset: int) -> list[Note]:
        """How often a letter was replayed, and when. What lies between is passed over, not decoded."""
        notes = (_note_of(raw) for raw in self._records(partition, offset + 1, self.info.end[partition]))
        return [note for note in notes if note is not None and note[:2] == (partition, offset)]

    def newest(self, wanted: Wanted, limit: int) -> Newest:
        """The ``limit`` last ones. Looks from the end backwards, so that it takes as long as there are letters to
        pass, not as there are letters.
        """
        result = Newest()
        for partition in self.partitions:
            kept: list[Found] = []
            end, begin = self.info.end[partition], self._first(partition, wanted)
            look = _FIRST_LOOK
            while end > begin and len(kept) <= limit:  # one more, to know whether there are more
                start = max(begin, end - look)
                some: deque[Found] = deque(maxlen=limit + 1 - len(kept))
                for found in self.read(partition, start, end, wanted):
                    if isinstance(found, Note):
                        result.notes[found.partition, found.offset] = found
                    else:
                        some.append(found._replace(letter=_slim(found.letter)))
                kept += some
                end, look = start, min(look * 4, _LARGEST_LOOK)
            result.letters += kept
        result.letters.sort(key=lambda found: (found.letter.time, found.offset))
        result.more = len(result.letters) > limit
        result.letters = result.letters[-limit:]
        return result

    def told_strangers(self) -> str | None:
        """Of records that are no dead letters, how many were seen and why the first is none."""
        if self.stranger is None:
            return None
        partition, offset, why = self.stranger
        many = (
            "a record is no dead letter" if self.stranger_count == 1 else f"{self.stranger_count:,} are no dead letters"
        )
        hint = ": --registry names the worker's" if "is not in the registry" in why else ""
        return f"{many}, {self.topic}[{partition}] offset {offset}: {why}{hint}"

    # Inside.

    def _records(self, partition: int, begin: int, end: int) -> Iterator[Message]:
        if begin >= end:
            return
        self._consumer.assign([TopicPartition(self.topic, partition, begin)])
        heard = time.monotonic()
        while True:
            # consume(n) waits until n records are there or time is up; so wait for one, then take what came with it.
            first = self._consumer.poll(0.2)
            if first is None:
                if time.monotonic() - heard > _PATIENCE:
                    where = self._kafka.bootstrap
                    raise BrokerUnavailable(f"Kafka at {where} gave nothing of {self.topic} for {_PATIENCE:g} s")
                continue
            heard = time.monotonic()
            for raw in [first, *self._consumer.consume(_BATCH, 0)]:
                error = raw.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return
                    if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                        continue
                    raise exception(error, self.topic)
                if (raw.offset() or 0) >= end:
                    return
                yield raw

    def _letter(self, raw: Message) -> DeadLetter | None:
        try:
            found = self._codec.decode(raw.value() or b"")
            assert isinstance(found, DeadLetter)
            return found
        except UndecodableRecord as error:
            self.stranger_count += 1
            self.stranger = self.stranger or (raw.partition() or 0, raw.offset() or 0, str(error))
            return None

    def _first(self, partition: int, wanted: Wanted) -> int:
        """The first offset that may be wanted."""
        begin = self.info.begin[partition]
        if wanted.since is None:
            return begin
        try:
            (found,) = self._consumer.offsets_for_times(
                [TopicPartition(self.topic, partition, max(wanted.since, 0))], timeout=_PATIENCE
            )
        except KafkaException as error:
            raise exception(error.args[0], self.topic) from None
        return self.info.end[partition] if found.offset < 0 else max(found.offset, begin)

    def _known(self, partition: int) -> None:
        if partition not in self.partitions:
            raise TopicError(f"{self.topic} has no partition {partition}: it has 0 to {self.info.partitions - 1}")


async def _describe(kafka: KafkaSettings, topic: str) -> TopicInfo:
    admin = KafkaAdmin(kafka)
    try:
        return (await admin.describe([topic]))[0]
    finally:
        await admin.close()


def _note_of(raw: Message) -> Note | None:
    for name, value in raw.headers() or ():
        if name == NOTE:
            try:
                return Note(*msgspec.json.decode(value or b"", type=tuple[int, int, int, str]))
            except msgspec.MsgspecError:
                return None
    return None


def note_header(note: Note) -> tuple[str, bytes]:
    """The header that makes a record in a topic of letters a note."""
    return NOTE, msgspec.json.encode(tuple(note))


def _slim(letter: DeadLetter) -> DeadLetter:
    return msgspec.structs.replace(letter, traceback=None, key=None, value=None)
