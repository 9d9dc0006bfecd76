"""Runs rounds, each with a group and an output of its own, and judges what came out."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from streamproc.bench.check import Verdict, Wrong
from streamproc.bench.fixture import Fixture, Fixtures
from streamproc.bench.jobs import Job, columns_of
from streamproc.bench.joined import DUE
from streamproc.bench.metered import REGISTRY, Metered
from streamproc.bench.process import process

WORKER = (sys.executable, "-m", "streamproc.bench.worker")


@dataclass(slots=True)
class Line:
    """All rounds of one job by one engine."""

    job: str
    engine: str = "streamproc"
    metered: list[Metered] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    problem: str = ""  # why there are no rounds
    note: str = ""
    floors: list[float] = field(default_factory=list)  # CPU seconds per million events of the least that could be done

    def median(self, name: str) -> float:
        """Of one of a round's figures, by its name in :class:`Metered`."""
        return float(statistics.median(getattr(x, name) for x in self.metered))

    def wrong(self) -> list[str]:
        """What is wrong with its results, round by round."""
        return [f"{self.job}, {self.engine}, round {n}: {x}" for n, v in enumerate(self.verdicts, 1) for x in v.wrong]


def worker_round(fixture: Fixture, fixtures: Fixtures, job: Job, timeout: float) -> tuple[Metered, Verdict]:
    """One round of the platform's worker.

    Raises:
        StreamprocError: the worker failed, or took longer than ``timeout`` seconds.
    """
    topics = fixtures.topics
    name = topics.name(job.name)
    environ = topics.kafka.environ() | {REGISTRY: fixtures.registry_url}
    source, count = ",".join(x.topic for x in fixture.sources), sum(x.count for x in fixture.sources)
    # Of a join the last rows wait for ever for others that might come: so what is done is told by the results.
    due = [] if fixture.beside is None else [str(int(fixture.joined(job.topology)[DUE].sum()))]
    try:
        with process([*WORKER, job.topology, source, name, str(count), *due], environ) as child:
            line = child.line('{"events"', timeout)
            child.wait(10.0)
        metered = msgspec.json.decode(line, type=Metered)
        try:
            found = columns_of(topics, f"{name}-out", job.record)
        except Wrong as error:
            return metered, Verdict(wrong=[str(error)])
        verdict = job.judge(fixture, found, metered.wall)
        if letters := sum(topics.ends(f"{name}-dead-letters")):
            verdict.wrong.append(f"{letters} dead letters")
        if not due and (behind := topics.lag(name, fixture.topic)):
            verdict.wrong.append(f"{behind} events are not committed")
        return metered, verdict
    finally:
        topics.drop(name)


def run(
    jobs: Sequence[Job],
    fixtures: Fixtures,
    rounds: int,
    events: Callable[[Job], int],
    timeout: float,
    tell: Callable[[str], None],
) -> list[Line]:
    """Interleaved rounds of jobs: each once, then each again."""
    lines = {job.name: Line(job.name) for job in jobs}
    for number in range(1, rounds + 1):
        for job in jobs:
            fixture = fixtures.of(job.given, events(job), job.beside)
            metered, verdict = worker_round(fixture, fixtures, job, timeout)
            line = lines[job.name]
            line.metered.append(metered)
            line.verdicts.append(verdict)
            if job.floor is not None:
                line.floors.append(job.floor(fixture))
            tell(told(line, number))
    return list(lines.values())


def told(line: Line, number: int) -> str:
    """The last round, in a line."""
    metered, verdict = line.metered[-1], line.verdicts[-1]
    worth = "; ".join(verdict.wrong) or f"{verdict.results:,} results, all right"
    return (
        f"round {number} {line.job:15} {line.engine:14} {metered.rate / 1e3:8,.0f} k events/s  "
        f"{metered.cpu_per_million:7.3f} CPU s/M  {worth}"
    )
