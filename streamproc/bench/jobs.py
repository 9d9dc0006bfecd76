"""The jobs: what each reads and does, and how its results are judged."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import fastavro
import polars as pl

from streamproc.avro.agree import schema_of
from streamproc.avro.codec import FRAME
from streamproc.bench import check, joined
from streamproc.bench.check import Verdict
from streamproc.bench.inputs import INPUTS, Input
from streamproc.bench.records import LargeOrder, Quoted, TelemetryWindow, TradeCount, TradeWindow
from streamproc.bench.reference import Asked
from streamproc.bench.topics import Topics, columns
from streamproc.bench.topologies import EVERY, LARGE
from streamproc.define.aggregates import count, maximum, mean, minimum, total
from streamproc.define.windows import hopping, session
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.bench.fixture import Fixture

_HOPPING = hopping("60s", "10s")
TRADES = Asked(
    "symbol",
    "ts",
    _HOPPING,
    5000,
    {"n": count(), "sum": total("price"), "max": maximum("price"), "mean": mean("price")},
)
SESSIONS = TRADES._replace(window=session("5s"))
TELEMETRY = Asked(
    "vehicle",
    "ts",
    _HOPPING,
    5000,
    {"n": count(), "speed": mean("speed"), "rpm": maximum("rpm"), "fuel": minimum("fuel")},
)


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the benchmark.

    Args:
        what: for readers of the table.
        topology: by its name in :mod:`streamproc.bench.topologies`.
        given: the input.
        record: the type of the results.
        judge: compares the results with the input, the run having taken so many seconds.
        events: by default, and in the short form.
        floor: CPU seconds per million events of the least that could be done with this input, measured beside each
            round.
        beside: a second input, of joins; each has half of the events. Their topology's name says what is joined.
    """

    name: str
    what: str
    topology: str
    given: Input
    record: type[Record]
    judge: Callable[[Fixture, pl.DataFrame, float], Verdict]
    events: int
    short: int
    floor: Callable[[Fixture], float] | None = None
    beside: Input | None = None


def columns_of(topics: Topics, topic: str, record: type[Record]) -> pl.DataFrame:
    """All of a topic, as columns. The Kafka key must be the text of the first field."""
    schema = schema_of(record)
    parts = [columns([], schema)]
    for records in topics.read(topic):
        frame = columns(records.values, schema)
        if [key and key.decode() for key in records.keys] != frame.to_series(0).to_list():
            raise check.Wrong(f"topic {topic!r}[{records.partition}]: the Kafka keys are not the results' keys")
        parts.append(frame)
    return pl.concat(parts)


def _windows(asked: Asked) -> Callable[[Fixture, pl.DataFrame, float], Verdict]:
    def judge(fixture: Fixture, found: pl.DataFrame, _: float) -> Verdict:
        return check.windows(found, fixture.expected(asked), asked)

    return judge


def _joined(how: str) -> Callable[[Fixture, pl.DataFrame, float], Verdict]:
    def judge(fixture: Fixture, found: pl.DataFrame, _: float) -> Verdict:
        return joined.judge(found, fixture.joined(how))

    return judge


def _counts(fixture: Fixture, found: pl.DataFrame, seconds: float) -> Verdict:
    symbols = fixture.events["symbol"].n_unique()
    return check.counts(found, fixture.events, symbols * (math.ceil(seconds / EVERY) + 1))


def _large(fixture: Fixture, found: pl.DataFrame, _: float) -> Verdict:
    return check.same(found.iter_rows(), large_orders(fixture.count))


def fastavro_alone(fixture: Fixture) -> float:
    """Plain fastavro over the same values, one by one, in memory."""
    schema, read = fastavro.parse_schema(fixture.schema), fastavro.schemaless_reader
    values = [value for records in fixture.topics.read(fixture.topic) for value in records.values]
    began = time.process_time()
    for value in values:
        read(io.BytesIO(value[FRAME.size :]), schema)
    return (time.process_time() - began) / len(values) * 1e6


@cache
def large_orders(count: int) -> list[tuple[str, int, float]]:
    """What the row agent must pass on."""
    wanted = []
    for row in INPUTS["orders"].rows(count):
        comes_to = 0.0
        for line in row["lines"]:
            comes_to += line["count"] * line["price"]
        if comes_to > LARGE:
            wanted.append((row["id"], row["ts"], comes_to))
    return wanted


JOBS = {
    job.name: job
    for job in (
        Job(
            "j1",
            "windows of 60 s every 10 s, 200 symbols",
            "windows",
            INPUTS["trades"],
            TradeWindow,
            _windows(TRADES),
            2_000_000,
            100_000,
        ),
        Job(
            "j1-small",
            "the same, from batches of 500 records",
            "windows",
            INPUTS["trades-small"],
            TradeWindow,
            _windows(TRADES),
            2_000_000,
            100_000,
        ),
        Job(
            "j1-million-keys",
            "the same, a million keys",
            "windows",
            INPUTS["trades-million"],
            TradeWindow,
            _windows(TRADES),
            2_000_000,
            50_000,
        ),
        Job(
            "j1-exact",
            "`j1`, exactly once, state in a changelog",
            "exact-windows",
            INPUTS["trades"],
            TradeWindow,
            _windows(TRADES),
            2_000_000,
            100_000,
        ),
        Job(
            "j1-million-keys-exact",
            "`j1-million-keys`, the same way",
            "exact-windows",
            INPUTS["trades-million"],
            TradeWindow,
            _windows(TRADES),
            2_000_000,
            50_000,
        ),
        Job(
            "session",
            "sessions of 200 symbols, which 5 s without a trade end",
            "sessions",
            INPUTS["trades"],
            TradeWindow,
            _windows(SESSIONS),
            2_000_000,
            100_000,
        ),
        Job(
            "interval",
            "trades with all quotes within a second of them",
            "near",
            INPUTS["trades"],
            Quoted,
            _joined("near"),
            2_000_000,
            100_000,
            beside=INPUTS["quotes"],
        ),
        Job(
            "as-of",
            "trades with the last quote before them",
            "latest",
            INPUTS["trades"],
            Quoted,
            _joined("latest"),
            2_000_000,
            100_000,
            beside=INPUTS["quotes"],
        ),
        Job(
            "j2",
            "running counts, ten a second at most per symbol",
            "counts",
            INPUTS["trades"],
            TradeCount,
            _counts,
            2_000_000,
            100_000,
        ),
        Job(
            "wide",
            "windows over 5 of 30 fields",
            "wide",
            INPUTS["telemetry"],
            TelemetryWindow,
            _windows(TELEMETRY),
            1_000_000,
            20_000,
        ),
        Job(
            "rows",
            "arrays, maps and headers, an object each",
            "rows",
            INPUTS["orders"],
            LargeOrder,
            _large,
            300_000,
            10_000,
            floor=fastavro_alone,
        ),
    )
}
