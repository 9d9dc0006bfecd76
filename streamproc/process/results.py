"""What windows give: measures made into the columns of an aggregation's results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from streamproc.columns import Column, Columns, Longs
from streamproc.define.aggregation import Aggregation
from streamproc.log.partition import partition_of
from streamproc.process.measures import Array, Measure


class Late(NamedTuple):
    """Rows of a batch that came after the close of ``missed[i]`` of the ``of[i]`` windows that they belong to."""

    rows: Longs
    missed: Longs
    of: Longs


class Closed(NamedTuple):
    """What a batch, or the clock, brought: final results, and late rows.

    Results come window by window, and in each in the order in which their keys came: by the first pane that has them,
    and then event by event. The order is the same however the input was cut.

    Args:
        results: columns with the names of the sink's fields. A sum of ints past 64 bits is null.
        causes: int64[n], for each result the row of the batch that closed its window; of no length when the clock did.
        late: None when there are none.
        hashes: int64[n], ``murmur2(text) & 0x7fffffff`` of each result's key; None where that is not at hand.
    """

    results: Columns
    causes: Longs
    late: Late | None
    hashes: Longs | None

    def partitions(self, count: int) -> Longs:
        """int64[n]: each result's partition, by its key, in a topic of so many."""
        if self.hashes is not None:
            return self.hashes % count
        if not len(self.results):
            return np.empty(0, np.int64)
        known: dict[Any, int] = {}
        for key in (keys := self.results.values(next(iter(self.results)))):
            if key not in known:
                known[key] = partition_of(str(key).encode(), count)
        return np.array([known[key] for key in keys], np.int64)


NOTHING = np.empty(0, np.int64)


def results_of(
    definition: Aggregation, start: Longs, keys: Column, measures: Mapping[Measure, Array], rows: Array
) -> Columns:
    """The sink's columns, of windows that begin at ``start[i]`` with the key ``keys[i]`` and ``rows[i]`` events."""
    by_op = {(m.op, m.field): array for m, array in measures.items()}
    columns: dict[str, Column] = {definition.source.key or "": keys, "start": start}
    columns["end"] = start + definition.window.size
    for name, aggregate in definition.aggregates.items():
        if aggregate.kind == "count":
            columns[name] = rows
            continue
        field = aggregate.field
        if aggregate.kind in ("min", "max"):
            columns[name] = _without(_plain(by_op[aggregate.kind, field]), by_op.get(("n", field)))
            continue
        data, over = by_op["sum", field], _over(by_op, field)
        if aggregate.kind == "sum":
            columns[name] = _plain(data) if over is None else _masked(data, over != 0)
            continue
        some = by_op.get(("n", field))
        with np.errstate(invalid="ignore"):
            whole = data if over is None else data + over * 2.0**64
            mean = whole / (rows if some is None else np.maximum(some, 1))
        columns[name] = _without(_plain(mean), some)
    return Columns(columns, len(rows))


def _over(by_op: Mapping[tuple[Any, str | None], Array], field: str | None) -> Array | None:
    """How many times 2^64 the true sum of ints is above the one kept in 64 bits; None when all are exact.

    With h of every value (see ``Measure``), the true sum is off ``sum(h) * 2^32`` by at most 2^31 a row: less than half
    of 2^64 as long as there are fewer than 2^32 rows.
    """
    high = by_op.get(("high", field))
    if high is None or not high.any():
        return None
    over = np.rint(high / 2.0**32 - by_op["sum", field] / 2.0**64)
    return over if over.any() else None


def _without(data: Array, counts: Array | None) -> Column:
    """Null where nothing was counted."""
    return data if counts is None or counts.all() else _masked(data, counts == 0)


def _masked(data: Array, null: Array) -> pl.Series:
    return pl.Series(data).set(pl.Series(null), None)


def _plain(data: Array) -> Array:
    """One NaN and one zero, whatever their signs: which one a sum or a comparison leaves is up to the processor."""
    if data.dtype != np.float64:
        return data
    data = data + 0.0
    wrong = np.isnan(data)
    if wrong.any():
        data[wrong] = np.nan
    return data


def nothing(late: Late | None = None) -> Closed:
    """No results."""
    return Closed(Columns({}, 0), NOTHING, late, None)
