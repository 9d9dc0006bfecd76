"""Where aligned windows lie: event times to places on a line on which window ``w`` is ``[w * step, w * step + size)``,
and back.

Without a time zone a place is the time less the window's offset. With one, days are as long as they are there (23, 24
and 25 hours, and none where a zone skipped one): a place is the number of the day times 86,400,000, and how far into
the day a time is, at most a day less a millisecond. So places never go down as times go up.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from streamproc.columns import Longs
from streamproc.define.windows import AlignedWindow

DAY = 86_400_000
_YEARS = range(3, 9998)  # whose neighbours datetime knows, too
_KEPT = 64  # years whose days are kept at hand; events of one stream are seldom of more than two
_EPOCH = datetime(1970, 1, 1)
_FIRST, _LAST = ((datetime(year, 1, 1) - _EPOCH).days for year in (_YEARS.start, _YEARS.stop))


class Grid(Protocol):
    def places(self, times: Longs) -> Longs:
        """int64[n]: where these times lie."""

    def instants(self, places: Longs) -> Longs:
        """int64[n]: when windows begin that begin at these places, or end that end there."""


class Plain:
    """Windows of one length, ``offset`` milliseconds later than the epoch."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def places(self, times: Longs) -> Longs:
        return times - self._offset if self._offset else times

    def instants(self, places: Longs) -> Longs:
        return places + self._offset


class Days:
    """Days of a time zone that begin when its clock says ``offset`` milliseconds past midnight.

    Where the clock leaps over that moment, they begin as much later as it leaps (as if it had not yet: RFC 5545,
    3.3.5); where it says it twice, at the first time. Before the year 3 and after 9997 days have 24 hours.
    """

    def __init__(self, zone: str, offset: int) -> None:
        self._zone, self._offset = ZoneInfo(zone), timedelta(milliseconds=offset)
        self._years: OrderedDict[int, tuple[int, Longs]] = OrderedDict()
        self._low, self._high = (int(self._starts(np.array([day]))[0]) for day in (_FIRST, _LAST))

    def places(self, times: Longs) -> Longs:
        if not len(times):
            return times
        numbers, into = np.empty_like(times), np.empty_like(times)
        for out, first, start in ((times < self._low, _FIRST, self._low), (times >= self._high, _LAST, self._high)):
            if out.any():  # days of 24 hours
                numbers[out], into[out] = (times[out] - start) // DAY + first, (times[out] - start) % DAY
        for year, rows in _by_year(times, (times >= self._low) & (times < self._high)):
            first, starts = self._year(year)
            at = np.searchsorted(starts, times[rows], "right") - 1
            numbers[rows], into[rows] = at + first, times[rows] - starts[at]
        return numbers * DAY + np.minimum(into, DAY - 1)

    def instants(self, places: Longs) -> Longs:
        return self._starts(places // DAY)

    def _starts(self, days: Longs) -> Longs:
        """When days of these numbers, counted from 1 January 1970, begin."""
        found = np.empty(len(days), np.int64)
        before, after = days < _FIRST, days > _LAST
        if before.any():
            found[before] = self._low + (days[before] - _FIRST) * DAY
        if after.any():
            found[after] = self._high + (days[after] - _LAST) * DAY
        for year, rows in _by_year(days * DAY, ~(before | after)):
            first, starts = self._year(year)
            found[rows] = starts[days[rows] - first]
        return found

    def _year(self, year: int) -> tuple[int, Longs]:
        """The first day's number, and when each day begins, of a year and the two days on either side of it: a UTC year
        has parts of those.
        """
        held = self._years.get(year)
        if held is None:
            begin = datetime(year, 1, 1) - timedelta(days=2)
            days = (datetime(year + 1, 1, 1) - begin).days + 2
            starts = np.array([self._start(begin + timedelta(days=day)) for day in range(days)], np.int64)
            held = self._years[year] = (begin - _EPOCH).days, np.maximum.accumulate(starts)
            if len(self._years) > _KEPT:
                self._years.popitem(last=False)
        else:
            self._years.move_to_end(year)
        return held

    def _start(self, midnight: datetime) -> int:
        local = (midnight + self._offset).replace(tzinfo=self._zone)
        since = local.replace(tzinfo=None) - (local.utcoffset() or timedelta()) - _EPOCH
        return since // timedelta(milliseconds=1)


def _by_year(times: Longs, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, Longs]]:
    """The rows that are asked for, by their year in UTC."""
    at = np.flatnonzero(rows).astype(np.int64)
    if not len(at):
        return []
    low, high = (datetime.fromtimestamp(int(t) / 1000, UTC).year for t in (times[at].min(), times[at].max()))
    if low == high:
        return [(low, at)]
    years = times[at].astype("datetime64[ms]").astype("datetime64[Y]").astype(np.int64) + 1970
    return [(int(year), at[years == year]) for year in np.unique(years)]


def grid_of(window: AlignedWindow) -> Grid:
    return Days(window.zone, window.offset) if window.zone else Plain(window.offset)
