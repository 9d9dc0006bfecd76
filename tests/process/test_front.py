"""Which fields of its topics a stage reads, and that it gives the same with no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from streamproc import App, Record, count, merge, total, tumbling
from streamproc.batch import Batch, frame_of
from streamproc.columns import Columns
from streamproc.process.front import Front, fields_read, merged


class WideRow(Record):
    id: str
    card: str
    at: int
    amount: float
    note: str | None
    place: str
    many: list[int]


class WidePart(Record):
    card: str
    amount: float


class WideMoved(Record):
    place: str
    at: int


class WideHour(Record):
    card: str
    start: int
    end: int
    n: int
    amount: float


ROWS = [WideRow(f"id{i}", f"c{i % 3}", 1000 * i, i / 2, None if i % 4 else "n", "here", [i]) for i in range(40)]


def stages(name: str) -> Any:
    """A stage over wide rows, and its topic."""
    app = App("front")
    wide = app.topic("wide", WideRow, key="card", time="at")
    other = app.topic("other", WideRow, key="card", time="at")
    hours = {"n": count(), "amount": total("amount")}
    flows = {
        "narrow": lambda: wide.where(pl.col("note").is_null()).to("out", WidePart),
        "made": lambda: wide.with_columns(amount=pl.col("at") * 0.5).to("out", WidePart),
        "mapped": lambda: wide.map(WidePart, lambda row: WidePart(row.card, row.amount)).to("out", WidePart),
        "whole": lambda: wide.where(pl.col("amount") > 3).to("out", WideRow),
        "distinct": lambda: wide.deduplicate("id", within="1h").to("out", WidePart),
        "merged": lambda: merge(wide, other.where(pl.col("place") == "here")).to("out", WidePart, grace="1s"),
        "windows": lambda: merge(wide, other).window(tumbling("1h")).agg("out", WideHour, **hours),
        "filtered windows": lambda: (
            wide.where(pl.col("place") == "here").window(tumbling("1h")).agg("out", WideHour, **hours)
        ),
        "rekeyed": lambda: wide.rekey("place", WideMoved).to("out", WideMoved),
        "joined": lambda: (
            wide.select("card", "at", "amount").as_of(other.select("card", "at", "place")).to("out", WidePart)
        ),
        "joined whole": lambda: wide.select("id", "card", "at", "amount").as_of(other, how="left").to("out", WidePart),
    }
    flows[name]()
    (stage,) = [stage for stage in app.agents.values() if wide in stage.sources]
    return stage, wide, other


EVENT = {"card", "at", "amount"}


@pytest.mark.parametrize(
    ("name", "wide", "other"),
    [
        ("narrow", {*EVENT, "note"}, set()),
        ("made", {"card", "at"}, set()),
        ("mapped", None, set()),
        ("whole", None, set()),
        ("distinct", {*EVENT, "id"}, set()),
        ("merged", EVENT, {*EVENT, "place"}),
        ("windows", EVENT, EVENT),
        ("filtered windows", {*EVENT, "place"}, set()),
        ("rekeyed", {"at", "place"}, set()),
        ("joined", EVENT, {"card", "at", "place"}),
        ("joined whole", {*EVENT, "id"}, None),
    ],
)
def test_the_fields_that_a_stage_reads(name: str, wide: set[str] | None, other: set[str] | None) -> None:
    stage, ours, theirs = stages(name)
    assert fields_read(stage, ours) == wide
    assert fields_read(stage, theirs) == other


def held(topic: Any, rows: list[WideRow], how: str, names: Any) -> Batch:
    """Rows as a worker has them: as records, as all columns, or as those only that are asked for."""
    at = np.arange(len(rows), dtype=np.int64)
    if how == "records":
        return Batch(topic.name, 0, WideRow, at, at, records=rows)
    frame = frame_of(rows, WideRow)
    return Batch(topic.name, 0, WideRow, at, at, frame=frame if how == "all" or names is None else frame.select(names))


def values(columns: Columns) -> dict[str, list[Any]]:
    return {name: columns.values(name) for name in columns}


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("name", ["narrow", "made", "mapped", "whole", "distinct", "filtered windows", "rekeyed"])
def test_a_stage_gives_the_same_with_no_others(name: str, n: int) -> None:
    found = []
    for how in ("records", "all", "asked"):
        stage, wide, _ = stages(name)
        batch = held(wide, ROWS[:n], how, fields_read(stage, wide))
        step = Front(stage, lambda topic: 0).step(0, batch)
        assert not step.failed
        found.append((values(step.events.columns), step.events.times.tolist(), step.rows.tolist()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["merged", "windows"])
def test_rows_wait_with_what_is_read_only(name: str) -> None:
    """Batches that have all columns, and batches that have some, are put in one order."""
    stage, wide, other = stages(name)
    front = Front(stage, lambda topic: 0)
    for number, topic in enumerate((wide, other)):
        begin = 0
        for how, stop in (("all", 10), ("asked", 25), ("records", 40)):
            batch = held(topic, ROWS[begin:stop], how, fields_read(stage, topic))
            batch.offsets += begin
            front.add(number, batch, front.step(number, batch))
            begin = stop
    released = front.release()
    assert released is not None
    assert set(merged(released)) == EVENT
    assert merged(released).values("amount")[:6] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]


def test_a_record_alone_is_not_made_columns_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, wide, _ = stages("narrow")
    batch = held(wide, ROWS[:1], "records", None)
    asked: list[str] = []
    column = Batch.column
    monkeypatch.setattr(Batch, "column", lambda self, name: asked.append(name) or column(self, name))
    monkeypatch.setattr(Batch, "held", lambda self: pytest.fail("all columns were made"))
    Front(stage, lambda topic: 0).step(0, batch)
    assert sorted(asked) == ["amount", "at", "card", "note"]
