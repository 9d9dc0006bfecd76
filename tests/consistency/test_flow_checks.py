"""The oracle of the flows gives what is computed by hand, and what the platform's own test driver gives."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from streamproc.testing import TestDriver
from tests.consistency import topology
from tests.consistency.flow_oracle import FlowOracle
from tests.consistency.flows import IDENTITY, SOURCES, Visit, topic


def settled(oracle: FlowOracle) -> dict[str, list[tuple[object, ...]]]:
    oracle.settle()
    return {sink: sorted(results.values(), key=repr) for sink, results in oracle.results.items()}


def test_pairs_windows_and_what_is_late() -> None:
    oracle = FlowOracle(1)
    for source, id, ts in (
        ("lefts", "l0", 1000),
        ("rights", "r2", 949),  # on time, but too early; alone
        ("rights", "r0", 1150),  # as late as may be
        ("rights", "r1", 950),  # as early as may be
        ("lefts", "l1", 1300),  # nobody is near
        ("rights", "r3", 3000),
        ("rights", "r4", 2799),  # later than the grace
        ("lefts", "l2", 3000),
    ):
        oracle.take(source, 0, Visit(id, "u", "s", ts, 0.5))
    assert settled(oracle) == {
        "near": [
            ("l0", "r0", "u", 1000, 0.5, 0.5),
            ("l0", "r1", "u", 1000, 0.5, 0.5),
            ("l1", None, "u", 1300, 0.5, None),
        ],
        "near-late-lefts": [],
        "near-late-rights": [("r4", "u", "s", 2799, 0.5)],
        "sites": [("s", 1000, 1500, 1, 0.5), ("s", 500, 1000, 2, 1.0)],  # sorted as texts
        "sites-late": [("r4", "u", "s", 2799, 0.5)],
    }


def test_a_run_without_faults_is_as_the_oracle_says() -> None:
    chance, app, oracle = random.Random(7), topology.build("calm", "exactly_once"), FlowOracle(topology.PARTITIONS)
    topics = {short: app.topics[topic("calm", short)] for short in SOURCES}
    with TestDriver(app) as driver:
        visits = [
            Visit(
                f"v{n}", f"u{n % 36}", f"s{chance.randrange(12)}", n * 3 - chance.choice((0, 0, 50, 150, 2000)), n / 8
            )
            for n in range(3000)
        ]
        # The last ones of each unit: all before them is over.
        visits += [Visit(f"z{n}", f"u{n}", "s0", 100_000, 0.0) for n in range(36) for _ in SOURCES]
        for n, visit in enumerate(visits):
            driver.publish(topics[SOURCES[n % 2 if n >= 3000 else chance.randrange(2)]], visit)
        driver.advance("1s")  # beats
        for record in driver.log:
            short = record.topic.removeprefix("calm-")
            if short in SOURCES:
                oracle.take(short, record.partition, record.record)  # type: ignore[arg-type]
        found: Any = {
            sink: sorted(
                (msgspec.structs.astuple(row) for row in driver.results(app.topics[topic("calm", sink)])), key=repr
            )
            for sink in IDENTITY
        }
    wanted = settled(oracle)
    assert found == wanted
    assert all(wanted.values())
