"""Drops results that have come already: a stage that goes on after a crash sends some of them a second time.

Results of one stage and source partition have ids that increase strictly in each partition of their topic (see
:class:`streamproc.columns.Causes`). So what is not above the highest one seen is a repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.batch import Batch
from streamproc.columns import Longs, Origins

#: Stages and partitions that are kept. With more, those are forgotten of which nothing has come for longest: their
#: repeats would pass. Only records that no stage wrote can bring so many.
MOST = 4096
_Source = tuple[str, int]  # a stage, and a partition of its source
_Place = tuple[int, int]  # an offset there, and the number of a result of that event


class Repeats:
    """What has come of others' results in one partition of a topic."""

    def __init__(self) -> None:
        self._seen: dict[_Source, _Place] = {}  # what came last is the last

    @classmethod
    def restored(cls, marks: Any) -> Repeats:
        """Goes on from :meth:`marks`."""
        repeats = cls()
        repeats._seen = {(stage, partition): (offset, number) for stage, partition, offset, number in marks}
        return repeats

    def marks(self) -> list[list[Any]]:
        """What is kept: stage, partition, offset and number of each source's last result."""
        return [[*source, *place] for source, place in self._seen.items()]

    def fresh(self, batch: Batch) -> Batch:
        """The rows that have not come before, which have by now. Rows of unknown origin are always fresh."""
        origins = batch.origins
        if origins is None:
            return batch
        keep: NDArray[np.bool_] | None = None
        for source, rows in _by_source(origins):
            offsets, numbers = origins.offset[rows], origins.number[rows]
            fresh = self._fresh(source, offsets, numbers)
            if fresh is not None:
                keep = np.ones(len(batch), np.bool_) if keep is None else keep
                keep[np.arange(len(batch))[rows][~fresh]] = False
        return batch if keep is None else batch.take(np.flatnonzero(keep))

    def _fresh(self, source: _Source, offsets: Longs, numbers: Longs) -> NDArray[np.bool_] | None:
        """Which rows of a source are above all before them; None: all. Notes the highest."""
        seen, first = self._seen.pop(source, None), (int(offsets[0]), int(numbers[0]))
        steps = np.diff(offsets)
        rising = bool(((steps > 0) | ((steps == 0) & (np.diff(numbers) > 0))).all())
        if rising and (seen is None or first > seen):
            self._note(source, (int(offsets[-1]), int(numbers[-1])))
            return None
        fresh = np.ones(len(offsets), np.bool_)
        last = len(offsets) - 1
        if not rising:
            order = np.lexsort((numbers, offsets))
            fresh = _above_all_before(order, offsets, numbers)
            last = int(order[-1])
        highest = (int(offsets[last]), int(numbers[last]))
        if seen is not None:
            fresh &= (offsets > seen[0]) | ((offsets == seen[0]) & (numbers > seen[1]))
            highest = max(highest, seen)
        self._note(source, highest)
        return fresh

    def _note(self, source: _Source, place: _Place) -> None:
        self._seen[source] = place
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]


def _above_all_before(order: Longs, offsets: Longs, numbers: Longs) -> NDArray[np.bool_]:
    """Which places are above all before them; ``order`` sorts them."""
    rank = np.zeros(len(order), np.int64)
    higher = (np.diff(offsets[order]) != 0) | (np.diff(numbers[order]) != 0)
    rank[order[1:]] = np.cumsum(higher)
    above = np.ones(len(order), np.bool_)
    above[1:] = rank[1:] > np.maximum.accumulate(rank)[:-1]
    return above


def _by_source(origins: Origins) -> list[tuple[_Source, Longs | slice]]:
    """The rows of each stage and source partition, in order."""
    stage, partition = origins.stage, origins.partition
    if not len(stage):
        return []
    if (stage == stage[0]).all() and (partition == partition[0]).all():
        first = int(stage[0])
        return [] if first < 0 else [((origins.stages[first], int(partition[0])), slice(None))]
    order = np.lexsort((partition, stage))
    cuts = np.flatnonzero((np.diff(stage[order]) != 0) | (np.diff(partition[order]) != 0)) + 1
    groups = np.split(order, cuts)
    return [
        ((origins.stages[int(stage[rows[0]])], int(partition[rows[0]])), rows) for rows in groups if stage[rows[0]] >= 0
    ]
