"""Every kind of window to test: definitions, runs with cuts and restores, and what they must equal."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from streamproc import App, hopping, session, sliding, updates
from streamproc.batch import records_of
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import CountWindow, GlobalWindow
from streamproc.process.state import binary, items
from streamproc.process.windowing import window_task
from tests.process.kit import EVERYTHING, NumberedSample, NumberedSummary, Sample, Summary, Values, _summary, batch
from tests.process.oracle import Outcome


class FinalSummary(Values):
    unit: str
    final: bool


def aggregation(
    window: Any,
    *,
    grace: int = 0,
    idle: float | None = None,
    every: int | None = None,
    numbered: bool = False,
    aggregates: Mapping[str, Any] = EVERYTHING,
) -> Aggregation:
    """Samples in windows; grace and ``every`` are in milliseconds."""
    app = App("windows")
    source = app.topic("samples", NumberedSample if numbered else Sample, key="unit", time="ts")
    emit = None if every is None else updates(every / 1000)
    record = NumberedSummary if numbered else FinalSummary if every is not None else Summary
    source.window(window, grace=grace / 1000, idle=idle, emit=emit).agg("out", record, **aggregates)
    found = app.agents["out"]
    assert isinstance(found, Aggregation)
    return found


class Run(NamedTuple):
    """What a run gave: results, which row brought each, (row, missed, of) of late rows, how many rows it keeps, which
    rows were refused and why, and which results are broken and why.
    """

    results: list[Any]
    causes: list[int]
    late: list[tuple[int, int, int]]
    rows: int
    refused: list[tuple[int, str]]
    broken: list[tuple[int, str]]


def run(
    definition: Aggregation,
    rows: Sequence[Any],
    cuts: Sequence[int] = (),
    *,
    compiled: bool = False,
    restored: Mapping[int, bool | None] | None = None,
) -> Run:
    """Feeds rows to a task, cut into batches before these rows. At those of ``restored`` its changes are taken, and
    where that says so, a new task (with kernels or without) goes on with what the changes have been so far.
    """
    task = window_task(definition, compiled)
    found = Run([], [], [], 0, [], [])
    kept: dict[bytes, bytes] = {}
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if restored is not None and start in restored:
            take_changes(task, kept)
            if (other := restored[start]) is not None:
                task = restore(definition, task.header(), kept, other)
        if start == stop:
            continue
        part = batch(rows[start:stop], start, columns=not cuts)
        closed = task.add(part, 0)
        found.broken.extend((len(found.results) + failure.row, str(failure)) for failure in closed.broken)
        if len(closed.results):
            found.results.extend(records_of(closed.results, definition.sink.record))
        for failure in closed.refused:
            offset = int(part.offsets[failure.row]) if failure.offset is None else failure.offset
            found.refused.append((offset, str(failure)))
        found.causes.extend(part.offsets[closed.causes].tolist())
        if (late := closed.late) is not None:
            found.late.extend(
                zip(part.offsets[late.rows].tolist(), late.missed.tolist(), late.of.tolist(), strict=True)
            )
    take_changes(task, kept)
    return found._replace(rows=len(kept))


def take_changes(task: Any, kept: dict[bytes, bytes]) -> int:
    """What a changelog would do; says how many rows changed."""
    changes = task.changes()
    keys, values, gone = items(changes.keys), items(changes.values), items(changes.gone)
    assert len(keys) == len(values) == len(set(keys))
    assert not set(keys) & set(gone)
    for key in gone:
        del kept[key]  # a KeyError where nothing was put
    kept.update(zip(keys, values, strict=True))
    again = task.changes()
    assert not len(again.keys)
    assert not len(again.gone)
    return len(keys)


def restore(definition: Aggregation, header: Any, kept: Mapping[bytes, bytes], compiled: bool) -> Any:
    """A new task that goes on where another one was; rows come in any order."""
    task = window_task(definition, compiled)
    rows = list(kept.items())
    random.Random(len(rows)).shuffle(rows)
    task.restore(dict(header), binary([key for key, _ in rows]), binary([value for _, value in rows]))
    return task


def wanted(rows: Sequence[Any], outcome: Outcome, record: Any) -> list[Any]:
    """The oracle's results as records."""
    found = []
    for want in outcome.results:
        summary = _summary(want.key, want.start, want.end, [rows[i] for i in want.rows])
        named = {name: getattr(summary, name) for name in summary.__struct_fields__}
        found.append(record(**named, **({"final": want.final} if record is FinalSummary else {})))
    return found


@st.composite
def windows(draw: st.DrawFn) -> Any:
    """A window of any kind, with its scale: a length that events should be spread over."""
    size = draw(st.integers(1, 40)) * draw(st.sampled_from([1, 7, 1000]))
    kind = draw(st.sampled_from(["aligned", "sliding", "session", "count", "each", "every"]))
    if kind == "aligned":
        step = draw(st.integers(1, size))
        return hopping(size / 1000, step / 1000, offset=draw(st.integers(0, step - 1)) / 1000), size
    if kind == "sliding":
        return sliding(size / 1000), size
    if kind == "session":
        return session(size / 1000), size
    ttl = draw(st.sampled_from([None, size, max(1, size // 5), 3 * size]))
    if kind == "count":
        count = draw(st.integers(1, 9))
        return CountWindow(count, draw(st.integers(1, count)), ttl), size
    if kind == "each":
        return GlobalWindow(draw(st.integers(1, 5)), None, ttl), size
    return GlobalWindow(None, size, ttl if ttl is None else max(ttl, size)), size


ZONES = ["Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe", "UTC"]
#: Local times near which days of those zones are 23, 23.5, 24.5 or 25 hours long, begin at one o'clock, or are not.
CHANGES = [1_711_846_800_000, 1_729_987_200_000, 1_541_300_400_000, 1_711_832_400_000, 1_325_239_200_000]


@st.composite
def zoned(draw: st.DrawFn) -> Any:
    size = draw(st.integers(1, 4))
    step = draw(st.integers(1, size))
    offset = draw(st.sampled_from(["0ms", "30m", "6h", "90m"]))
    return hopping(f"{size}d", f"{step}d", offset=offset, zone=draw(st.sampled_from(ZONES)))


@st.composite
def events(draw: st.DrawFn, scale: int, numbered: bool = False, start: int | None = None, most: int = 100) -> list[Any]:
    """Rising on the whole, out of order by up to about two windows; now and then a leap."""
    floats, ints = st.floats(-1e6, 1e6), st.integers(-(2**40), 2**40)
    n = draw(st.integers(1, most))
    pace = draw(st.sampled_from([0, 1, max(1, scale // 5), scale]))
    disorder = draw(st.sampled_from([0, 1, scale // 3, 2 * scale]))
    leaps = draw(st.dictionaries(st.integers(0, n), st.integers(1, 5 * scale), max_size=2))
    keys = draw(st.sampled_from([1, 3, 9]))
    now = draw(st.integers(-3 * scale, 3 * scale)) + (start or 0)
    chance = random.Random(draw(st.integers(0, 2**32)))
    rows: list[Any] = []
    for at in range(n):
        now += leaps.get(at, 0) + chance.randint(0, pace)
        nullable = (draw(ints) if chance.random() < 0.5 else None, draw(floats) if chance.random() < 0.5 else None)
        values = (now - chance.randint(0, disorder), at, chance.uniform(-1e6, 1e6), *nullable)
        key = chance.randrange(keys)
        rows.append(NumberedSample(key, *values) if numbered else Sample(f"unit-{'x' * key}{key}", *values))
    return rows
