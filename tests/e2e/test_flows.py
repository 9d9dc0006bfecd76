"""Flows and joins on a real Kafka, under a worker that is killed: what comes of it is what was computed by hand."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.runtime.topics import topic_specs
from streamproc.runtime.verifying import Verifier
from streamproc.settings import KafkaSettings
from tests.e2e import flow_topology
from tests.e2e.kit import everything, until
from tests.runtime.flow_kit import build, expected, made_in_order

pytestmark = pytest.mark.e2e
EVENTS = 1500
SECONDS = 4.0  # over which they are published
SEQUENCED = ("checked", "priced", "near", "turnover")


@asynccontextmanager
async def worker(environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that is up; killed at the end, where it still lives."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc", "worker", f"{Path(flow_topology.__file__)}:app"),
        env=environ,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    showing: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(60):
            while b"is up" not in (line := await process.stderr.readline()):
                print(line.decode(), end="")
                assert line, "the worker ended"
        showing = asyncio.create_task(_show(process.stderr))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if showing is not None:
            await showing


async def _show(lines: asyncio.StreamReader) -> None:
    async for line in lines:
        print(line.decode(), end="")


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_a_worker_that_is_killed_changes_nothing(
    guarantee: str, name: str, kafka: KafkaSettings, tmp_path: Path
) -> None:
    app = build(name, guarantee)
    registry = f"file:{tmp_path / 'registry.json'}"
    environ = {
        **os.environ,
        **kafka.environ(),
        flow_topology.NAME: name,
        flow_topology.GUARANTEE: guarantee,
        "STREAMPROC_REGISTRY": registry,
    }
    admin = KafkaAdmin(kafka)
    await admin.ensure(topic_specs(app))
    await admin.close()
    codecs = {t.name: Codec.of(t, open_registry(registry)) for t in app.topics.values()}
    events = made_in_order(3, EVENTS)
    by_topic: dict[str, list[Any]] = {}
    for short, event in events:
        by_topic.setdefault(short, []).append(event)
    wanted = expected(by_topic)

    async def publish() -> None:
        producer = KafkaProducer(kafka)
        for number, (short, event) in enumerate(events):
            topic = app.topics[f"{name}-{short}"]
            producer.send(topic.name, codecs[topic.name].encode(event), key=topic.key_of(event))
            if number % 10 == 9:
                await asyncio.sleep(SECONDS * 10 / EVENTS)
        await producer.flush()
        await producer.close()

    def results(short: str) -> list[Any]:
        topic = f"{name}-{short}"
        return [codecs[topic].decode(raw.value or b"") for raw in everything(kafka, topic)]

    async with worker(environ) as first:
        publishing = asyncio.create_task(publish())
        await until(lambda: len(results("checked")) > EVENTS // 20)
        first.kill()
        await first.wait()
    async with worker(environ) as second:
        await publishing
        await until(lambda: all(len(set(map(repr, results(s)))) >= len(set(map(repr, wanted[s]))) for s in wanted))
        second.terminate()
        assert await asyncio.wait_for(second.wait(), 30) == 0
    for short, rows in wanted.items():
        found = sorted(results(short), key=repr)
        if short in SEQUENCED or guarantee == "exactly_once":
            assert found == rows, short
        else:
            assert set(map(repr, found)) == set(map(repr, rows)), short
    assert [raw for short in SEQUENCED for raw in results_of_late(app, kafka, name, short)] == []
    verifier = Verifier(app, kafka, open_registry(registry))
    verified = [each async for each in verifier.run()]
    assert [each for each in verified if not each.is_equal] == []
    assert {each.stage for each in verified if each.rows.equal} >= {
        f"{name}-{short}" for short in ("once", "checked", "near")
    }
    assert verifier.skipped == [f"{name}-priced"]


def results_of_late(app: Any, kafka: KafkaSettings, name: str, short: str) -> list[Any]:
    """Nothing is late in the end."""
    return [raw for topic in app.topics if topic.startswith(f"{name}-{short}-late") for raw in everything(kafka, topic)]
