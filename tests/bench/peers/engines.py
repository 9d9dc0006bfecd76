"""The peers: how each is installed and run, what it is asked for, and what its results can be held to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.bench.peers.install import HERE, java, python

_DECODE = "fastavro>=1.12,<2"  # what each Python peer reads Avro with


@dataclass(frozen=True, slots=True)
class Engine:
    """One peer.

    Args:
        install: gives the command; fetches what is missing.
        events: how many it is given at most, of each job that it can do.
        complete: whether every closed window must come.
        closed: whether no others may.
        json: whether its results are JSON objects; else 40 or 16 bytes (see ``python/meter.py``).
        note: what must be known of its results.
        waits: whether it can be told to give a count at most so often.
        hard: whether wrong results fail the run. Those of engines that are known to be wrong are told only.
    """

    name: str
    install: Callable[[], list[str]]
    events: dict[str, int]
    complete: bool = True
    closed: bool = True
    json: bool = False
    note: str = ""
    waits: bool = True
    hard: bool = True


def _script(name: str, requirements: tuple[str, ...]) -> list[str]:
    return [python(name, [*requirements, _DECODE]), "-u", str(HERE / "python" / f"{name}_job.py")]


_ALL = 2_000_000
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            "flink",
            partial(java, "FlinkJob", "flink"),
            {"j1": _ALL, "j2": _ALL, "j1-million-keys": _ALL, "session": _ALL, "interval": _ALL},
            closed=False,
            note="Flink 2.3.0, heap state, objects reused, no checkpoints; closes all windows at its end",
        ),
        Engine(
            "streams",
            partial(java, "StreamsJob", "streams"),
            {"j1": _ALL, "j2": _ALL, "j1-million-keys": 500_000, "session": _ALL, "interval": _ALL, "as-of": _ALL},
            note="Kafka Streams 4.3.1, state in memory without changelog, suppress; of as-of, versioned on disk",
        ),
        Engine(
            "bytewax",
            partial(_script, "bytewax", ("bytewax[kafka]==0.21.1",)),
            {"j1": 500_000, "j2": 500_000},
            closed=False,
            note="Bytewax 0.21.1; its watermark moves with the clock; closes all windows at its end",
        ),
        Engine(
            "quix",
            partial(_script, "quix", ("quixstreams==3.28.1",)),
            {"j1": 100_000, "j2": 200_000},
            note="Quix Streams 3.28.1, no changelog; a window closes with the next event of its partition",
        ),
        Engine(
            "pathway",
            partial(_script, "pathway", ("pathway==0.33.0",)),
            {"j1": 200_000, "j2": 500_000},
            json=True,
            waits=False,
            complete=False,
            closed=False,
            hard=False,
            note="Pathway 0.33.0; one watermark for all partitions, so windows are cut short; counts every change",
        ),
        Engine(
            "faust",
            lambda: [sys.executable, "-u", str(HERE / "python" / "faust_job.py")],
            {"j1": 10_000, "j2": 10_000},
            complete=False,
            closed=False,
            hard=False,
            note="Faust 0.15.3, plain; its hopping table expires by the wall clock",
        ),
    )
}
SHORT = ("flink", "streams")
