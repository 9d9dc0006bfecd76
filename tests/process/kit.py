"""Aggregations to test, and the plainest possible computation of what they must give."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np

from streamproc import App, Record, count, maximum, mean, minimum, total
from streamproc import compiled as kernels
from streamproc.batch import Batch, frame_of, records_of
from streamproc.define.aggregation import Aggregation
from streamproc.define.windows import AlignedWindow
from streamproc.process import engine, panes
from streamproc.process.dense import DensePanes
from streamproc.process.sparse import SparsePanes
from streamproc.process.windowing import window_task


class Sample(Record):
    unit: str
    ts: int
    i: int = 0
    f: float = 0.0
    ni: int | None = None
    nf: float | None = None


class NumberedSample(Record):
    unit: int
    ts: int
    i: int = 0
    f: float = 0.0
    ni: int | None = None
    nf: float | None = None


class Values(Record):
    """What both summaries have beside the key; never bound to a schema itself."""

    start: int
    end: int
    n: int
    i_sum: int
    i_mean: float
    i_min: int
    i_max: int
    f_sum: float
    f_mean: float
    f_min: float
    f_max: float
    ni_sum: int
    ni_mean: float | None
    ni_min: int | None
    nf_sum: float
    nf_mean: float | None
    nf_max: float | None


class Summary(Values):
    unit: str


class NumberedSummary(Values):
    unit: int


EVERYTHING = {
    "n": count(),
    "i_sum": total("i"),
    "i_mean": mean("i"),
    "i_min": minimum("i"),
    "i_max": maximum("i"),
    "f_sum": total("f"),
    "f_mean": mean("f"),
    "f_min": minimum("f"),
    "f_max": maximum("f"),
    "ni_sum": total("ni"),
    "ni_mean": mean("ni"),
    "ni_min": minimum("ni"),
    "nf_sum": total("nf"),
    "nf_mean": mean("nf"),
    "nf_max": maximum("nf"),
}


def aggregation(
    window: AlignedWindow, *, grace: float = 0, idle: float | None = None, numbered: bool = False
) -> Aggregation:
    """Every aggregate there is, over samples."""
    app = App("windows")
    source = app.topic("samples", NumberedSample if numbered else Sample, key="unit", time="ts")
    source.window(window, grace=grace, idle=idle).agg("out", NumberedSummary if numbered else Summary, **EVERYTHING)
    found = app.agents["out"]
    assert isinstance(found, Aggregation)
    return found


def batch(rows: Sequence[Any], first: int = 0, *, columns: bool = False) -> Batch:
    """Samples as a batch; row ``i`` of the partition has offset and timestamp ``i``."""
    at = np.arange(first, first + len(rows), dtype=np.int64)
    kind = type(rows[0])
    if columns:
        return Batch("samples", 0, kind, at, at, frame=frame_of(rows, kind))
    return Batch("samples", 0, kind, at, at, records=rows)


class Given(NamedTuple):
    """What a run gave: results, which row closed each, and (row, missed, of) of late rows."""

    results: list[Any]
    causes: list[int]
    late: list[tuple[int, int, int]]


#: Each way in which windows can be computed. "changing": dense and sparse panes by turns.
ENGINES = ["dense", "sparse", "changing", *(["compiled"] if kernels.available() else [])]


@contextmanager
def using(way: str) -> Iterator[None]:
    """Tasks made within compute in this way."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(engine.kernels, "available", lambda: way == "compiled"))
        if way == "sparse":
            stack.enter_context(patch.object(panes, "DensePanes", SparsePanes))
        elif way == "changing":
            stack.enter_context(patch.object(panes, "_FEW", 0))
            stack.enter_context(patch.object(panes.AdaptivePanes, "_choose", _take_turns))
        yield


def _take_turns(self: panes.AdaptivePanes, _: Any, keys: int) -> None:
    kind = SparsePanes if isinstance(self.form, DensePanes) else DensePanes
    self._change(kind(self.measures, self._length), keys)


