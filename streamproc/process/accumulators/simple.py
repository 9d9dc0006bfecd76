"""Counts, sums, means, extremes and rates: of measures, whoever keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from streamproc.columns import Column, Longs
from streamproc.define.aggregates import Aggregate
from streamproc.process.measures import Array, Measure, quiet

ByOp = Mapping[tuple[Any, str | None], Array]


def by_op(measures: Mapping[Measure, Array]) -> ByOp:
    return {(m.op, m.field): array for m, array in measures.items()}


def column_of(aggregate: Aggregate, kept: ByOp, rows: Longs, lengths: int | Longs | None) -> Column:
    """One aggregate of windows with ``rows[i]`` events that are ``lengths`` milliseconds long."""
    kind, field = aggregate.kind, aggregate.field
    some = kept.get(("n", field))
    if kind == "count":
        return rows
    if kind == "min" or kind == "max":
        return without(plain(kept[kind, field]), some)
    if kind == "range":
        return without(plain(_range(kept["min", field], kept["max", field])), some)
    if kind == "rate":
        assert lengths is not None  # Windowed.agg has checked
        return plain(_rate(rows if field is None else _whole(kept, field), aggregate.option("per"), lengths))
    data, over = kept["sum", field], _over(kept, field)
    if kind == "sum":
        return plain(data) if over is None else masked(data, over != 0)
    with quiet():
        mean = _whole(kept, field) / (rows if some is None else np.maximum(some, 1))
    return without(plain(mean), some)


def _range(low: Array, high: Array) -> Array:
    with quiet():
        if low.dtype == np.int64:  # of both ends of 64 bits, too
            return (high.view(np.uint64) - low.view(np.uint64)).astype(np.float64)
        return high - low


def _rate(amount: Array, per: int, lengths: int | Longs) -> Array:
    with quiet():
        found: Array = amount.astype(np.float64) * per / lengths
    return found


def _whole(kept: ByOp, field: str | None) -> Array:
    """A sum, of ints too where that takes more than 64 bits."""
    data, over = kept["sum", field], _over(kept, field)
    with quiet():
        return data if over is None else data + over * 2.0**64


def _over(kept: ByOp, field: str | None) -> Array | None:
    """How many times 2^64 the true sum of ints is above the one kept in 64 bits; None when all are exact.

    With h of every value (see ``Measure``), the true sum is off ``sum(h) * 2^32`` by at most 2^31 a row: less than half
    of 2^64 as long as there are fewer than 2^32 rows.
    """
    high = kept.get(("high", field))
    if high is None or not high.any():
        return None
    over = np.rint(high / 2.0**32 - kept["sum", field] / 2.0**64)
    return over if over.any() else None


def without(data: Array, counts: Array | None) -> Column:
    """Null where nothing was counted."""
    return data if counts is None or counts.all() else masked(data, counts == 0)


def masked(data: Array, null: Array) -> pl.Series:
    """Null in these rows."""
    return pl.Series(data).set(pl.Series(null), None)


def plain(data: Array) -> Array:
    """One NaN and one zero, whatever their signs: which one a sum or a comparison leaves is up to the processor."""
    if data.dtype != np.float64:
        return data
    data = data + 0.0
    wrong = np.isnan(data)
    if wrong.any():
        data[wrong] = np.nan
    return data
