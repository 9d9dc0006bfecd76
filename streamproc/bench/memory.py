"""Whether memory is bounded: an hour of events of keys that come and go, faster than it would pass. What a worker
holds, in rows and in MiB, on the way and when the last keys are gone.

The child is this module, too: ``python -m streamproc.bench.memory TOPOLOGY SOURCE NAME EVENTS``. It prints one JSON
line for each look, :class:`Held`, and goes on until its input is closed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.bench import child
from streamproc.bench.fixture import Fixture, Fixtures
from streamproc.bench.inputs import COME_AND_GO, HOUR, INPUTS, START
from streamproc.bench.metered import REGISTRY
from streamproc.bench.process import process
from streamproc.bench.recovery import until_committed
from streamproc.bench.topologies import build
from streamproc.errors import StreamprocError
from streamproc.runtime.runner import Runner
from streamproc.runtime.transport.block import Block
from streamproc.runtime.worker import Worker
from streamproc.settings import KafkaSettings

EVENTS, SHORT = 3_600_000, 72_000
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the events, after which there is a look
WAYS = ("coming-windows", "coming-sessions", "coming-table")
_GONE = 600_000  # ms behind the last event: all windows are closed, all sessions over, all rows expired
_CLOSERS = 64
_STOP = 60.0  # seconds
_LOOK = 0.2


class Held(msgspec.Struct, kw_only=True):
    """What the worker held after so many events: keys of windows or rows of a table, and MiB of memory."""

    events: int
    rows: int
    rss_mb: float


def rss_mb() -> float:
    """Of this process, now, in MiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


class WatchedWorker(Worker):
    """The worker, which tells what it holds when it has taken so many events."""

    looks: list[int]
    seen = 0

    def _make_runners(self, codecs: dict[str, Codec]) -> dict[str, Runner]:
        runners = super()._make_runners(codecs)
        for runner in runners.values():
            runner.take = self._watched(runner.take)  # type: ignore[method-assign, assignment]
        return runners

    def _watched(self, take: Callable[[Block], Awaitable[None]]) -> Callable[[Block], Any]:
        async def watched(block: Block) -> None:
            await take(block)
            self.seen += block.rows
            if self.looks and self.seen >= self.looks[0]:
                while self.looks and self.seen >= self.looks[0]:
                    self.looks.pop(0)
                gc.collect()
                print(msgspec.json.encode(self.held()).decode(), flush=True)

        return watched

    def held(self) -> Held:
        """Over all partitions."""
        rows = 0
        for runner in self._runners.values():
            for task in runner._tasks.values():
                if (window := getattr(task, "window", None)) is not None:
                    rows += len(window._live_codes())  # what is known of keys besides is given back when it is much
                if (tables := getattr(task, "tables", None)) is not None:
                    rows += sum(map(len, tables.held.values()))
        return Held(events=self.seen, rows=rows, rss_mb=rss_mb())


async def run(topology: str, source: str, name: str, events: int, over: Callable[[], bool]) -> None:
    """Raises StreamprocError: the worker failed."""
    worker = WatchedWorker(build(topology, source, name), KafkaSettings.load(), open_registry(os.environ[REGISTRY]))
    worker.looks = [int(events * share) for share in SHARES] + [events + _CLOSERS]
    try:
        await worker.start()
        running = asyncio.create_task(worker.run())
        while not over():
            if running.done():
                running.result()
            await asyncio.sleep(_LOOK)
    finally:
        await worker.stop()


def closers() -> Iterable[dict[str, Any]]:
    """Events so far behind the hour that nothing of it is open."""
    for n in range(_CLOSERS):
        yield {"symbol": f"end-{n}", "ts": START + HOUR + _GONE + n, "price": 1.0, "size": 1.0, "venue": "X"}


def memory(fixtures: Fixtures, events: int, timeout: float, tell: Callable[[str], None]) -> dict[str, list[Held]]:
    """What was held, by way, at each look; the last is behind the end.

    Raises:
        StreamprocError: a worker failed, or held more in the end than the last events' keys.
    """
    found = {}
    for way in WAYS:
        fixture = Fixture(fixtures.topics, INPUTS[COME_AND_GO], fixtures.registry, events)
        try:
            found[way] = _watch(fixture, fixtures, way, timeout)
        finally:
            fixtures.topics.drop(fixture.topic)
        looks = "; ".join(f"{x.events:,}: {x.rows:,} rows, {x.rss_mb:.0f} MiB" for x in found[way])
        tell(f"memory {way:16} {looks}")
    return found


def _watch(fixture: Fixture, fixtures: Fixtures, way: str, timeout: float) -> list[Held]:
    topics = fixtures.topics
    name = topics.name(way)
    environ = topics.kafka.environ() | {REGISTRY: fixtures.registry_url}
    command = [sys.executable, "-m", "streamproc.bench.memory", way, fixture.topic, name, str(fixture.count)]
    try:
        with process(command, environ) as child:
            until_committed(fixture, name, child, timeout)
            fixture.append(closers())
            until_committed(fixture, name, child, timeout)
            child.close_input()
            child.wait(_STOP)
            found = [msgspec.json.decode(line, type=Held) for line in child.lines if line.startswith('{"events"')]
    finally:
        topics.drop(name)
    if not found or found[-1].events < fixture.count + _CLOSERS or found[-1].rows > _CLOSERS:
        raise StreamprocError(f"memory, {way}: expected {_CLOSERS} keys at most in the end; found {found[-1:]}")
    return found


def main(argv: list[str]) -> None:
    topology, source, name, events = argv
    child.work(lambda over: run(topology, source, name, int(events), over), 20)


if __name__ == "__main__":
    main(sys.argv[1:])
