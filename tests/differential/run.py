"""Runs jobs on both sides: Kafka Streams in one Java process, an application for each, and a worker for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from streamproc.avro.agree import schema_of
from streamproc.bench.process import Process, process
from streamproc.define.app import App
from streamproc.record import Record
from streamproc.runtime.worker import Worker
from tests.bench.peers.install import java
from tests.differential.jobs import Job, Round
from tests.differential.kit import Place

_JAVA = Path(__file__).with_name("java")
_START = 120.0  # seconds
_QUIET = 0.8  # seconds without any event or result: there is nothing left to do
_LOOK = 0.1


@dataclass
class Both:
    """One job, its topology, and what came of it."""

    job: Job
    app: App
    ids: Mapping[str, int]  # of schemas, by the topics' short names
    rounds: Sequence[Round]
    rows: int = 0
    ours: Sequence[Record] = ()
    streams: Sequence[Record] = ()
    late: int = 0
    letters: int = 0

    def closed(self, results: Sequence[Record]) -> Sequence[Record]:
        """Without those of the events that close the others."""
        return [result for result in results if getattr(result, self.job.at) < self.job.until]

    @property
    def application(self) -> str:
        """Kafka Streams' name of it, and its group's."""
        return f"{self.app.name}-streams"


def command() -> list[str]:
    """The Java side, compiled where it is not yet."""
    return java("Differential", "streams", sorted(_JAVA.glob("*.java")), "-Xmx1g", "-XX:TieredStopAtLevel=1")


async def run(place: Place, prefix: str, jobs: Sequence[Job], events: Mapping[str, int], timeout: float) -> list[Both]:
    """Results of both engines, of inputs of so many events by the jobs' names.

    Raises:
        StreamprocError: a side failed, or Kafka Streams took longer than ``timeout`` seconds for a round. Where a
            worker does, what it gave by then is its result.
    """
    found = [_prepared(place, f"{prefix}-{job.name}", job, events[job.name]) for job in jobs]
    # Kafka Streams joins what is there: so all of it is there before it starts.
    for both in found:
        _publish(place, both, both.rounds[0])
    with _streams(place, found) as child:
        await asyncio.gather(*(asyncio.to_thread(_feed, place, both, child, timeout) for both in found))
    for both in found:
        out = f"{both.app.name}-out"
        both.streams = both.closed(place.read(f"{both.application}-out", both.app))
        await _work(place, both, timeout)
        both.ours = both.closed(place.read(out, both.app))
        both.late = sum(place.count(name) for name in both.app.topics if name.startswith(f"{out}-late"))
        both.letters = place.count(both.app.dead_letters.name)
    return found


def _prepared(place: Place, name: str, job: Job, events: int) -> Both:
    both = Both(job, job.build(name, job.numbers), {}, job.rounds(events))
    ids = {short: place.make(f"{name}-{short}", record) for short, record in job.sources.items()}
    both.ids = ids | {"out": place.make(f"{both.application}-out", job.result)}
    return both


@contextmanager
def _streams(place: Place, jobs: Sequence[Both]) -> Iterator[Process]:
    """The Java process, up; it is gone when the block is left."""
    told = place.folder / "jobs.json"
    told.write_bytes(msgspec.json.encode([_told(place, both) for both in jobs]))
    with process([*command(), str(told)], {}, place.folder) as child:
        child.line("up", _START)
        yield child
        child.close_input()
        child.line("down", _START)


def _told(place: Place, both: Both) -> dict[str, Any]:
    records = {**both.job.sources, **both.job.inner, "out": both.job.result}
    prefixes = dict.fromkeys(records, both.app.name) | {"out": both.application}
    topics = {
        short: {
            "name": f"{prefixes[short]}-{short}",
            "schema": msgspec.json.encode(schema_of(record)).decode(),
            "id": both.ids.get(short, 0),  # of what is in between, nobody else sees it
        }
        for short, record in records.items()
    }
    return {
        "kind": both.job.kind,
        "application": both.application,
        "bootstrap": place.kafka.bootstrap,
        "folder": str(place.folder / "streams"),
        "topics": topics,
        "numbers": both.job.numbers,
    }


def _publish(place: Place, both: Both, events: Round) -> None:
    both.rows += len(events)
    place.publish(both.app.name, both.job, both.ids, events)


def _feed(place: Place, both: Both, child: Process, timeout: float) -> None:
    """Publishes round by round, each when Kafka Streams is done with the one before."""
    topics = place.topics_of(both.application, [f"{both.app.name}-{short}" for short in both.job.sources])
    for number, events in enumerate(both.rounds):
        if number:
            _publish(place, both, events)
        place.until_done(both.application, topics, child.alive, timeout)


async def _work(place: Place, both: Both, timeout: float) -> None:
    """A worker, until it is done: all rounds at once."""
    worker = Worker(both.app, place.kafka, place.registry)
    out = worker.metrics.results.labels(f"{both.app.name}-out")
    await worker.start()
    running = asyncio.create_task(worker.run())
    try:
        # Rows wait for what cannot come before them any more, the last ones for ever: so offsets do not tell the end.
        deadline = time.monotonic() + timeout
        quiet, seen = 0.0, -1.0
        while not (_value(out) >= len(both.streams) and quiet > _QUIET) and time.monotonic() < deadline:
            if running.done():
                running.result()
            await asyncio.sleep(_LOOK)
            now = sum(_value(child) for child in worker.metrics.events._metrics.values()) + _value(out)
            quiet, seen = quiet + _LOOK if now == seen else 0.0, now
    finally:
        worker.stop_soon()
        await asyncio.gather(running, return_exceptions=True)
        await worker.stop()


def _value(counter: Any) -> float:
    return float(counter._value.get())