def run(definition: Aggregation, rows: Sequence[Any], cuts: Sequence[int] = ()) -> Given:
    """Feeds rows to a task, cut into batches before these rows."""
    task = window_task(definition)
    given = Given([], [], [])
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        if start == stop:
            continue
        part = batch(rows[start:stop], start, columns=not cuts)
        closed = task.add(part, 0)
        if len(closed.results):
            given.results.extend(records_of(closed.results, definition.sink.record))
        given.causes.extend(part.offsets[closed.causes].tolist())
        if closed.late is not None:
            late = closed.late
            given.late.extend(
                zip(part.offsets[late.rows].tolist(), late.missed.tolist(), late.of.tolist(), strict=True)
            )
    return given


def expected(rows: Sequence[Any], window: AlignedWindow, grace: int) -> Given:
    """The same by the definition: row by row, and window by window."""
    size, step = window.size, window.step
    held: dict[int, dict[Any, list[Any]]] = {}  # by window start and key
    given = Given([], [], [])
    now = -math.inf
    for at, row in enumerate(rows):
        now = max(now, row.ts)
        starts = [s for s in range(row.ts // step * step, row.ts - size, -step) if s <= row.ts < s + size]
        shut = [s for s in starts if now >= s + size + grace]
        if shut:
            given.late.append((at, len(shut), len(starts)))
        for start in set(starts) - set(shut):
            held.setdefault(start, {}).setdefault(row.unit, []).append((at, row))
        for start in sorted(s for s in held if now >= s + size + grace):
            for key, members in _as_they_came(held.pop(start), window.pane):
                given.results.append(_summary(key, start, start + size, members))
                given.causes.append(at)
    return given


def _as_they_came(held: dict[Any, list[Any]], pane: int) -> list[tuple[Any, list[Any]]]:
    """By the first pane that has a key, and then by its first event there."""
    first = {key: min((row.ts // pane, i) for i, row in members) for key, members in held.items()}
    return [(key, [row for _, row in held[key]]) for key in sorted(held, key=first.__getitem__)]


def _summary(key: Any, start: int, end: int, rows: list[Any]) -> Any:
    i, f = [r.i for r in rows], [r.f for r in rows]
    ni, nf = [r.ni for r in rows if r.ni is not None], [r.nf for r in rows if r.nf is not None]
    values = {
        "n": len(rows),
        "i_sum": _in_64_bits(sum(i)),
        "i_mean": sum(i) / len(i),
        "i_min": min(i),
        "i_max": max(i),
        "f_sum": sum(f),
        "f_mean": sum(f) / len(f),
        "f_min": _least(f),
        "f_max": -_least([-x for x in f]),
        "ni_sum": _in_64_bits(sum(ni)),
        "ni_mean": sum(ni) / len(ni) if ni else None,
        "ni_min": min(ni) if ni else None,
        "nf_sum": sum(nf, 0.0),
        "nf_mean": sum(nf) / len(nf) if nf else None,
        "nf_max": -_least([-x for x in nf]) if nf else None,
    }
    return (NumberedSummary if isinstance(key, int) else Summary)(unit=key, start=start, end=end, **values)


def _in_64_bits(number: int) -> int | None:
    return number if -(2**63) <= number < 2**63 else None


def _least(numbers: list[float]) -> float:
    return math.nan if any(map(math.isnan, numbers)) else min(numbers)


def bits(record: Any) -> list[Any]:
    """A record's values, such that equal means equal to the bit."""
    values = msgspec.structs.astuple(record)
    return [struct.pack(">d", value) if isinstance(value, float) else value for value in values]


def close(got: Any, want: Any, slack: float) -> bool:
    """Whether two results are equal, floats to within ``slack`` and rounding; NaN equals NaN."""
    return all(
        (a == b)
        or (isinstance(a, float) and isinstance(b, float) and (math.isnan(a) and math.isnan(b)))
        or (isinstance(a, float) and abs(a - b) <= slack + 1e-15 * abs(b))
        for a, b in zip(msgspec.structs.astuple(got), msgspec.structs.astuple(want), strict=True)
    )
