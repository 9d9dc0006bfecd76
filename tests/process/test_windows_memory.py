"""What windows hold on to: keys, panes, and nothing for what is gone or absurd."""

from __future__ import annotations

import pytest

from streamproc import hopping, tumbling
from streamproc.process.windowing import window_task
from tests.process.kit import NumberedSample, Sample, aggregation, batch, expected, run

pytestmark = pytest.mark.usefixtures("engine")


def test_keys_that_have_gone_are_forgotten():
    """Every window has 5,000 keys of its own, as sessions would."""
    definition = aggregation(tumbling("1s"))
    task = window_task(definition)
    given = 0
    for window in range(10):
        rows = [Sample(f"session-{window}-{i}", window * 1000 + i % 1000) for i in range(5000)]
        given += len(task.add(batch(rows, columns=True), 0).results)
        assert task.keys <= 10_000
        assert task._panes.nbytes <= 15_000 * 3 * 8 * 20
    assert given == 9 * 5000
    given += len(task.add(batch([Sample("last", 60_000)]), 0).results)
    assert given == 10 * 5000
    assert task.keys == 1


def test_keys_that_stay_are_kept_and_right():
    """4,500 keys in every window, and as many that come once: results as by the definition."""
    rows = [
        NumberedSample(key, window * 1000 + 500, i=key)
        for window in range(3)
        for key in (*range(4500), *range(10_000 * (window + 1), 10_000 * (window + 1) + 4500))
    ]
    rows.append(NumberedSample(0, 10_000))
    got = run(aggregation(tumbling("1s"), numbered=True), rows, cuts=range(1000, len(rows), 1000))
    want = expected(rows, tumbling("1s"), 0)
    assert [(r.unit, r.start, r.n, r.i_sum) for r in got.results] == [
        (r.unit, r.start, r.n, r.i_sum) for r in want.results
    ]


def test_the_keys_of_late_events_are_not_held():
    """After an outlier far ahead everything is late; that must not cost memory for ever."""
    task = window_task(aggregation(tumbling("1s")))
    task.add(batch([Sample("a", 10**13)]), 0)
    for part in range(10):
        closed = task.add(batch([Sample(f"late-{part}-{i}", i) for i in range(1000)]), 0)
        assert closed.late is not None
        assert len(closed.late.rows) == 1000
    assert (task.keys, task.open_panes) == (1, 1)


def test_an_outlier_far_ahead_closes_what_is_open_and_no_more():
    given = run(aggregation(hopping("1m", "10s")), [Sample("a", 0), Sample("a", 10**15), Sample("a", 10**15 + 70_000)])
    assert len(given.results) == 12  # six windows each, for the two that are over; none for the ages between
    assert [r.start for r in given.results[5:7]] == [0, 10**15 - 50_000]


@pytest.mark.parametrize("far", [2**63 - 1, 2**62, -(2**63), -(2**62)])
def test_times_at_the_edge_of_64_bits(far: int):
    """They are no instants of ours, but somebody will send them: nobody else's windows may suffer beyond lateness."""
    rows = [Sample("a", 0), Sample("b", far), Sample("a", 1), Sample("a", 70_000), Sample("a", 2)]
    given = run(aggregation(hopping("1m", "10s"), grace=1), rows)
    cut = run(aggregation(hopping("1m", "10s"), grace=1), rows, cuts=range(1, len(rows)))
    assert given == cut
    assert {r.unit for r in given.results} == {"a"}
    assert sum(r.n for r in given.results if r.start == 0) == (1 if far > 0 else 2)


def test_sizes_without_a_common_measure():
    """An hour by 1001 ms has panes of one millisecond: 3.6 million in each window."""
    window = hopping("1h", "1001ms")
    assert window.pane == 1
    rows = [Sample("a", 0), Sample("a", 3_599_999), Sample("a", 3_700_000)]
    given = run(aggregation(window), rows)
    assert next(r for r in given.results if r.start == 0).n == 2
    assert given.results == expected(rows, window, 0).results


def test_a_state_without_open_windows_is_empty():
    task = window_task(aggregation(hopping("1m", "10s"), idle=1))
    task.add(batch([Sample(f"{i}", i) for i in range(100_000)], columns=True), 0)
    task.advance(10**9)
    assert (task.keys, task.open_panes) == (0, 0)
