"""An agent that takes its time: a fetch of thousands of events is committed, stopped and handed over piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from streamproc import App, Record, Stream
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.runtime.topics import topic_specs
from streamproc.runtime.worker import Worker
from streamproc.settings import KafkaSettings
from tests.runtime.kit import Ping, Pong

pytestmark = pytest.mark.e2e
EVENTS = 4000


def slow(name: str) -> App:
    app = App(name)
    pings = app.topic(f"{name}-in", Ping, key="key", partitions=1)
    pongs = app.topic(f"{name}-out", Pong, key="key", partitions=1)

    @app.agent(pings, sink=pongs)
    async def answer(stream: Stream[Ping]) -> AsyncIterator[Record]:
        async for ping in stream:
            await asyncio.sleep(0.002)
            yield Pong(ping.key, ping.n)

    return app


async def test_a_backlog_is_committed_in_pieces_and_a_stop_waits_for_one_only(kafka: KafkaSettings, name: str):
    registry, app = MemoryRegistry(), slow(name)
    source = app.topics[f"{name}-in"]
    admin = KafkaAdmin(kafka)
    await admin.ensure(topic_specs(app))
    codec, producer = Codec.of(source, registry), KafkaProducer(kafka)
    for n in range(EVENTS):
        producer.send(source.name, codec.encode(Ping(str(n % 7), n)), key=b"%d" % (n % 7))
    await producer.flush()
    await producer.close()
    worker = Worker(app, kafka, registry)
    await worker.start()
    end = time.monotonic() + 60
    while (left := (await admin.lag(name, [source.name]))[source.name]) in (0, EVENTS) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert 0 < left < EVENTS  # some, and not all at the end
    await worker.stop()
    assert not worker.stuck
    done = EVENTS - (await admin.lag(name, [source.name]))[source.name]
    (out,) = await admin.describe([f"{name}-out"])
    await admin.close()
    assert EVENTS - left <= done < EVENTS
    assert out.end[0] == done  # what was begun was finished, and committed; nothing comes twice
