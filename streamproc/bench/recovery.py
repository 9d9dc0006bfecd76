"""How long state takes to come back: a worker fills it and ends, another one goes on; what comes then must be right.

Rows come from the changelog, or from a snapshot that the worker before has left in a folder.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from streamproc.bench import check, reference
from streamproc.bench.check import Verdict
from streamproc.bench.fixture import Fixture, Fixtures
from streamproc.bench.inputs import EVERY, INPUTS, START
from streamproc.bench.jobs import TRADES, columns_of
from streamproc.bench.metered import REGISTRY
from streamproc.bench.process import Process, process
from streamproc.bench.records import TradeCount, TradeWindow
from streamproc.bench.restart import Restarted
from streamproc.bench.topics import PARTITIONS
from streamproc.define.windows import tumbling
from streamproc.errors import StreamprocError

ROWS, SHORT = 1_000_000, 100_000  # a partition with fewer than 20,000 is not worth a snapshot
PROBES = 64  # events after the restart: enough for each partition to have some
_FAR = 40 * 86_400_000  # ms: behind the window's end
_COMMAND = (sys.executable, "-m", "streamproc.bench.restart")
_STOP, _SNAPSHOTS = 60.0, 60.0  # seconds
_LOOK = 0.1
WAYS = {
    "windows, changelog": ("kept-windows", False),
    "windows, snapshot": ("kept-windows", True),
    "table, changelog": ("kept-table", False),
    "table, snapshot": ("kept-table", True),
}


@dataclass(slots=True)
class Recovery:
    """All rounds of one way."""

    way: str
    rows: int
    found: list[Restarted] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Of one of the figures, by its name in :class:`Restarted`."""
        return float(statistics.median(getattr(x, name) for x in self.found))

    def wrong(self) -> list[str]:
        return [f"recovery, {self.way}, round {n}: {x}" for n, v in enumerate(self.verdicts, 1) for x in v.wrong]

    def told(self) -> str:
        """The last round, in a line."""
        last, verdict = self.found[-1], self.verdicts[-1]
        worth = "; ".join(verdict.wrong) or f"{verdict.results:,} results, all right"
        return (
            f"round {len(self.found)} recovery of {self.rows:,} rows, {self.way:20} {last.processing:6.2f} s until all "
            f"partitions are worked on, {last.cpu:5.2f} CPU s  {worth}"
        )


def probes(rows: int, far: int = 0) -> Iterable[dict[str, Any]]:
    """Second trades of some symbols, behind all others, or ``far`` milliseconds later."""
    for n in range(PROBES):
        symbol = f"K{n * rows // PROBES:07d}"
        at = START + rows * EVERY + far + n
        yield {"symbol": symbol, "ts": at, "price": 100.0 + n, "size": 1.0, "venue": "X"}


def recovery_round(fixtures: Fixtures, found: Recovery, timeout: float) -> None:
    """One round, added to ``found``.

    Raises:
        StreamprocError: a worker failed, or took longer than ``timeout`` seconds.
    """
    topics = fixtures.topics
    topology, snapshots = WAYS[found.way]
    fixture = Fixture(topics, INPUTS["trades-distinct"], fixtures.registry, found.rows)
    name = topics.name("recovery")
    environ = topics.kafka.environ() | {REGISTRY: fixtures.registry_url}
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as folder:
        command = [*_COMMAND, topology, fixture.topic, name, str(PARTITIONS), *([folder] if snapshots else [])]
        try:
            with process(command, environ) as child:
                until_committed(fixture, name, child, timeout)
                if snapshots:
                    _until_snapshots(Path(folder), child)
                _end(child)
            fixture.append(probes(found.rows))
            with process(command, environ) as child:
                line = child.line('{"first"', timeout)
                fixture.append(probes(found.rows, _FAR))
                until_committed(fixture, name, child, timeout)
                _end(child)
            found.found.append(msgspec.json.decode(line, type=Restarted))
            found.verdicts.append(_judge(topology, fixture, f"{name}-out"))
        finally:
            topics.drop(name)
            topics.drop(fixture.topic)


def until_committed(fixture: Fixture, group: str, child: Process, timeout: float) -> None:
    """Returns when the group has committed all of the input.

    Raises:
        StreamprocError: the child ended before, or it took longer than ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while fixture.topics.lag(group, fixture.topic):
        child.alive()
        if time.monotonic() > deadline:
            raise StreamprocError(f"{group}: not done within {timeout:g} s")
        time.sleep(_LOOK)


def _until_snapshots(folder: Path, child: Process) -> None:
    """Returns when there is one of each partition."""
    deadline = time.monotonic() + _SNAPSHOTS
    while len(list(folder.rglob("*.state"))) < PARTITIONS:
        child.alive()
        if time.monotonic() > deadline:
            raise StreamprocError(f"recovery: no snapshots within {_SNAPSHOTS:g} s")
        time.sleep(_LOOK)


def _end(child: Process) -> None:
    child.close_input()
    child.wait(_STOP)


def _judge(topology: str, fixture: Fixture, sink: str) -> Verdict:
    if topology == "kept-windows":
        asked = TRADES._replace(window=tumbling("30d"), grace=0)
        found = columns_of(fixture.topics, sink, TradeWindow)
        return check.windows(found, reference.expected(fixture.events, asked), asked)
    found = columns_of(fixture.topics, sink, TradeCount)
    return check.same(found.iter_rows(), counted(fixture.events).iter_rows())


def counted(events: pl.DataFrame) -> pl.DataFrame:
    """Each symbol's trades from its second on."""
    nth = events.select("symbol", "ts", n=pl.int_range(1, pl.len() + 1).over("symbol"))
    return nth.filter(pl.col("n") > 1)


def recovery(fixtures: Fixtures, rows: int, rounds: int, timeout: float, tell: Callable[[str], None]) -> list[Recovery]:
    """All ways in turns."""
    ways = [Recovery(way, rows) for way in WAYS]
    for _ in range(rounds):
        for way in ways:
            recovery_round(fixtures, way, timeout)
            tell(way.told())
    return ways
