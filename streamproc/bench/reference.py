"""What windows and joins must be, computed from the input as it lies in Kafka, by polars and numpy and none of our own
code.

Floats are added in three ways: by polars (in no order), one after the other in event order, and pane by pane (a pane is
``gcd(size, step)`` long), the panes then in their order, as this platform promises. The last two can be compared to the
bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.define.aggregates import Aggregate
from streamproc.define.windows import AlignedWindow, SessionWindow

PARTITION = "_partition"
ORDERS = ("panes", "events")  # of addition; where both are equal, it is as promised
Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Asked(NamedTuple):
    """The windows of a job: what an aggregation says, without its topology."""

    key: str
    time: str
    window: AlignedWindow | SessionWindow
    grace: int
    aggregates: dict[str, Aggregate]

    @property
    def sums(self) -> dict[str, Aggregate]:
        """Those whose last bits depend on the order of addition. Their fields hold no nulls."""
        return {name: x for name, x in self.aggregates.items() if x.kind in ("sum", "mean")}


def expected(events: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """The windows that close in the course of ``events``, which are in order per partition (see :data:`PARTITION`):
    key, ``start``, the aggregates, and of each in ``sums`` also ``<name>:events`` and ``<name>:panes``. Sessions have
    an ``end`` and no panes.

    Raises:
        ValueError: an event is earlier than one before it in its partition: it would have to be judged as late.
    """
    if isinstance(asked.window, SessionWindow):
        return _sessions(events, asked, asked.window.gap)
    window, ends = asked.window, _ends(events, asked)
    names = events[asked.key].unique().sort()
    codes = events[asked.key].rank("dense").to_numpy().astype(np.int64) - 1
    times = events[asked.time].to_numpy()
    ids, rows = _in_windows(codes, times, window)
    known, places = _numbered(ids)
    fields = sorted({x.field for x in asked.aggregates.values() if x.field})
    many = events.select(PARTITION, *fields)[rows].with_columns(_place=places)
    values = {name: _value(aggregate) for name, aggregate in asked.aggregates.items()}
    windows = many.group_by("_place").agg(pl.first(PARTITION), **values).sort("_place")
    windows = windows.select(
        names[known >> _BITS], pl.Series("start", (known & _NUMBER) * window.step), PARTITION, *values
    )
    for field in sorted({str(x.field) for x in asked.sums.values()}):
        data = events[field].to_numpy().astype(np.float64)
        sums = {"events": np.bincount(places, data[rows]), "panes": _by_panes(known, codes, times, data, window)}
        for name, aggregate in asked.sums.items():
            by = np.bincount(places) if aggregate.kind == "mean" else 1
            if aggregate.field == field:
                windows = windows.with_columns(**{f"{name}:{order}": sums[order] / by for order in ORDERS})
    closed = pl.col("start") + window.size + asked.grace <= pl.col("last")
    return windows.join(ends, on=PARTITION).filter(closed).drop("last", PARTITION)


def _ends(events: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """Each partition's last event time."""
    ends = events.group_by(PARTITION).agg(
        last=pl.col(asked.time).max(), ordered=(pl.col(asked.time).diff().fill_null(0) >= 0).all()
    )
    if not ends["ordered"].all():
        raise ValueError("expected events in the order of their times")
    return ends.drop("ordered")


def _sessions(events: pl.DataFrame, asked: Asked, gap: int) -> pl.DataFrame:
    key, time = asked.key, asked.time
    rows = events.sort(key, time, maintain_order=True).with_columns(
        _session=((pl.col(time).diff().over(key).fill_null(gap)) >= gap).cum_sum()
    )
    values = {name: _value(aggregate) for name, aggregate in asked.aggregates.items()}
    sessions = rows.group_by("_session").agg(
        pl.first(key), pl.min(time).alias("start"), (pl.max(time) + gap).alias("end"), pl.first(PARTITION), **values
    )
    sessions = sessions.sort("_session")
    places = rows["_session"].to_numpy() - 1
    for name, aggregate in asked.sums.items():
        by = np.bincount(places) if aggregate.kind == "mean" else 1
        summed = np.bincount(places, rows[str(aggregate.field)].to_numpy().astype(np.float64)) / by
        sessions = sessions.with_columns(pl.Series(f"{name}:events", summed))
    closed = pl.col("end") + asked.grace <= pl.col("last")
    return sessions.join(_ends(events, asked), on=PARTITION).filter(closed).drop("last", PARTITION, "_session")


def _value(aggregate: Aggregate) -> pl.Expr:
    if aggregate.field is None:
        return pl.len().cast(pl.Int64)
    functions = {"sum": pl.sum, "mean": pl.mean, "min": pl.min, "max": pl.max}
    return functions[aggregate.kind](aggregate.field)


_BITS = 42  # of an id: the number of the window or pane; what is above is the key's code
_NUMBER = (1 << _BITS) - 1


def _in_windows(codes: Longs, times: Longs, window: AlignedWindow) -> tuple[Longs, Longs]:
    """An id for each row and window that it is in, and the row. The same window's rows stay in the order of their
    times.
    """
    newest, rows = times // window.step, np.arange(len(times))
    ids, places = [], []
    for back in range(-(-window.size // window.step)):
        inside = times - (newest - back) * window.step < window.size
        ids.append((codes[inside] << _BITS) + newest[inside] - back)
        places.append(rows[inside])
    return np.concatenate(ids), np.concatenate(places)


def _numbered(ids: Longs) -> tuple[Longs, Longs]:
    """The different ids, ascending, and the place of each row's id among them."""
    order = np.argsort(ids, kind="stable")
    ascending = ids[order]
    new = np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 1))
    places = np.empty(len(ids), np.int64)
    places[order] = np.repeat(np.arange(len(new)), np.diff(new, append=len(ids)))
    return ascending[new], places


def _by_panes(known: Longs, codes: Longs, times: Longs, values: Doubles, window: AlignedWindow) -> Doubles:
    """Each window's sum: its panes' sums, one after the other. ``known`` are the windows' ids."""
    pane = window.pane
    panes, place = _numbered((codes << _BITS) + times // pane)
    sums = np.bincount(place, values)
    ids, rows = _in_windows(panes >> _BITS, (panes & _NUMBER) * pane, window)
    # The same windows: each has a pane for each of its events, and no others.
    again, places = _numbered(ids)
    assert np.array_equal(again, known)
    return np.bincount(places, sums[rows]).astype(np.float64)
