"""A worker that comes back: how long from when the group gives it its partitions until each of them is worked on.

Runs as ``python -m streamproc.bench.restart TOPOLOGY SOURCE NAME PARTITIONS [STATE_DIR]``; prints one JSON line,
:class:`Restarted`, when every partition has had an event, and goes on until its input is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from faust.types import TP

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.bench import child
from streamproc.bench.metered import REGISTRY
from streamproc.bench.topologies import build
from streamproc.runtime.runner import Runner
from streamproc.runtime.transport.block import Block
from streamproc.runtime.worker import Worker
from streamproc.settings import KafkaSettings


class Restarted(msgspec.Struct, kw_only=True):
    """Seconds from when the partitions were assigned: until the first one's state was there, and each had an event
    done.
    """

    first: float
    processing: float
    cpu: float  # of the process, in the same time


class RestartedWorker(Worker):
    """The worker, with a look at the clock where partitions come and blocks are done."""

    assigned_at: tuple[float, float] | None = None

    async def _assigned(self, partitions: set[TP]) -> None:
        if partitions and self.assigned_at is None:
            self.assigned_at, self.done = (time.perf_counter(), time.process_time()), dict[int, tuple[float, float]]()
        await super()._assigned(partitions)

    def _make_runners(self, codecs: dict[str, Codec]) -> dict[str, Runner]:
        runners = super()._make_runners(codecs)
        for runner in runners.values():
            runner.take = self._watched(runner.take)  # type: ignore[method-assign, assignment]
        return runners

    def _watched(self, take: Callable[[Block], Awaitable[None]]) -> Callable[[Block], Any]:
        async def watched(block: Block) -> None:
            await take(block)
            self.done.setdefault(block.partition, (time.perf_counter(), time.process_time()))

        return watched

    def restarted(self) -> Restarted:
        """What it took."""
        assert self.assigned_at is not None
        wall, cpu = self.assigned_at
        last = max(self.done.values())
        return Restarted(first=min(self.done.values())[0] - wall, processing=last[0] - wall, cpu=last[1] - cpu)


async def run(topology: str, source: str, name: str, partitions: int, state_dir: Path | None, over: Any) -> None:
    """Raises StreamprocError: the worker failed."""
    options: dict[str, Any] = {} if state_dir is None else {"state_dir": state_dir}
    app, registry = build(topology, source, name), open_registry(os.environ[REGISTRY])
    worker = RestartedWorker(app, KafkaSettings.load(), registry, **options)
    told = False
    try:
        await worker.start()
        running = asyncio.create_task(worker.run())
        while not over():
            if running.done():
                running.result()
            if not told and worker.assigned_at is not None and len(worker.done) == partitions:
                print(msgspec.json.encode(worker.restarted()).decode(), flush=True)
                told = True
            await asyncio.sleep(0.01)
    finally:
        await worker.stop()


def main(argv: list[str]) -> None:
    topology, source, name, partitions, *folder = argv
    state_dir = Path(folder[0]) if folder else None
    child.work(lambda over: run(topology, source, name, int(partitions), state_dir, over), 20)


if __name__ == "__main__":
    main(sys.argv[1:])
