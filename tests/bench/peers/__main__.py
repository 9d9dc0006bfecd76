"""The peers beside the platform, on the same topics, in turns: ``make peers``.

    python -m tests.bench.peers                                   # all jobs and peers, three rounds
    python -m tests.bench.peers --short                           # Flink and Kafka Streams, few events
    python -m tests.bench.peers --jobs j1 --peers flink --events 500000 --rounds 5

A peer that cannot be installed or fails is told as such, and the others go on; wrong results of the platform, or of a
peer that is known to do right, end in exit code 1.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from streamproc.bench import check, joined, report
from streamproc.bench.check import Verdict
from streamproc.bench.fixture import Fixture, Fixtures
from streamproc.bench.jobs import JOBS, SESSIONS, TRADES, Job
from streamproc.bench.metered import Metered
from streamproc.bench.process import process
from streamproc.bench.run import Line, told, worker_round
from streamproc.bench.topics import Records, Topics
from streamproc.bench.topologies import EVERY
from streamproc.cli.bench import fixtures
from streamproc.cli.main import INTERRUPTED
from streamproc.cli.running import until_stopped
from streamproc.errors import SettingsError, StreamprocError
from streamproc.settings import KafkaSettings
from tests.bench.peers.engines import ENGINES, SHORT, Engine

OURS = "streamproc"
PEER_JOBS = ("j1", "j1-million-keys", "j2", "session", "interval", "as-of")
_ASKED = {"windows": TRADES, "sessions": SESSIONS}  # by topology
HEAD = ("engine", "events", "events/s", "second half", "CPU s/M", "second half", "MB", "results")
_SHORT_EVENTS = 50_000
_WINDOW = np.dtype([("start", ">i8"), ("n", ">i8"), ("sum", ">f8"), ("max", ">f8"), ("mean", ">f8")])
_QUOTED = np.dtype([("ts", ">i8"), ("price", ">f8"), ("ts_right", ">i8"), ("bid", ">f8")])
_COUNT = np.dtype([("at", ">i8"), ("n", ">i8")])


def main(argv: list[str]) -> int:
    """Runs, prints, writes; the exit code."""
    given = _options(argv)
    if given.write and (given.short or given.peers or given.jobs):
        raise SettingsError("--write needs all jobs and peers in full: leave --jobs, --peers and --short out")
    names = given.peers or (SHORT if given.short else tuple(ENGINES))
    jobs = [JOBS[name] for name in given.jobs or (("j1", "j2") if given.short else PEER_JOBS)]
    rounds = given.rounds or (1 if given.short else 3)
    kafka = KafkaSettings.load(bootstrap=given.bootstrap) if given.bootstrap else None
    lines: list[Line] = []
    with until_stopped():
        commands = {name: _installed(ENGINES[name]) for name in names}
        with fixtures(kafka) as made:
            for job in jobs:
                lines += _job(job, commands, made, rounds, given)
    for job in jobs:
        print(f"\n{job.name}: {job.what}\n{table(lines, job)}")
    command = shlex.join(["make", "peers", *([f"ARGS={shlex.join(argv)}"] if argv else [])])
    if given.json:
        given.json.write_bytes(report.as_json(lines, [], command))
    if given.write:
        below = report.footer(command, rounds)
        report.write(given.write, {f"peers-{job.name}": f"{table(lines, job)}\n\n{below}" for job in jobs})
    failed = [x for line in lines if line.engine == OURS or ENGINES[line.engine].hard for x in _problems(line)]
    for problem in failed:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if failed else 0


def _options(argv: list[str]) -> Any:
    parser = argparse.ArgumentParser(prog="make peers ARGS=…", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", nargs="+", choices=PEER_JOBS)
    parser.add_argument("--peers", nargs="+", choices=ENGINES)
    parser.add_argument("--events", type=int, default=0, help="at most; 0 for what each peer can bear")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="Flink and Kafka Streams, few events, one round")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that one round may take")
    parser.add_argument("--bootstrap", help="a broker; one of our own by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    return parser.parse_args(argv)


def _installed(engine: Engine) -> list[str] | StreamprocError:
    began = time.monotonic()
    try:
        command = engine.install()
    except StreamprocError as error:
        print(f"{engine.name} cannot be installed: {error}", file=sys.stderr, flush=True)
        return error
    if (took := time.monotonic() - began) > 1:
        print(f"{engine.name} installed in {took:.0f} s", file=sys.stderr, flush=True)
    return command


def _job(
    job: Job, commands: dict[str, list[str] | StreamprocError], made: Fixtures, rounds: int, given: Any
) -> list[Line]:
    """Interleaved rounds of one job. An engine that failed once is not run again."""
    most = given.events or (_SHORT_EVENTS if given.short else job.events)
    lines = {OURS: Line(job.name, OURS)}
    for name, command in commands.items():
        if job.name in ENGINES[name].events:
            lines[name] = Line(job.name, name, note=ENGINES[name].note)
            if isinstance(command, StreamprocError):
                lines[name].problem = f"not installed: {str(command).splitlines()[0]}"
    for number in range(1, rounds + 1):
        for name, line in lines.items():
            if line.problem:
                continue
            try:
                if name == OURS:
                    metered, verdict = worker_round(made.of(job.given, most, job.beside), made, job, given.timeout)
                else:
                    fixture = made.of(job.given, min(most, ENGINES[name].events[job.name]), job.beside)
                    command = commands[name]
                    assert isinstance(command, list)
                    metered, verdict = peer_round(ENGINES[name], command, fixture, job, given.timeout)
            except StreamprocError as error:
                line.problem = str(error)
                print(f"round {number} {job.name} {name} failed: {error}", file=sys.stderr, flush=True)
                continue
            line.metered.append(metered)
            line.verdicts.append(verdict)
            print(told(line, number), file=sys.stderr, flush=True)
    return list(lines.values())


def peer_round(
    engine: Engine, command: list[str], fixture: Fixture, job: Job, timeout: float
) -> tuple[Metered, Verdict]:
    """One round of a peer.

    Raises:
        StreamprocError: it failed, or took longer than ``timeout`` seconds.
    """
    topics = fixture.topics
    sink = topics.make(topics.name(f"{engine.name}-{job.name}"))
    with tempfile.TemporaryDirectory(prefix="streamproc-peer-") as folder:
        environ = {
            "BENCH_BOOTSTRAP": topics.kafka.bootstrap,
            "BENCH_JOB": job.topology,
            "BENCH_SOURCE": ",".join(each.topic for each in fixture.sources),
            "BENCH_SINK": sink,
            "BENCH_EVENTS": str(sum(each.count for each in fixture.sources)),
            "BENCH_FOLDER": folder,
        }
        try:
            with process(command, environ, Path(folder)) as child:
                line = child.line('{"events"', timeout)
                child.wait(60.0)
            metered = msgspec.json.decode(line, type=Metered)
            return metered, _judge(engine, topics, sink, fixture, job, metered.taken)
        finally:
            topics.drop(sink)


def _judge(engine: Engine, topics: Topics, sink: str, fixture: Fixture, job: Job, seconds: float) -> Verdict:
    found = _results(engine, topics, sink, job)
    if (asked := _ASKED.get(job.topology)) is not None:
        return check.windows(found, fixture.expected(asked), asked, complete=engine.complete, closed=engine.closed)
    if job.beside is not None:
        return joined.judge(found, fixture.joined(job.topology), exact=False)
    symbols = fixture.events["symbol"].n_unique()
    often = symbols * (math.ceil(seconds / EVERY) + 1) if engine.waits else len(fixture.events)
    return check.counts(found, fixture.events, often)


def _results(engine: Engine, topics: Topics, sink: str, job: Job) -> pl.DataFrame:
    dtype = _WINDOW if job.topology in _ASKED else _COUNT if job.beside is None else _QUOTED
    read = _from_json if engine.json else _from_bytes
    empty = Records(0, [], [])
    return pl.concat([read(records, dtype) for records in (empty, *topics.read(sink))])


def _from_bytes(records: Records, dtype: np.dtype[Any]) -> pl.DataFrame:
    cells = np.frombuffer(b"".join(records.values), dtype)
    columns = {name: cells[name].astype(cells[name].dtype.newbyteorder("=")) for name in dtype.names or ()}
    symbols = [(key or b"").decode() for key in records.keys]
    return pl.DataFrame({"symbol": pl.Series(symbols, dtype=pl.String), **columns})


def _from_json(records: Records, dtype: np.dtype[Any]) -> pl.DataFrame:
    """What an engine gave; that it takes some of it back (``diff`` -1) is left out."""
    rows = [row for row in map(msgspec.json.decode, records.values) if row["diff"] > 0]
    kinds = {name: pl.Int64 if dtype[name].kind == "i" else pl.Float64 for name in dtype.names or ()}
    schema = {"symbol": pl.String, **kinds}
    return pl.DataFrame([[row[name] for name in schema] for row in rows], schema=schema, orient="row")


def _problems(line: Line) -> list[str]:
    return [f"{line.job}, {line.engine}: {line.problem}"] * bool(line.problem) + line.wrong()


def table(lines: list[Line], job: Job) -> str:
    """One job's table: the platform first, the others as fast as they are."""
    mine = [line for line in lines if line.job == job.name]
    mine.sort(key=lambda line: (line.engine != OURS, -line.median("rate") if line.metered else 1.0))
    body = []
    for line in mine:
        if not line.metered:
            body.append((line.engine, *["–"] * (len(HEAD) - 2), line.problem.splitlines()[0]))
            continue
        body.append(
            (
                line.engine,
                f"{line.metered[0].events:,}",
                *(report.number(line.median(name)) for name in ("rate", "warm_rate")),
                *(report.number(line.median(name)) for name in ("cpu_per_million", "warm_cpu_per_million")),
                f"{line.median('rss_mb'):.0f}",
                "; ".join(filter(None, (report.worth(line), line.problem.split("\n")[0]))),
            )
        )
    notes = [f"- {line.engine}: {line.note}" for line in mine if line.note]
    return "\n".join([report.markdown(HEAD, body), "", *_ratios(mine), "", *notes])


def _ratios(lines: list[Line]) -> list[str]:
    """Our CPU per event beside each peer's, warm and in all."""
    ours = next((line for line in lines if line.engine == OURS and line.metered), None)
    if ours is None:
        return []
    found = []
    for line in lines:
        if line is not ours and line.metered:
            both = [line.median(name) / ours.median(name) for name in ("cpu_per_million", "warm_cpu_per_million")]
            found.append(f"{line.engine} {report.number(both[0])} ({report.number(both[1])})")
    return [f"CPU per event as a multiple of ours, in all (second half): {', '.join(found)}."] if found else []


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except StreamprocError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
