"""The worker process under test: the product's own :class:`Worker`, metered from its first event to its last.

Runs as ``python -m streamproc.bench.worker TOPOLOGY SOURCE NAME EVENTS [RESULTS]``. It ends when every event is done
and Kafka has every result, or so many, and prints one JSON line: :class:`Metered`. With 0 events it prints ``up`` and
runs until its input is closed. It dies with whoever holds the other end of its input.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.bench import child
from streamproc.bench.metered import REGISTRY, Metered
from streamproc.bench.topologies import build
from streamproc.runtime.runner import Runner
from streamproc.runtime.transport.block import Block
from streamproc.runtime.worker import Worker
from streamproc.settings import KafkaSettings


class Meter:
    """Looks at the clocks when blocks come and go."""

    def __init__(self, events: int) -> None:
        self.events, self.seen, self.blocks = events, 0, 0
        self.begun = self.half = self.last = (0.0, 0.0)
        self.half_seen = 0

    def around(self, take: Callable[[Block], Awaitable[None]]) -> Callable[[Block], Awaitable[None]]:
        """A runner's ``take`` under the meter."""

        async def metered(block: Block) -> None:
            if not self.seen:
                self.begun = clocks()
            await take(block)
            self.seen += block.rows
            self.blocks += 1
            if not self.half_seen and self.seen * 2 >= self.events:
                self.half, self.half_seen = clocks(), self.seen
            self.last = clocks()

        return metered

    def result(self, paths: dict[str, int]) -> Metered:
        """The run's figures, now that everything is done."""
        wall, cpu = clocks()
        return Metered(
            events=self.seen,
            wall=wall - self.begun[0],
            cpu=cpu - self.begun[1],
            taken=self.last[0] - self.begun[0],
            warm_events=self.seen - self.half_seen,
            warm_taken=self.last[0] - self.half[0],
            warm_cpu=self.last[1] - self.half[1],
            process_cpu=cpu,
            rss_mb=peak_mb(),
            blocks=self.blocks,
            paths=paths,
        )


def clocks() -> tuple[float, float]:
    """Wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def peak_mb() -> float:
    """The most memory that this process has had, in MiB. (``getrusage`` would tell its parent's, were that more.)"""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


class MeteredWorker(Worker):
    """The worker, with a meter around its runners. Nothing else is changed."""

    meter: Meter

    def _make_runners(self, codecs: dict[str, Codec]) -> dict[str, Runner]:
        runners = super()._make_runners(codecs)
        for runner in runners.values():
            runner.take = self.meter.around(runner.take)  # type: ignore[method-assign, assignment]
        return runners

    def done(self) -> int:
        """How many events are done, with every result of theirs in Kafka."""
        consumer = self._faust.consumer
        return sum(consumer.ledger.position(tp) or 0 for tp in consumer.assignment())

    def results(self, topic: str) -> int:
        """How many results of a topic Kafka has."""
        return int(self.metrics.results.labels(topic)._value.get())

    def paths(self) -> dict[str, int]:
        """How many rows were decoded which way."""
        found: dict[str, int] = {}
        for metric in self.metrics.rows.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    path = sample.labels["path"]
                    found[path] = found.get(path, 0) + int(sample.value)
        return found


async def run(
    topology: str, source: str, name: str, events: int, results: int | None, closed: Callable[[], bool]
) -> Metered | None:
    """One run of a job; its figures, or None without a number of events to wait for.

    Raises:
        StreamprocError: the worker failed.
    """
    worker = MeteredWorker(build(topology, source, name), KafkaSettings.load(), open_registry(os.environ[REGISTRY]))
    worker.meter = Meter(events)
    try:
        await worker.start()
        running = asyncio.create_task(worker.run())

        async def until(condition: Callable[[], bool], look: float) -> None:
            while not condition():
                if running.done():
                    running.result()
                await asyncio.sleep(look)

        if not events:
            await until(lambda: not worker.problems(), 0.01)
            print("up", flush=True)
            await until(closed, 0.05)
            return None
        await until(lambda: worker.meter.seen >= events, 0.01)
        if results is None:
            await until(lambda: worker.done() >= events, 0.001)
        else:
            await until(lambda: worker.results(f"{name}-out") >= results, 0.001)
        return worker.meter.result(worker.paths())
    finally:
        await worker.stop()


def main(argv: list[str]) -> None:
    topology, source, name, events, *results = argv
    count, wanted = int(events), int(results[0]) if results else None
    child.work(lambda ended: run(topology, source, name, count, wanted, ended), 0 if count else 10)


if __name__ == "__main__":
    main(sys.argv[1:])
