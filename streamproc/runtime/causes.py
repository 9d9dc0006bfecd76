"""Which events results come from, as their ids say it."""

from __future__ import annotations

import numpy as np

from streamproc.columns import Causes, Longs


def causes_of(offsets: Longs, times: Longs | None = None) -> Causes | None:
    """The causes of results in the order in which they are sent: numbered among those of one event.

    Args:
        offsets: int64[n], of each result's event.
        times: int64[n], stream times, where they are to be told.

    Returns:
        None where the offsets decrease somewhere: then nothing can be told by ids, and results must not go ahead of
        their state.
    """
    steps = np.diff(offsets)
    if (steps < 0).any():
        return None
    first = np.zeros(len(offsets), np.int64)  # row of its event's first result, once it is spread over the others
    starts = np.flatnonzero(steps) + 1
    first[starts] = starts
    return Causes(offsets, np.arange(len(offsets)) - np.maximum.accumulate(first), times)
