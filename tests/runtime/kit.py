"""An outlet that keeps what it is given, and agents to run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from streamproc import App, Record
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.batch import Batch, records_of
from streamproc.columns import Causes, Columns, Longs
from streamproc.define.agent import Agent
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.log.ports import Headers
from streamproc.runtime.agent_task import AgentTask


class Ping(Record):
    key: str
    n: int


class Pong(Record):
    key: str
    n: int
    note: str = ""


class ListOutlet:
    """Keeps one entry per call of ``send``, so that tests see what went out together."""

    def __init__(self) -> None:
        self.sends: list[tuple[str, list[Record], list[int]]] = []
        self.letters: list[tuple[DeadLetter, Record | None]] = []
        self.broken: Exception | None = None
        self._registry = MemoryRegistry()

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        causes: Causes | None = None,
    ) -> None:
        await asyncio.sleep(0)  # as if there were no room for a moment
        if self.broken is not None:
            raise self.broken
        codec = Codec.of(topic, self._registry)
        for record in records:
            codec.encode(record)
        self.sends.append((topic.name, list(records), list(timestamps)))

    async def send_columns(
        self,
        topic: Topic,
        columns: Columns,
        timestamps: Longs,
        partitions: Longs | None = None,
        causes: Causes | None = None,
    ) -> None:
        await self.send(topic, records_of(columns, topic.record), timestamps.tolist())

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        if self.broken is not None:
            raise self.broken
        self.letters.append((letter, record))

    def records(self, topic: str = "pongs") -> list[Any]:
        return [record for name, records, _ in self.sends if name == topic for record in records]

    @property
    def put_aside(self) -> list[int]:
        """Offsets of the dead letters."""
        return [letter.offset if letter.offset is not None else -1 for letter, _ in self.letters]


def pings(*numbers: int, first: int = 0, partition: int = 0) -> Batch:
    """Events with these numbers. Their keys are the numbers' text, their timestamps 1000 more than their offsets."""
    offsets = np.arange(first, first + len(numbers), dtype=np.int64)
    records = [Ping(str(n), n) for n in numbers]
    return Batch("pings", partition, Ping, offsets, offsets + 1000, records=records)


def agent(function: Callable[..., Any], *, sinks: int = 1, app: App | None = None) -> Agent:
    """An agent from pings to ``pongs`` (and ``pongs2``, …)."""
    app = app or App("test")
    source = app.topic("pings", Ping, key="key")
    names = ["pongs", *(f"pongs{i}" for i in range(2, sinks + 1))][:sinks]
    app.agent(source, sink=[app.topic(name, Pong, key="key") for name in names], name="play")(function)
    found = app.agents["play"]
    assert isinstance(found, Agent)
    return found


@asynccontextmanager
async def running(function: Callable[..., Any], **named: Any) -> AsyncIterator[tuple[AgentTask, ListOutlet]]:
    """A task that runs ``function``, stopped in the end."""
    outlet = ListOutlet()
    task = AgentTask(agent(function, **named), outlet)
    try:
        yield task, outlet
    finally:
        await task.stop()
