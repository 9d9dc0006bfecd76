"""The reference and the judges, on data that can be reckoned by hand, and against the slowest possible windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from streamproc.bench import check, jobs
from streamproc.bench.jobs import TRADES
from streamproc.bench.reference import PARTITION, Asked, expected
from streamproc.define.aggregates import count, maximum, mean, minimum, total
from streamproc.define.windows import AlignedWindow, SessionWindow

ASKED = Asked(
    "k",
    "t",
    AlignedWindow(6, 4),
    1,
    {"n": count(), "sum": total("x"), "mean": mean("x"), "low": minimum("y"), "high": maximum("y")},
)

SESSIONS = ASKED._replace(window=SessionWindow(9))


def sessions_by_hand(given: pl.DataFrame, asked: Asked, gap: int) -> dict[tuple[str, int], tuple[int, int, float]]:
    """End, count and sum of the closed sessions, event by event in Python."""
    held: dict[str, list[dict[str, Any]]] = {}
    for row in given.sort("k", "t", maintain_order=True).to_dicts():
        sessions = held.setdefault(row["k"], [])
        if sessions and row["t"] - sessions[-1]["last"] < gap:
            sessions[-1] |= {"last": row["t"], "n": sessions[-1]["n"] + 1, "sum": sessions[-1]["sum"] + row["x"]}
        else:
            sessions.append({"start": row["t"], "last": row["t"], "n": 1, "sum": row["x"], "of": row[PARTITION]})
    newest = dict(given.group_by(PARTITION).agg(pl.max("t")).iter_rows())
    return {
        (key, each["start"]): (each["last"] + gap, each["n"], each["sum"])
        for key, sessions in held.items()
        for each in sessions
        if each["last"] + gap + asked.grace <= newest[each["of"]]
    }


def events(rows: int = 400, keys: int = 5) -> pl.DataFrame:
    """Rows of two partitions, each key in one, with nulls in ``y``."""
    random = np.random.default_rng(7)
    key = random.integers(0, keys, rows)
    frame = pl.DataFrame(
        {
            "k": [f"key {k}" for k in key],
            "t": np.sort(1000 + random.integers(0, rows // 2, rows)),
            "x": random.random(rows) * 10.0 ** random.integers(-3, 4, rows),
            "y": [None if y < 3 else y for y in random.integers(0, 9, rows).tolist()],
            PARTITION: key % 2,
        }
    )
    return frame.sort(PARTITION, maintain_order=True)


def slowly(given: pl.DataFrame, asked: Asked) -> dict[tuple[str, int], dict[str, object]]:
    """The same windows, one by one in Python."""
    found: dict[tuple[str, int], dict[str, object]] = {}
    size, step = asked.window.size, asked.window.step
    for partition in given.partition_by(PARTITION):
        last = partition["t"].max()
        for start in range(900 // step * step, 2000, step):
            for (key,), rows in partition.filter(pl.col("t").is_between(start, start + size - 1)).group_by("k"):
                if start + size + asked.grace > last:
                    continue
                by_events, by_panes = 0.0, 0.0
                for pane in range(start, start + size, asked.window.pane):
                    inside = 0.0
                    for t, x in zip(rows["t"], rows["x"], strict=True):
                        if pane <= t < pane + asked.window.pane:
                            by_events, inside = by_events + x, inside + x
                    by_panes += inside
                ys = [y for y in rows["y"] if y is not None]
                found[str(key), start] = {
                    "n": len(rows),
                    "sum:events": by_events,
                    "sum:panes": by_panes,
                    "low": min(ys, default=None),
                    "high": max(ys, default=None),
                }
    return found


def test_windows_are_those_of_the_slow_way_to_the_bit() -> None:
    given = events()
    wanted = slowly(given, ASKED)
    found = {(row["k"], row["start"]): row for row in expected(given, ASKED).to_dicts()}
    assert found.keys() == wanted.keys()
    assert len(found) > 100
    for at, row in wanted.items():
        assert {name: found[at][name] for name in row} == row
        assert found[at]["sum"] == pytest.approx(row["sum:events"], rel=1e-12)
        assert found[at]["mean:panes"] == row["sum:panes"] / row["n"]  # type: ignore[operator]
    assert any(row["sum:events"] != row["sum:panes"] for row in wanted.values())


def test_sessions_are_those_of_the_slow_way_to_the_bit() -> None:
    given, asked = events(), SESSIONS
    wanted = sessions_by_hand(given, asked, 9)
    found = expected(given, asked)
    assert {(r["k"], r["start"]): (r["end"], r["n"], r["sum:events"]) for r in found.to_dicts()} == wanted
    assert 10 < len(wanted) < len(given) / 3
    right = found.drop("sum", "mean").rename({"sum:events": "sum", "mean:events": "mean"})
    assert check.windows(right, found, asked) == check.Verdict(len(found), bits="events")
    longer = right.with_columns(end=pl.col("end") + (pl.int_range(pl.len()) == 3))
    assert check.windows(longer, found, asked).wrong[0].startswith("end of 1 windows is wrong")


def test_events_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        expected(events().reverse(), ASKED)


def right(order: str = "panes") -> tuple[pl.DataFrame, pl.DataFrame]:
    """A reference, and results that agree with it, summed in that order."""
    reference = expected(events(), ASKED)
    found = reference.select(
        "k",
        "start",
        pl.col("start").alias("end") + 6,
        "n",
        pl.col(f"sum:{order}").alias("sum"),
        pl.col(f"mean:{order}").alias("mean"),
        "low",
        "high",
    )
    return found, reference


@pytest.mark.parametrize("order", ["panes", "events"])
def test_right_windows(order: str) -> None:
    found, reference = right(order)
    assert check.windows(found, reference, ASKED) == check.Verdict(len(found), bits=order)


def test_sums_within_the_tolerance_are_right_but_not_to_the_bit() -> None:
    found, reference = right()
    found = found.with_columns(pl.col("sum") * (1 + 1e-12))
    assert check.windows(found, reference, ASKED) == check.Verdict(len(found))


def elsewhere(frame: pl.DataFrame) -> pl.DataFrame:
    """Windows that nobody knows."""
    return frame.with_columns(pl.col("start", "end") + 4_000_000)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.slice(1), "1 windows are missing"),
        (lambda f: pl.concat([f, f.slice(3, 2)]), "2 windows came more than once"),
        (lambda f: pl.concat([f, elsewhere(f.slice(0, 1))]), "1 windows came that are not closed"),
        (lambda f: f.with_columns(end=pl.col("end") + 1), "windows end elsewhere"),
        (lambda f: f.with_columns(n=pl.col("n") + (pl.int_range(pl.len()) == 5)), "n of 1 windows is wrong"),
        (lambda f: f.with_columns(sum=pl.col("sum") * (1 + 1e-6)), "sum of"),
        (lambda f: f.with_columns(mean=pl.lit(float("nan"))), "mean of"),
        (lambda f: f.with_columns(low=pl.col("low").fill_null(0)), "low of"),
        (lambda f: f.with_columns(high=None), "high of"),
    ],
)
def test_wrong_windows(change: object, told: str) -> None:
    found, reference = right()
    verdict = check.windows(change(found), reference, ASKED)  # type: ignore[operator]
    assert [x for x in verdict.wrong if x.startswith(told)], verdict.wrong
    assert not verdict.bits


def test_what_an_engine_is_known_for_is_counted_and_not_wrong() -> None:
    found, reference = right()
    found = pl.concat([found.slice(2), elsewhere(found.slice(0, 1))])
    verdict = check.windows(found, reference, ASKED, complete=False, closed=False)
    assert (verdict.wrong, verdict.missing, verdict.beyond) == ([], 2, 1)


COUNTED = pl.DataFrame({"symbol": list("aabab"), "ts": [10, 20, 30, 40, 50]})


def told(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"symbol": pl.String, "at": pl.Int64, "n": pl.Int64}, orient="row")


def test_counts() -> None:
    assert check.counts(told(("a", 20, 2), ("b", 50, 2), ("a", 40, 3)), COUNTED, 3).wrong == []
    assert "1 counts are wrong" in check.counts(told(("a", 20, 1), ("b", 50, 2)), COUNTED, 3).wrong[0]
    assert "1 counts are wrong" in check.counts(told(("a", 21, 2), ("b", 50, 2)), COUNTED, 3).wrong[0]
    assert check.counts(told(("a", 20, 2)), COUNTED, 3).wrong == ["1 symbols were never counted"]
    assert "at most 1" in check.counts(told(("a", 20, 2), ("b", 50, 2)), COUNTED, 1).wrong[0]


def test_same_rows() -> None:
    rows = [("a", 1), ("b", 2), ("b", 2)]
    assert check.same(reversed(rows), rows).wrong == []
    assert check.same(rows[:2], rows).wrong == ["expected 3 results; got 2"]
    assert "('c', 2)" in check.same([("a", 1), ("b", 2), ("c", 2)], rows).wrong[0]


@pytest.mark.parametrize(("topology", "asked"), [("windows", TRADES), ("sessions", jobs.SESSIONS)])
def test_the_jobs_windows_are_as_the_topology_has_them(topology: str, asked: Asked) -> None:
    from streamproc.bench.topologies import build
    from streamproc.define.aggregation import Aggregation

    (found,) = build(topology, "in", "name").agents.values()
    assert isinstance(found, Aggregation)
    assert found.idle is None
    source = found.source
    assert Asked(str(source.key), str(source.time), found.window, found.grace, found.aggregates) == asked
