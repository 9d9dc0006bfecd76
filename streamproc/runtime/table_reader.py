"""Reads tables from the changelogs of their stages, as they were when last kept: without a worker, or beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Literal, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App
from streamproc.define.table import Table
from streamproc.errors import BrokerUnavailable, DefinitionError, StateError, StreamprocError, TopicError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_lines import exception
from streamproc.log.partition import partition_of
from streamproc.runtime.reader import ChangelogReader
from streamproc.runtime.topics import has_state
from streamproc.settings import KafkaSettings
from streamproc.state import topics as changelogs
from streamproc.state.head import Head, decode
from streamproc.state.restore import Restored
from streamproc.state.rows import HEAD, ROW
from streamproc.state.table_rows import TableRow, parsed, row_key

_BATCH = 1000  # records per call
_PATIENCE = 15.0  # seconds without a word from Kafka


class Changelog(NamedTuple):
    """Of one stage."""

    stage: str
    topic: str
    partitions: int
    kind: Literal["tables", "windows", "streams"]  # what its rows are


class Found(NamedTuple):
    """A row, and where it lies."""

    stage: str
    partition: int
    row: TableRow
    kept: int  # when it was written to the changelog, in milliseconds since the epoch
    positions: Mapping[str, int]  # by source topic: up to which offset the state has seen its events


class Missing(StreamprocError):
    """There is no such row."""


def table_of(app: App, name: str) -> Table[Any]:
    """An app's table whose rows are kept.

    Raises:
        DefinitionError: there is none of that name, or its rows are in memory only.
    """
    table = app.tables.get(name)
    if table is None:
        there = f"it has {', '.join(sorted(app.tables))}" if app.tables else "it has none"
        raise DefinitionError(f"app {app.name!r} has no table {name!r}: {there}")
    if table.volatile:
        raise DefinitionError(f"table {name!r} is volatile: its rows are in the worker's memory only")
    return table


def home(table: Table[Any], key: Any, app: App, stage: str) -> int | None:
    """The partition whose task has a key's row, where the table's keys are those of the stage's source."""
    source = app.agents[stage].sources[0]
    if source.key is None or not isinstance(key, str | int):
        return None
    return partition_of(str(key).encode(), source.partitions)


def _kind(stage: object) -> Literal["tables", "windows", "streams"]:
    if isinstance(stage, Agent):
        return "tables"
    return "windows" if isinstance(stage, Aggregation) else "streams"


class TableReader:
    """Reads the changelogs of one app.

    Every call raises BrokerUnavailable where Kafka does not answer, TopicError where there is no changelog yet, and
    StateError where one holds what is no state.
    """

    def __init__(self, app: App, kafka: KafkaSettings) -> None:
        self.app, self._kafka = app, kafka

    async def changelogs(self, stage: str | None = None, *, tables_only: bool = True) -> list[Changelog]:
        """Of the stages that keep state, or of one. Raises DefinitionError where it is no stage that does."""
        if self.app.flush is None:
            raise DefinitionError(f"app {self.app.name!r} keeps no state: it has flush=None")
        stages = [
            stage
            for stage in self.app.agents.values()
            if has_state(self.app, stage) and (isinstance(stage, Agent) or not tables_only)
        ]
        if stage is not None:
            known = ", ".join(each.name for each in stages) or "none"
            stages = [each for each in stages if each.name == stage]
            if not stages:
                raise DefinitionError(f"app {self.app.name!r} has no stage {stage!r} that keeps tables: it has {known}")
        names = {each.name: changelogs.name(self.app.name, each.name) for each in stages}
        admin = KafkaAdmin(self._kafka)
        try:
            infos = {info.name: info for info in await admin.describe(list(names.values()))}
        except TopicError as error:
            raise TopicError(f"{error}: a worker makes the changelogs when it starts") from None
        finally:
            await admin.close()
        return [
            Changelog(each.name, names[each.name], infos[names[each.name]].partitions, _kind(each)) for each in stages
        ]

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[ChangelogReader]:
        reader = ChangelogReader(self._kafka)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.close()

    async def states(self, logs: Sequence[Changelog]) -> AsyncIterator[tuple[Changelog, int, Restored]]:
        """The state of every task, one at a time: memory holds one partition's rows, as bytes."""
        async with self._reader() as reader:
            for log in logs:
                for partition in range(log.partitions):
                    yield log, partition, await reader.read(log.topic, partition)

    async def find(
        self, table: Table[Any], key: Any, stage: str | None = None, *, everywhere: bool = False
    ) -> list[Found]:
        """The rows of a key, of each stage that has one. The key's own partition is read first, and the others where it
        is not there, or if they are wanted. Memory holds the row alone.
        """
        logs = await self.changelogs(stage)
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._find, logs, table, key, everywhere, stop)
        finally:
            stop.set()  # a thread cannot be cancelled

    def _find(
        self, logs: Sequence[Changelog], table: Table[Any], key: Any, everywhere: bool, stop: threading.Event
    ) -> list[Found]:
        wanted, found = ROW + row_key(table.name, key), []
        with closing(_consumer(self._kafka)) as consumer:
            for log in logs:
                own = home(table, key, self.app, log.stage)
                order = sorted(range(log.partitions), key=lambda partition: partition != own)
                for partition in order:
                    row = _last(consumer, self._kafka, log, partition, wanted, stop)
                    if row is not None:
                        found.append(row)
                        if partition == own and not everywhere:
                            break
        return found


def _consumer(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        kafka.librdkafka()
        | {
            "group.id": "streamproc-tables",  # librdkafka wants one; it is never joined, and nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 16 << 10,
            "log_level": 0,
        }
    )


def _last(
    consumer: Consumer, kafka: KafkaSettings, log: Changelog, partition: int, wanted: bytes, stop: threading.Event
) -> Found | None:
    """What a partition's changelog has last of a key."""
    value, kept, head = None, 0, None
    consumer.assign([TopicPartition(log.topic, partition, 0)])
    heard, ended = time.monotonic(), False
    while not ended and not stop.is_set():
        # consume(n) waits until n records are there or time is up; so wait for one, then take what came with it.
        first = consumer.poll(0.2)
        if first is None:
            if time.monotonic() - heard > _PATIENCE:
                raise BrokerUnavailable(f"Kafka at {kafka.bootstrap} gave nothing of {log.topic} for {_PATIENCE:g} s")
            continue
        heard = time.monotonic()
        for raw in [first, *consumer.consume(_BATCH, 0)]:
            if raw.error() is not None:
                ended = ended or _is_end(raw, log.topic)
                continue
            key = raw.key()
            if key == wanted:
                value, kept = raw.value(), raw.timestamp()[1]
            elif key == HEAD:
                head = raw.value()
    if value is None:
        return None
    return Found(log.stage, partition, parsed(wanted[1:], value), kept, _head(log, partition, head).positions)


def _is_end(raw: Message, topic: str) -> bool:
    error = raw.error()
    assert error is not None
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        return False
    raise exception(error, topic)


def _head(log: Changelog, partition: int, data: bytes | None) -> Head:
    if data is None:
        raise StateError(f"{log.topic}[{partition}]: rows, but no head of a state among them")
    return decode(data)
