"""Kafka Streams and the worker on the same topics: the same final results. ``make differential`` takes more events."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamproc.log.broker import BrokerConfig, EmbeddedBroker
from tests.differential.compare import compare
from tests.differential.jobs import JOBS
from tests.differential.kit import Place
from tests.differential.run import run

pytestmark = [pytest.mark.e2e]
LONG = os.environ.get("STREAMPROC_TEST_DIFFERENTIAL") == "long"


CHOSEN = os.environ.get("STREAMPROC_TEST_JOBS", "").split() or [*JOBS]


async def test_the_same_final_results(name: str, tmp_path: Path) -> None:
    jobs = [JOBS[each] for each in CHOSEN]
    events = {job.name: job.events if LONG else job.short for job in jobs}
    # Events have the times of their days: the log is not to delete them for that.
    with EmbeddedBroker(BrokerConfig(extra={"log.retention.ms": "-1"})) as broker:
        done = await run(Place(broker.settings, tmp_path), name, jobs, events)
    wrong = []
    for both in done:
        job = both.job
        found = compare(both.ours, both.streams, job.tolerance)
        print(
            f"{job.name}: {both.rows:,} events, {found.rows:,} results, {both.late} late; {found.inexact:,} of "
            f"{found.floats:,} floats differ, by {found.worst:.1e} at most"
        )
        wrong += [f"{job.name}: {each}" for each in found.wrong]
        if bool(both.late) != job.late:
            wrong.append(f"{job.name}: {both.late} late events")
    assert not wrong, "\n".join(wrong)
