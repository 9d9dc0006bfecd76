"""A Faust app that reads blocks, and says what it has seen. As a program: until it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faust
from confluent_kafka import Consumer, TopicPartition

from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.runtime.transport.block import Block
from streamproc.runtime.transport.driver import BlockSchema, records_of
from streamproc.settings import KafkaSettings

Take = Callable[[Block], Any]


class Reader:
    """An app with one agent on ``blocks`` and one, event by event, on each of ``plain``.

    Args:
        take: what the agent does with a block: it returns None to let go of it at once, or something to wait for;
            what raises KeyError is held for good.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        folder: Path,
        group: str,
        blocks: Sequence[str],
        plain: Sequence[str] = (),
        take: Take | None = None,
        **options: Any,
    ) -> None:
        self.seen: list[tuple[str, int, list[int]]] = []
        self.events: list[tuple[str, int, int, bytes | None]] = []
        self.held: list[Block] = []
        self._take = take
        settings: dict[str, Any] = {
            "stream_buffer_maxsize": 2,
            "stream_wait_empty": True,
            "broker_commit_interval": 0.1,
            "broker_session_timeout": 6.0,
            "broker_heartbeat_interval": 0.3,
            "consumer_auto_offset_reset": "earliest",
            "topic_disable_leader": True,
            "web_enabled": False,
            "loghandlers": [],
            "datadir": str(folder),
        }
        self.app = faust.App(group, broker=f"streamproc://{kafka.bootstrap}", **{**settings, **options})
        if blocks:
            self.app.agent(self.app.topic(*blocks, schema=BlockSchema()), name="blocks")(self._blocks)
        if plain:
            topic = self.app.topic(*plain, key_type=bytes, value_type=bytes, value_serializer="raw")
            self.app.agent(topic, name="plain")(self._plain)
        self.app.finalize()

    async def _blocks(self, stream: Any) -> None:
        async for event in stream.noack().events():
            block = event.value
            self.seen.append((block.topic, block.partition, [r.offset for r in records_of(block.fetched)]))
            with block.at_work():
                try:
                    waited = self._take(block) if self._take else None
                except KeyError:
                    self.held.append(block)
                    continue
                if waited is not None:
                    await waited
            block.leave()

    async def _plain(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            self.events.append((message.topic, message.partition, message.offset, event.value))

    @property
    def offsets(self) -> list[tuple[str, int, int]]:
        """All records of all blocks, in the order in which they came."""
        return [(topic, partition, offset) for topic, partition, offsets in self.seen for offset in offsets]

    @property
    def consumer(self) -> Any:
        return self.app.consumer

    async def __aenter__(self) -> Reader:
        await self.app.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.stop()


async def until(what: Callable[[], Any], *, seconds: float = 30.0) -> None:
    """Waits until something holds; fails when it never does."""
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110  it may be anything, of another thread or of Kafka
            await asyncio.sleep(0.02)


def committed(kafka: KafkaSettings, group: str, topic: str, partitions: int = 1) -> list[int]:
    """The group's offset of each partition; -1001 where there is none."""
    with contextlib.closing(Consumer(kafka.librdkafka() | {"group.id": group})) as consumer:
        found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10)
        return [each.offset for each in found]


async def make_topic(kafka: KafkaSettings, name: str, partitions: int = 1) -> str:
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, partitions)])
    await admin.close()
    return name


async def main(bootstrap: str, folder: str, group: str, topic: str, hold_from: str) -> None:
    """Holds the block with the record ``hold_from``, lets go of all others, and tells of each."""

    def take(block: Block) -> None:
        offsets = [r.offset for r in records_of(block.fetched)]
        print(json.dumps(offsets), flush=True)
        if int(hold_from) in offsets:
            raise KeyError

    async with Reader(KafkaSettings(bootstrap), Path(folder), group, [topic], take=take):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
