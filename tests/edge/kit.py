"""A small app, a gateway over a log in memory, and a client, for the tests of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.ports import Registry
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.edge.dialects.native import SUBPROTOCOL
from streamproc.edge.limits import Limits
from streamproc.edge.server import Gateway
from streamproc.log.memory import MemoryLog
from streamproc.log.ports import TopicSpec
from streamproc.record import Record
from streamproc_egress import Egress
from streamproc_ingest import Ingest

EDGES = (Ingest, Egress)
PATIENCE = 20.0


class Tick(Record):
    id: str
    unit: str
    ts: int
    x: float


class Note(Record):
    text: str
    event: str | None = None


def make_app(prefix: str = "t") -> App:
    """``ticks`` has key, time and id; ``notes`` has none of them; ``results`` and ``bare`` are channels."""
    app = App(prefix)
    app.topic(f"{prefix}-ticks", Tick, key="unit", time="ts", id="id", partitions=3)
    app.topic(f"{prefix}-notes", Note, partitions=2)
    app.topic(f"{prefix}-inner", Note, publish=False)
    app.channel(f"{prefix}-results", Note, cause="event", partitions=2)
    app.channel(f"{prefix}-bare", Note, partitions=1)
    return app


def specs(app: App) -> list[TopicSpec]:
    return [TopicSpec(topic.name, topic.partitions) for topic in app.topics.values()]


def tick(id: str, unit: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": id, "unit": unit, "ts": 1_700_000_000_000, "x": 1.5} | more


class Client:
    """A client of the native dialect that keeps what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.kept: list[dict[str, Any]] = []

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def frame(self) -> dict[str, Any]:
        """The next frame."""
        if self.kept:
            return self.kept.pop(0)
        return await self._receive()

    async def the(self, op: str, **where: Any) -> dict[str, Any]:
        """The next frame of that kind; others wait their turn."""
        for n, frame in enumerate(self.kept):
            if matches(frame, op, where):
                return self.kept.pop(n)
        while True:
            frame = await self._receive()
            if matches(frame, op, where):
                return frame
            self.kept.append(frame)

    async def acks(self, count: int) -> dict[str, tuple[int, int]]:
        """Partition and offset by id, of so many acknowledgements."""
        found: dict[str, tuple[int, int]] = {}
        while len(found) < count:
            for id, partition, offset in (await self.the("ack"))["acks"]:
                assert id not in found
                found[id] = (partition, offset)
        return found

    async def ask(self, **frame: Any) -> dict[str, Any]:
        """Says it, and returns the next frame."""
        await self.say(**frame)
        return await self.frame()

    async def _receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
            return frame


async def until(condition: Callable[[], object]) -> None:
    """Returns when it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what is waited for happens in many places
            await asyncio.sleep(0.005)


def matches(frame: dict[str, Any], op: str, where: dict[str, Any]) -> bool:
    return frame["op"] == op and all(frame.get(name) == value for name, value in where.items())


class World:
    """A gateway, and what stands behind it."""

    def __init__(self, app: App, log: Any, registry: Registry, gateway: Gateway) -> None:
        self.app = app
        self.log = log
        self.registry = registry
        self.gateway = gateway
        self.producer = log.producer()
        self._codecs = {name: Codec.of(topic, registry) for name, topic in app.topics.items()}

    @contextlib.asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        options = {"subprotocols": [Subprotocol(SUBPROTOCOL)], "ping_interval": None, "compression": None} | options
        async with connect(self.gateway.url, **options) as socket:
            yield Client(socket)

    def emit(self, channel: str, record: Record, **options: Any) -> None:
        """Puts a record into a topic, as a worker does."""
        self.producer.send(channel, self._codecs[channel].encode(record), **options)

    def records(self, topic: str) -> list[Any]:
        """What lies in a topic of the log in memory."""
        return [self._codecs[topic].decode(message.value) for message in self.log.messages(topic)]

    async def dead(self, count: int = 1) -> list[DeadLetter]:
        """The dead letters, once there are so many."""
        await until(lambda: len(self.records(self.app.dead_letters.name)) >= count)
        return self.records(self.app.dead_letters.name)


@contextlib.asynccontextmanager
async def world(
    log: Any = None, *, limits: Limits | None = None, app: App | None = None, **more: Any
) -> AsyncIterator[World]:
    """A gateway that runs, over a log in memory unless another is given."""
    app = app or make_app()
    log = log or MemoryLog(*specs(app))
    registry = more.pop("registry", None) or MemoryRegistry()
    gateway = Gateway(app, log, registry, limits=limits, edges=more.pop("edges", EDGES), **more)
    await gateway.start()
    there = World(app, log, registry, gateway)
    try:
        yield there
    finally:
        await gateway.stop()
        await there.producer.close()
