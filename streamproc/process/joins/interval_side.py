"""The rows of one side of an interval join that may still match, in the order of the sequence.

Rows are numbered as they come, 0, 1, 2 …, and go in that order: their times do not fall, and a row goes once no time of
the other side that is still to come is near enough. So the rows that are kept are a range of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamproc.columns import Columns, Longs
from streamproc.define.fields import Field
from streamproc.process.joins.interval_columns import LEAST, Mask, kept_column, moved

_SPARE = 8  # times as much room as there are rows is too much


class Side:
    """Rows ``[first, end)``, of which ``[0, first)`` are gone.

    Args:
        fields: what is kept of rows beside their key.
        reach: ms; a row may match until then after its time.
        alone: whether rows that match nothing are results.

    Attributes:
        origin: the number of the row at index 0 of the arrays.
        times, stamps, codes: int64[room]; the code of a null key is -1.
        matched: bool[room], whether a row has matched, False behind all rows; None where that does not matter.
    """

    def __init__(self, fields: Mapping[str, Field], *, reach: int, alone: bool, compiled: bool) -> None:
        self.reach = reach
        self.origin = self.first = self.end = 0
        self.times, self.stamps = np.zeros(LEAST, np.int64), np.zeros(LEAST, np.int64)
        self.codes = np.zeros(LEAST, np.int64)
        self.matched: Mask | None = np.zeros(LEAST, np.bool_) if alone else None
        self.columns = {name: kept_column(field, compiled) for name, field in fields.items()}

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def room(self) -> int:
        return len(self.times)

    @property
    def live(self) -> slice:
        """The indices of all rows."""
        return slice(self.first - self.origin, self.end - self.origin)

    def append(self, times: Longs, stamps: Longs, codes: Longs, columns: Columns) -> None:
        """Takes rows behind all others."""
        at = self.end - self.origin
        if at + len(times) > self.room:
            self._fit(2 * (len(self) + len(times)))
            at = self.end - self.origin
        stop = at + len(times)
        self.times[at:stop], self.stamps[at:stop], self.codes[at:stop] = times, stamps, codes
        for name, column in self.columns.items():
            column.put(at, columns[name])
        self.end += len(times)

    def over(self, frontier: int) -> int:
        """The number of the first row that may still match, or be a result of its own, from this time on."""
        return self.first + int(np.searchsorted(self.times[self.live], frontier - self.reach))

    def alone(self, start: int, stop: int) -> Longs:
        """Those of rows ``[start, stop)`` that have matched nothing and are results."""
        if self.matched is None:
            return np.empty(0, np.int64)
        return start + np.flatnonzero(~self.matched[start - self.origin : stop - self.origin])

    def drop(self, first: int) -> None:
        """The rows before this number are gone."""
        self.first = first
        if self.room > _SPARE * max(len(self), LEAST):
            self._fit(2 * max(len(self), LEAST))

    def begin(self, number: int) -> None:
        """Numbers start here; while there are no rows."""
        self.origin = self.first = self.end = number

    def _fit(self, room: int) -> None:
        start, stop = self.live.start, self.live.stop
        self.times, self.stamps, self.codes = (
            moved(array, start, stop, room) for array in (self.times, self.stamps, self.codes)
        )
        if self.matched is not None:
            self.matched = moved(self.matched, start, stop, room)
        for column in self.columns.values():
            column.fit(start, stop, room)
        self.origin = self.first
