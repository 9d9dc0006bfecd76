"""The jobs and what compares them, without Kafka Streams: that is ``make differential``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

from streamproc.define.app import App
from tests.differential.__main__ import compared
from tests.differential.compare import compare
from tests.differential.inputs import names
from tests.differential.jobs import JOBS, Job
from tests.differential.records import GroupSum
from tests.differential.run import Both

ROWS = [GroupSum("a", 0, 10, 2, 0.3), GroupSum("a", 10, 20, 1, 1.0), GroupSum("b", 0, 10, 1, -1.0)]
SUMS = {"sum": 1e-12}


def changed(row: int, **values: object) -> list[GroupSum]:
    """The rows, one of them otherwise."""
    return [msgspec.structs.replace(r, **values) if n == row else r for n, r in enumerate(ROWS)]


def test_rows_in_any_order_are_the_same() -> None:
    found = compare(ROWS, ROWS[::-1], SUMS)
    assert (found.wrong, found.rows, found.floats, found.inexact) == ([], 3, 3, 0)


def test_last_bits_may_differ_where_it_is_said() -> None:
    other = changed(0, sum=0.1 + 0.2)
    assert compare(ROWS, other, {}).wrong
    found = compare(ROWS, other, SUMS)
    assert (found.wrong, found.inexact) == ([], 1)
    assert 0 < found.worst < 1e-15


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (ROWS[1:], "only ours: 1"),
        ([*ROWS, ROWS[0]], "only of Kafka Streams: 1"),
        (changed(1, n=2), "only ours: 1"),
        (changed(2, start=1), "only ours: 1"),
        (changed(1, sum=1.0 + 1e-9), "sum: ours 1.0"),
        (changed(1, sum=float("nan")), "sum: ours 1.0"),
        ([], "3 results of ours, 0 of Kafka Streams"),
    ],
)
def test_what_differs_is_told(other: Sequence[GroupSum], told: str) -> None:
    assert compare(ROWS, other, SUMS).wrong[0].startswith(told)


def test_late_events_and_dead_letters_are_told() -> None:
    job = JOBS["uc4"]
    both = Both(job, App("x"), {}, (), ours=ROWS, streams=ROWS, late=2, letters=1)
    assert compared(both).wrong == ["2 late events", "1 dead letters"]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_jobs_can_be_written(job: Job) -> None:
    app = job.build("name", job.numbers)
    assert app.topics["name-out"].record is job.result
    assert {f"name-{short}" for short in job.sources} <= app.topics.keys()


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_disorder_is_within_grace_unless_it_must_not_be(job: Job) -> None:
    """Of each topic and partition in which Kafka would have it, all rounds one after the other."""
    from streamproc.log.partition import partition_of

    topics, worst = job.build("name", job.numbers).topics, 0
    newest: defaultdict[tuple[str, int], int] = defaultdict(int)
    for published in job.rounds(1000):
        for short, row in published:
            topic = topics[f"name-{short}"]
            at = (short, partition_of(str(row[str(topic.key)]).encode(), topic.partitions))
            time = int(str(row[str(topic.time)]))
            worst = max(worst, newest[at] - time)
            newest[at] = max(newest[at], time)
    grace = job.numbers.get("grace", worst)
    assert worst > grace if job.late else 0 < worst <= grace


def test_every_partition_has_names() -> None:
    with pytest.raises(AssertionError):
        names(2)
