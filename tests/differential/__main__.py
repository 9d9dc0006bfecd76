"""Kafka Streams beside the platform on the same topics: the same final results? ``make differential``.

    python -m tests.differential                       # all jobs
    python -m tests.differential --short               # few events
    python -m tests.differential --jobs uc3 session --events 20000

Both read real topics of an embedded Kafka; any difference that a job does not allow for ends in exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamproc.bench.report import markdown
from streamproc.errors import StreamprocError
from streamproc.log.broker import BrokerConfig, EmbeddedBroker
from tests.differential.compare import Compared, compare
from tests.differential.jobs import JOBS
from tests.differential.kit import Place
from tests.differential.run import Both, run

HEAD = ("job", "events", "late", "results", "differ", "floats", "last bits differ", "by at most")


def main(argv: list[str]) -> int:
    """Runs, prints; the exit code."""
    given = _options(argv)
    jobs = [JOBS[name] for name in given.jobs or JOBS]
    events = {job.name: given.events or (job.short if given.short else job.events) for job in jobs}
    began = time.monotonic()
    # Events have times of their own: the log is not to delete them for that.
    broker = EmbeddedBroker(BrokerConfig(extra={"log.retention.ms": "-1"}))
    with tempfile.TemporaryDirectory(prefix="streamproc-differential-") as folder, broker:
        place = Place(broker.settings, Path(folder))
        done = asyncio.run(run(place, f"d{uuid.uuid4().hex[:6]}", jobs, events, given.timeout))
    found = [(both, compared(both)) for both in done]
    print(table(found))
    wrong = [f"{both.job.name}: {each}" for both, one in found for each in one.wrong]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    print(f"{len(done)} jobs in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def compared(both: Both) -> Compared:
    """What differs, and whether late events came just where there must be some."""
    found = compare(both.ours, both.streams, both.job.tolerance)
    if bool(both.late) != both.job.late:
        found.wrong.append(f"{both.late} late events")
    if both.letters:
        found.wrong.append(f"{both.letters} dead letters")
    return found


def table(found: Sequence[tuple[Both, Compared]]) -> str:
    """One line for each job."""
    return markdown(
        HEAD,
        [
            (
                both.job.name,
                f"{both.rows:,}",
                f"{both.late:,}",
                f"{one.rows:,}",
                str(len(one.wrong)),
                f"{one.floats:,}",
                f"{one.inexact:,}",
                f"{one.worst:.1e}" if one.inexact else "",
            )
            for both, one in found
        ],
    )


def _options(argv: list[str]) -> Any:
    parser = argparse.ArgumentParser(prog="make differential ARGS=…", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", nargs="+", choices=JOBS)
    parser.add_argument("--events", type=int, default=0, help="of each job; 0 for each job's own number")
    parser.add_argument("--short", action="store_true", help="few events")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a side may take for a job")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except StreamprocError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    raise SystemExit(code)
