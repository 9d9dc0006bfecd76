"""Reads parts of topics that lie behind: for who comes back, and for who asks what there was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as Raw

from streamproc.errors import BrokerUnavailable
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_lines import Lines, exception
from streamproc.log.kafka_message import message_of
from streamproc.log.ports import Marks, Message
from streamproc.settings import KafkaSettings

_BATCH = 500  # records per step
_STEP = 0.2  # seconds that a step waits for records
_SILENT = 50  # steps in a row that bring nothing, before the cluster counts as away
Given = TypeVar("Given")


class KafkaHistory:
    """Of the port :class:`streamproc.log.ports.History`. Make it inside a running event loop.

    Args:
        readers: how many read at a time; others wait.
    """

    def __init__(self, settings: KafkaSettings, *, readers: int = 4) -> None:
        self._settings = settings
        self._lines = Lines("history", settings.bootstrap)
        self._admin = KafkaAdmin(settings)
        self._threads = ThreadPoolExecutor(readers, "kafka-history")
        self._places = asyncio.Semaphore(readers)
        self._idle: list[Consumer] = []

    async def marks(self, topic: str) -> Marks:
        return await self._admin.marks(topic)

    async def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        return await self._admin.offsets_at(topic, timestamp)

    async def read(
        self, topic: str, begin: Mapping[int, int], end: Mapping[int, int]
    ) -> AsyncGenerator[list[Message], None]:
        left = {number: end[number] for number, offset in begin.items() if offset < end.get(number, 0)}
        if not left:
            return
        async with self._reader() as reader:
            await self._run(reader.assign, [TopicPartition(topic, number, begin[number]) for number in left])
            silent = 0
            while left:
                raw = await self._run(reader.consume, _BATCH, _STEP)
                silent = 0 if raw else silent + 1
                if silent > _SILENT:
                    raise BrokerUnavailable(f"Kafka does not give the records of {topic!r}")
                if batch := _taken(raw, left):
                    yield batch

    async def close(self) -> None:
        for reader in self._idle:
            await self._run(reader.close)
        self._idle.clear()
        await self._admin.close()
        self._threads.shutdown(wait=False)

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[Consumer]:
        async with self._places:
            reader = self._idle.pop() if self._idle else Consumer(self._config(), logger=self._lines)
            try:
                yield reader
            finally:
                await asyncio.shield(self._run(reader.unassign))
                self._idle.append(reader)

    def _config(self) -> dict[str, object]:
        return self._settings.librdkafka() | {
            "group.id": "streamproc-history",  # librdkafka wants one; it is never joined, and nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",  # what retention has taken meanwhile is not there
            "queued.max.messages.kbytes": 1 << 10,
            "fetch.message.max.bytes": 256 << 10,
            "error_cb": self._lines.error,
        }

    async def _run(self, function: Callable[..., Given], *arguments: object) -> Given:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))


def _taken(raw: list[Raw], left: dict[int, int]) -> list[Message]:
    """The records before the ends; a partition that is through is taken out of ``left``."""
    batch: list[Message] = []
    for record in raw:
        if (error := record.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                left.pop(record.partition() or 0, None)
            elif not error.retriable():
                raise exception(error, record.topic() or "")
            continue
        message = message_of(record)
        end = left.get(message.partition, 0)
        if message.offset < end:
            batch.append(message)
        if message.offset + 1 >= end:
            left.pop(message.partition, None)
    return batch
