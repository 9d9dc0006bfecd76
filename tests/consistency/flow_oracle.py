"""What flows without faults give, computed visit by visit, from what lies in their source topics.

A row is late by its own input's stream time alone, row by row: that of the partition where it was published, also
behind the rekeying. It takes part once all inputs are past it by more than the grace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import msgspec

from tests.consistency.flows import GRACE_MS, HIGH_MS, IDENTITY, LOW_MS, SITE_MS, SOURCES, Visit

_NEVER = -(1 << 62)
_Values = tuple[object, ...]


class FlowOracle:
    """All partitions of both topics. Takes each one's visits in order; how they are interleaved makes no difference."""

    def __init__(self, partitions: int) -> None:
        #: By sink, results that nobody has asked for yet.
        self.results: dict[str, dict[Hashable, _Values]] = {sink: {} for sink in IDENTITY}
        self.seen = dict.fromkeys(SOURCES, 0)
        self._joins = [Join() for _ in range(partitions)]
        self._sites = Sites(partitions)

    def take(self, source: str, partition: int, visit: Visit) -> None:
        self.seen[source] += 1
        join = self._joins[partition]
        side = SOURCES.index(source)
        if not join.take(side, visit):
            self._give(f"near-late-{source}", (visit.id,), msgspec.structs.astuple(visit))
        if side and not self._sites.take(partition, visit):
            self._give("sites-late", (visit.id,), msgspec.structs.astuple(visit))

    def settle(self) -> None:
        """Finds out which results there are by now."""
        for join in self._joins:
            for left, right in join.settle():
                other = (None, None) if right is None else (right.id, right.x)
                self._give("near", (left.id, other[0]), (left.id, other[0], left.unit, left.ts, left.x, other[1]))
        for site, start, n, sum_ in self._sites.settle():
            end = start + SITE_MS
            self._give("sites", (site, start, end), (site, start, end, n, sum_))

    def _give(self, sink: str, identity: _Values, values: _Values) -> None:
        self.results[sink][identity] = values


class Join:
    """The join of one partition."""

    def __init__(self) -> None:
        self._times = [_NEVER, _NEVER]
        self._rows: tuple[defaultdict[str, list[Visit]], ...] = (defaultdict(list), defaultdict(list))  # by unit
        self._pairs: list[tuple[Visit, Visit]] = []
        self._matched: set[str] = set()  # ids of lefts

    def take(self, side: int, visit: Visit) -> bool:
        """False: it is late."""
        self._times[side] = max(self._times[side], visit.ts)
        if self._times[side] - visit.ts > GRACE_MS:
            return False
        for other in self._rows[1 - side][visit.unit]:
            left, right = (other, visit) if side else (visit, other)
            if LOW_MS <= right.ts - left.ts <= HIGH_MS:
                self._pairs.append((left, right))
                self._matched.add(left.id)
        self._rows[side][visit.unit].append(visit)
        return True

    def settle(self) -> list[tuple[Visit, Visit | None]]:
        """Pairs, and lefts that are alone, where no row that is on time can come before them any more."""
        front = min(self._times) - GRACE_MS
        found: list[tuple[Visit, Visit | None]] = []
        waiting = []
        for pair in self._pairs:
            (found if max(pair[0].ts, pair[1].ts) < front else waiting).append(pair)
        self._pairs = waiting
        for side, reach in enumerate((HIGH_MS, -LOW_MS)):
            for unit, rows in self._rows[side].items():
                over = [row for row in rows if row.ts + reach < front]
                self._rows[side][unit] = [row for row in rows if row.ts + reach >= front]
                if side == 0:
                    found += [(row, None) for row in over if row.id not in self._matched]
                    self._matched.difference_update(row.id for row in over)
        return found


class Sites:
    """The windows behind the rekeying, of all partitions together."""

    def __init__(self, partitions: int) -> None:
        self._times = [_NEVER] * partitions  # of those from which rows come
        self._windows: defaultdict[int, dict[str, tuple[int, float]]] = defaultdict(dict)  # by start

    def take(self, partition: int, visit: Visit) -> bool:
        """False: it is late."""
        self._times[partition] = max(self._times[partition], visit.ts)
        if self._times[partition] - visit.ts > GRACE_MS:
            return False
        window = self._windows[visit.ts // SITE_MS * SITE_MS]
        n, sum_ = window.get(visit.site, (0, 0.0))
        window[visit.site] = (n + 1, sum_ + visit.x)
        return True

    def settle(self) -> list[tuple[str, int, int, float]]:
        """Site, start, count and sum of windows that no row that is on time can come into any more."""
        front = min(self._times) - GRACE_MS
        over = [start for start in self._windows if start + SITE_MS <= front]
        return [(site, start, *sums) for start in over for site, sums in self._windows.pop(start).items()]
