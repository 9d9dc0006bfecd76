"""Recovery beside Kafka Streams, of the same rows: ``python -m tests.bench.peers.recovery``.

    python -m tests.bench.peers.recovery --rows 1000000 --rounds 3

Kafka Streams has a store in memory with a changelog; it is filled, ended and started again on the same Kafka as the
worker, in turns with it. Its clock begins with the restoration, so without what the group takes to give it partitions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from streamproc.bench.fixture import Fixture, Fixtures
from streamproc.bench.inputs import INPUTS
from streamproc.bench.process import process
from streamproc.bench.recovery import PROBES, ROWS, WAYS, Recovery, probes, recovery_round, until_committed
from streamproc.bench.report import markdown
from streamproc.bench.topics import PARTITIONS
from streamproc.cli.bench import fixtures
from streamproc.cli.running import until_stopped
from streamproc.errors import StreamprocError
from tests.bench.peers.install import java

_COUNT = 16  # bytes of a result, see ``java/Trades.java``


class Restored(msgspec.Struct):
    """Seconds until the rows were there, and until each partition had an event."""

    rows: int
    restored: float
    processing: float


def streams_round(made: Fixtures, rows: int, timeout: float) -> Restored:
    """One round of Kafka Streams.

    Raises:
        StreamprocError: it failed, took longer than ``timeout`` seconds, or counted wrongly after the restart.
    """
    topics = made.topics
    fixture = Fixture(topics, INPUTS["trades-distinct"], made.registry, rows)
    sink = topics.make(topics.name("recovery-streams"))
    with tempfile.TemporaryDirectory(prefix="streamproc-peer-") as folder:
        environ = {
            "BENCH_BOOTSTRAP": topics.kafka.bootstrap,
            "BENCH_SOURCE": fixture.topic,
            "BENCH_SINK": sink,
            "BENCH_EVENTS": str(rows),
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_FOLDER": folder,
        }
        command = java("RecoveryJob", "streams")
        try:
            for last in (False, True):
                with process(command, environ, Path(folder)) as child:
                    line = child.line('{"rows"', timeout)
                    until_committed(fixture, sink, child, timeout)
                    child.close_input()
                    child.wait(timeout)
                if not last:
                    fixture.append(probes(rows))
            found = msgspec.json.decode(line, type=Restored)
            _check(found, topics, sink, rows)
            return found
        finally:
            topics.drop(sink)
            topics.drop(fixture.topic)


def _check(found: Restored, topics: Any, sink: str, rows: int) -> None:
    counts = [int.from_bytes(value[8:_COUNT], "big") for records in topics.read(sink) for value in records.values]
    if counts != [2] * PROBES or found.rows < rows:
        raise StreamprocError(f"recovery, streams: {found.rows} of {rows} rows; counts of {PROBES} probes: {counts}")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a step of a round may take")
    given = parser.parse_args(argv)
    ways, streams = [Recovery(way, given.rows) for way in WAYS], list[Restored]()
    say = partial(print, file=sys.stderr, flush=True)
    with until_stopped(), fixtures(None) as made:
        for number in range(1, given.rounds + 1):
            for way in ways:
                recovery_round(made, way, given.timeout)
                say(way.told())
            streams.append(streams_round(made, given.rows, given.timeout))
            say(
                f"round {number} recovery of {given.rows:,} rows, Kafka Streams         {streams[-1].processing:6.2f} s"
            )
    body = [(way.way, f"{way.median('processing'):.2f}", "; ".join(way.wrong()) or "all right") for way in ways]
    theirs = statistics.median(each.processing for each in streams)
    body.append(("Kafka Streams, changelog", f"{theirs:.2f}", "all right"))
    print(markdown((f"{given.rows:,} rows", "seconds", "results"), body))
    if wrong := [x for way in ways for x in way.wrong()]:
        raise StreamprocError("\n  ".join(["results are wrong", *wrong]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except StreamprocError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
