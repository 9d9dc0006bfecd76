"""What windows give: measures made into the columns of an aggregation's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamproc.columns import Column, Columns, Longs
from streamproc.define.aggregation import Aggregation
from streamproc.log.partition import partition_of
from streamproc.process.accumulators.own import Failure
from streamproc.process.accumulators.simple import column_of
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
        refused: rows of the batch that a class of one's own did not take, by row; of sliding windows events, by their
            offsets, in the order of the windows that were told about.
        broken: results that a class of one's own did not give, by their row in ``results``; null there.
    """

    results: Columns
    causes: Longs
    late: Late | None
    hashes: Longs | None
    refused: Sequence[Failure] = ()
    broken: Sequence[Failure] = ()

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
    definition: Aggregation,
    start: Longs,
    end: Longs,
    keys: Column,
    measures: Mapping[Measure, Array],
    rows: Array,
    beside: Mapping[str, Column] | None = None,
) -> Columns:
    """The sink's columns, of windows ``[start[i], end[i])`` with the key ``keys[i]`` and ``rows[i]`` events. ``beside``
    has results that are had otherwise, by name.
    """
    columns: dict[str, Column] = {definition.key: keys, "start": start, "end": end}
    kept = {(m.op, m.field): array for m, array in measures.items()}
    for name, aggregate in definition.aggregates.items():
        found = (beside or {}).get(name)
        columns[name] = column_of(aggregate, kept, rows, end - start) if found is None else found
    return Columns(columns, len(rows))


def nothing(late: Late | None = None) -> Closed:
    """No results."""
    return Closed(Columns({}, 0), NOTHING, late, None)
