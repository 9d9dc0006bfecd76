"""The jobs: what each reads, in rounds, what it runs on either side, and how its results are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamproc import App
from streamproc.record import Record
from tests.differential import topologies
from tests.differential.inputs import START, Row, again, bursts, closing, hours, memberships, names, readings, trades
from tests.differential.records import (
    ActivePowerRecord,
    Contribution,
    HierarchySum,
    Membership,
    Order,
    Paid,
    Payment,
    SlotStats,
    StoredRow,
    WindowStats,
)
from tests.differential.topologies import Numbers

Round = Sequence[tuple[str, Row]]  # a topic's short name, and a record; published in this order
Rounds = Callable[[int], Sequence[Round]]
Build = Callable[[str, Numbers], App]
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
SUMS = ("sum", "mean", "variance")  # what depends on the order of addition


@dataclass(frozen=True)
class Job:
    """One job for both engines.

    Args:
        kind: by which the Java side knows it.
        build: makes the topology of a name.
        sources: the records of its topics by their short names.
        result: the type of the results; its first two fields tell two results apart.
        numbers: durations in milliseconds that both sides go by; ``streams_`` is for Kafka Streams alone.
        rounds: given the number of events, what is published; the next round when all is done on both sides.
        inner: records between its parts, which Kafka Streams has schemas for, too.
        at: the result's field that ``until`` is about.
        until: results of this time or later are of the events that close the others: they are not compared.
        tolerance: of floats by field, relative. What is not here must be equal to the bit.
        late: whether it has events that come too late for some window.
    """

    name: str
    kind: str
    build: Build
    sources: Mapping[str, type[Record]]
    result: type[Record]
    numbers: Numbers
    rounds: Rounds
    events: int
    short: int
    inner: Mapping[str, type[Record]] = field(default_factory=dict)
    at: str = "start"
    until: int = 1 << 62
    tolerance: Mapping[str, float] = field(default_factory=dict)
    late: bool = False


_DAY = 24 * HOUR


def _last(rows: Sequence[Row], time: str) -> int:
    return max(int(str(row[time])) for row in rows)


def _closed(rows: Sequence[Row], by: int) -> list[Round]:
    """Measurements, and one of each sensor so much later."""
    sensors = sorted({str(row["identifier"]) for row in rows})
    return [[("readings", row) for row in (*rows, *closing(sensors, _last(rows, "timestamp") + by))]]


def _uc3(n: int) -> list[Round]:
    sensors = names(8)
    autumn = START + 107 * _DAY  # the clocks change in it
    rows = [*readings(6, sensors, n, 60 * _DAY // n, 6 * HOUR, first=autumn)]
    return [[("readings", row) for row in some] for some in (rows, hours(sensors, START + 400 * _DAY))]


def _uc4(n: int) -> list[Round]:
    """Each level's windows close when those below have closed what comes later: three rounds do for Kafka Streams.
    With us each stage that puts rows in order holds back those of its newest time, so there are some more.
    """
    sensors = names(30)
    rows = [*readings(7, sensors, n, 20, 5 * SECOND)]
    end = _last(rows, "timestamp")
    groups = memberships(8, sensors, end)
    order = [(row["timestamp"], "readings", row) for row in rows] + [(row["since"], "groups", row) for row in groups]
    rounds: list[list[tuple[str, Row]]] = [[(short, row) for _, short, row in order]]
    for number in range(14):
        at = end + number * 2 * _DAY + MINUTE
        said: list[tuple[str, Row]] = [("groups", row) for row in again(groups, at)]
        rounds.append(said + [("readings", row) for row in closing(sensors, at)])
    return [rounds[0] + rounds[1], *rounds[2:5], [each for some in rounds[5:] for each in some]]


def _sides(n: int) -> list[Round]:
    accounts = names(20)
    both = [
        (short, row)
        for short, seed in (("orders", 9), ("payments", 10))
        for row in trades(seed, accounts, n // 2, 100, 2 * SECOND, short == "payments")
    ]
    end = START + _DAY
    last: list[tuple[str, Row]] = []
    for account in accounts:
        last.append(("orders", {"account": account, "at": end, "id": "end", "amount": 0.0}))
        last.append(("payments", {"account": account, "at": end, "id": "end", "fee": 0.0}))
    return [both, last]


_READINGS = {"readings": ActivePowerRecord}
_SIDES = {"orders": Order, "payments": Payment}
_LOOSE = dict.fromkeys(SUMS, 1e-12)
_HOPPING = {"size": MINUTE, "step": 10 * SECOND, "grace": 5 * SECOND}
_UC3 = {"size": 30 * _DAY, "step": _DAY, "grace": 6 * HOUR, "streams_grace": 100 * _DAY}
_UC4 = {"size": 10 * SECOND, "grace": 5 * SECOND, "streams_grace": _DAY}
_JOIN = {"before": 3 * SECOND, "after": 5 * SECOND, "grace": 2 * SECOND}


def _windows(seed: int, every: int, disorder: int) -> Rounds:
    return lambda n: _closed([*readings(seed, names(40), n, every, disorder)], 10 * MINUTE)


def _job(
    name: str, kind: str, build: Build, result: type[Record], numbers: Numbers, rounds: Rounds, **more: Any
) -> Job:
    sources = more.pop("sources", _READINGS)
    return Job(name, kind, build, sources, result, numbers, rounds, **{"events": 100_000, "short": 4000, **more})


JOBS = {
    job.name: job
    for job in (
        _job(
            "uc1",
            "uc1",
            topologies.store,
            StoredRow,
            {},
            _windows(1, 100, 5 * SECOND),
            tolerance={"kilowatts": 2.3e-16},  # polars multiplies by 1 / 1000
            at="timestamp",
        ),
        _job(
            "uc2",
            "uc2",
            topologies.downsample,
            WindowStats,
            {"size": MINUTE, "step": MINUTE, "grace": 5 * SECOND},
            _windows(2, 100, 5 * SECOND),
            tolerance={"variance": 1e-12},
        ),
        _job("uc3", "uc3", topologies.hours, SlotStats, _UC3, _uc3, tolerance=_LOOSE, until=START + 300 * _DAY),
        _job(
            "uc4",
            "uc4",
            topologies.hierarchy,
            HierarchySum,
            _UC4,
            _uc4,
            sources={**_READINGS, "groups": Membership},
            inner={"contributions": Contribution},
            tolerance={"sum": 1e-12},
            at="window",
            until=START + _DAY,
        ),
        _job(
            "hopping",
            "uc2",
            topologies.downsample,
            WindowStats,
            _HOPPING,
            _windows(3, 20, 5 * SECOND),
            tolerance=_LOOSE,
        ),
        _job(
            "late",
            "uc2",
            topologies.downsample,
            WindowStats,
            _HOPPING,
            _windows(4, 20, 40 * SECOND),
            tolerance=_LOOSE,
            late=True,
        ),
        _job(
            "session",
            "sessions",
            topologies.sessions,
            WindowStats,
            {"gap": 5 * SECOND, "grace": 2 * SECOND},
            lambda n: _closed([*bursts(5, names(40), n, 5 * SECOND, 2 * SECOND)], 10 * MINUTE),
            tolerance=_LOOSE,
        ),
        _job("interval", "near", topologies.near, Paid, _JOIN, _sides, sources=_SIDES, at="at", until=START + _DAY),
        _job("as-of", "latest", topologies.latest, Paid, _JOIN, _sides, sources=_SIDES, at="at", until=START + _DAY),
    )
}
