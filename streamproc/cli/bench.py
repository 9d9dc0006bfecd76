"""``streamproc bench``: how fast the worker is, and that it is right."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import noun, takes_kafka
from streamproc.cli.running import StartProgress, until_stopped
from streamproc.errors import SettingsError, StreamprocError
from streamproc.settings import PREFIX, KafkaSettings

if TYPE_CHECKING:
    from streamproc.bench.fixture import Fixtures
    from streamproc.bench.latency import Latencies
    from streamproc.bench.recovery import Recovery
    from streamproc.bench.run import Line

app = noun()
ONE, LOOP = "one", "loop"
LOOPS = (LOOP, "loop-stateless", "loop-exact")
RECOVERY, MEMORY = "recovery", "memory"
EXTRA = (*LOOPS[1:], RECOVERY, MEMORY)  # run where they are named
_SHORT_EVENTS, _EVENTS = 50, 1000  # of job one, per way and round
_SHORT_SECONDS, _SECONDS = 2.0, 8.0  # of job loop, per way and round


@app.command()
@takes_kafka
def bench(
    ctx: typer.Context,
    kafka: KafkaSettings,
    jobs: Annotated[list[str] | None, typer.Argument(help="Which jobs; all, when none is named.")] = None,
    events: Annotated[int, typer.Option(min=0, help="Events per job; 0 for each job's own number.")] = 0,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds; the medians count. 3, or 1 of the short form.")] = 0,
    short: Annotated[
        bool, typer.Option("--short", help="Few events, to see that every job runs and is right.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one round may take.")] = 300.0,
    json: Annotated[Path | None, typer.Option(help="File for all figures, round by round.")] = None,
    write: Annotated[Path | None, typer.Option(help="File whose tables between markers are to be replaced.")] = None,
) -> None:
    """Measure the worker, Kafka to Kafka, and compare every result with a reference; exit with 1 if any is wrong.

    Jobs: j1, j1-small, j1-million-keys, session, j2, wide, rows (throughput), j1-exact, j1-million-keys-exact (exactly
    once, state in a changelog), one (latency, beside a bare pass-through consumer), loop (latency over WebSocket, on a
    system of its own). Only where they are named: loop-stateless, loop-exact (loop, with other guarantees), recovery
    (of a million rows of state), memory (an hour of keys that come and go). Runs on a broker of its own unless
    --bootstrap names one.
    """
    from streamproc.bench.jobs import JOBS

    wanted = list(dict.fromkeys(jobs or [*JOBS, ONE, LOOP]))
    if unknown := [job for job in wanted if job not in (*JOBS, ONE, LOOP, *EXTRA)]:
        raise SettingsError(f"no job {unknown[0]!r}: expected some of {', '.join([*JOBS, ONE, LOOP, *EXTRA])}")
    if write and (jobs or short):
        raise SettingsError("--write needs all jobs in full: leave their names and --short out")
    given = ctx.params.get("bootstrap") or os.environ.get(f"{PREFIX}BOOTSTRAP")
    rounds = rounds or (1 if short else 3)
    lines: list[Line] = []
    latencies: list[Latencies] = []
    recoveries: list[Recovery] = []
    if set(wanted) - set(LOOPS):
        with until_stopped(), fixtures(kafka if given else None) as made:
            lines += _throughput(made, wanted, events, rounds, short, timeout)
            if ONE in wanted:
                latencies.append(_one(made, events or (_SHORT_EVENTS if short else _EVENTS), rounds, timeout))
            if RECOVERY in wanted:
                recoveries += _recovery(made, events, rounds, short, timeout)
            if MEMORY in wanted:
                _memory(made, events, short, timeout)
    latencies += [_loop(job, rounds, _SHORT_SECONDS if short else _SECONDS) for job in LOOPS if job in wanted]
    _tell(lines, latencies)
    command = shlex.join(["streamproc", *sys.argv[1:]])
    if json:
        from streamproc.bench.report import as_json

        json.write_bytes(as_json(lines, latencies, command))
    wrong = [x for line in lines for x in line.wrong()] + [x for each in recoveries for x in each.wrong()]
    if wrong:
        raise StreamprocError("\n  ".join(["results are wrong", *wrong]))
    if write:
        _write(write, lines, latencies, command, rounds)


@contextmanager
def fixtures(kafka: KafkaSettings | None) -> Iterator[Fixtures]:
    """Inputs on that broker, or on one of our own. What was made there is deleted afterwards."""
    from streamproc.bench.fixture import Fixtures
    from streamproc.bench.topics import Topics
    from streamproc.log.broker import BrokerConfig, EmbeddedBroker

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamproc-bench-")))
        if kafka is None:
            with StartProgress() as progress:
                broker = EmbeddedBroker(BrokerConfig(heap_mb=512), progress=progress)
                stack.callback(broker.stop)
                kafka = broker.start().settings
        topics = Topics(kafka)
        stack.callback(topics.clear)
        yield Fixtures(topics, folder, _say)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _throughput(made: Fixtures, wanted: list[str], events: int, rounds: int, short: bool, timeout: float) -> list[Line]:
    from streamproc.bench.jobs import JOBS
    from streamproc.bench.run import run

    jobs = [JOBS[name] for name in wanted if name in JOBS]
    return run(jobs, made, rounds, lambda job: events or (job.short if short else job.events), timeout, _say)


def _one(made: Fixtures, events: int, rounds: int, timeout: float) -> Latencies:
    from streamproc.bench.latency import Latencies, one_at_a_time

    found = Latencies(ONE)
    for _ in range(rounds):
        one_at_a_time(made, found, events, timeout)
        _say(found.told())
    return found


def _recovery(made: Fixtures, rows: int, rounds: int, short: bool, timeout: float) -> list[Recovery]:
    from streamproc.bench.recovery import ROWS, SHORT, recovery

    return recovery(made, rows or (SHORT if short else ROWS), rounds, timeout, _say)


def _memory(made: Fixtures, events: int, short: bool, timeout: float) -> None:
    from streamproc.bench.memory import EVENTS, SHORT, memory

    memory(made, events or (SHORT if short else EVENTS), timeout, _say)


def _loop(name: str, rounds: int, seconds: float) -> Latencies:
    """The closed loop, on a system of its own: its topics have names that others may have, too."""
    from streamproc.bench.loop import TOPOLOGY, closed_loop
    from streamproc.bench.loop_state import JOBS, STATE
    from streamproc.bench.process import process
    from streamproc.cli.serving import serve
    from streamproc.cli.system import System

    found: list[Latencies] = []
    progress = StartProgress()

    async def measure(system: System) -> None:
        with progress:
            await system.start()
        assert system.kafka is not None
        bare = [sys.executable, "-m", "streamproc.bench.bare", "bare", "echo"]
        with process(bare, system.kafka.environ()) as floor:
            await asyncio.to_thread(floor.line, "up", 60.0)
            (worker,) = (child for child in system.children if child.name == "worker")
            found.append(await closed_loop(name, system.url, worker.admin_url, rounds, seconds, _say))

    async def work(told: asyncio.Event) -> None:
        with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as folder:
            system = System(TOPOLOGY, registry=f"file:{folder}/registry.json", on_progress=progress)
            os.environ[STATE] = JOBS[name]  # to its processes
            job, stop = asyncio.create_task(measure(system)), asyncio.create_task(told.wait())
            try:
                await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
                if not job.done():
                    raise KeyboardInterrupt
                await job
            finally:
                stop.cancel()
                job.cancel()
                await asyncio.gather(job, return_exceptions=True)
                await system.stop()

    serve(work)
    return found[0]


def _tell(lines: list[Line], latencies: list[Latencies]) -> None:
    from rich.console import Console
    from rich.table import Table

    from streamproc.bench.report import HEAD, rows

    console = Console()
    if lines:
        table = Table(*HEAD, title="Kafka to Kafka, one worker", title_justify="left")
        for column in table.columns[1:-1]:
            column.justify = "right"
        for row in rows(lines):
            table.add_row(*row)
        console.print(table)
    for found in latencies:
        table = Table("way", "p50 ms", "p99 ms", title=f"{found.job}: {found.events:,} events", title_justify="left")
        for way in found.p50:
            table.add_row(way, *(f"{value:.2f}" for value in found.median(way)))
        if (flush := found.flush()) is not None:
            table.add_row("flush", *(f"{value:.2f}" for value in flush))
        console.print(table)


def _write(path: Path, lines: list[Line], latencies: list[Latencies], command: str, rounds: int) -> None:
    from streamproc.bench import report

    sections = {"jobs": report.jobs_table(lines)} | {x.job: report.latency_table(x) for x in latencies}
    below = report.footer(command, rounds)
    report.write(path, {name: f"{table}\n\n{below}" for name, table in sections.items()})
