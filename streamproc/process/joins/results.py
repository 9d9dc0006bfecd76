"""Results of joins: which names their columns have, and rows of the left input with what they met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamproc.columns import Column, Columns, Longs
from streamproc.define.joined import right_names
from streamproc.define.operators import Join
from streamproc.define.pipeline import Pipeline
from streamproc.process.events import Events
from streamproc.process.joins.pool import nulls
from streamproc.process.joins.store import Pool


class Met(NamedTuple):
    """The rows of one input that others meet: what to pick from, and which of its rows each of them meets; -1: none."""

    pool: Pool
    rows: Longs

    def take(self, rows: Longs) -> Met:
        """Of some of the others."""
        return Met(self.pool, self.rows[rows])

    def latest(self, stamps: Longs) -> Longs:
        """The later stamp of each pair."""
        if not len(self.pool.stamps):
            return stamps
        return np.where(self.rows >= 0, np.maximum(stamps, self.pool.stamps[self.rows]), stamps)


class ResultForm:
    """The columns of a join's results: left's, then right's without its key, whose names get a suffix where they
    clash.

    Attributes:
        names: per input, what its fields are called in results.
    """

    def __init__(self, definition: Pipeline) -> None:
        left, right = definition.inputs
        assert isinstance(definition.operator, Join)
        theirs = right_names(left, right, definition.operator.suffix)
        self.names: tuple[dict[str, str], dict[str, str]] = {name: name for name in left.fields}, theirs
        self._types = [source.fields for source in (left, right)]

    def picked(self, number: int, met: Met) -> dict[str, Column]:
        """An input's columns, but for its key."""
        return {self.names[number][name]: column for name, column in met.pool.take(met.rows).items()}

    def events(self, columns: Mapping[str, Column], times: Longs, stamps: Longs) -> Events:
        """Results of these columns, in their order."""
        in_order = {out: columns[out] for names in self.names for out in names.values()}
        return Events(Columns(in_order, len(times)), times, stamps)

    def attached(self, left: Events, met: Met, how: str) -> Events:
        """Left rows with what they met; of an inner join only those that met something."""
        if how == "inner" and not (met.rows >= 0).all():
            rows = np.flatnonzero(met.rows >= 0)
            left, met = left.take(rows), met.take(rows)
        columns = {out: left.columns[name] for name, out in self.names[0].items()}
        return self.events({**columns, **self.picked(1, met)}, left.times, met.latest(left.stamps))

    def nothing(self) -> Events:
        """No results."""
        none = np.empty(0, np.int64)
        columns = {
            out: nulls(types[name].type, 0)
            for names, types in zip(self.names, self._types, strict=True)
            for name, out in names.items()
        }
        return Events(Columns(columns, 0), none, none)
