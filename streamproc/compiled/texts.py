"""Strings that lie here and there in a buffer, gathered."""

from __future__ import annotations

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, LONGS, kernel
from streamproc.compiled.types import Bytes, Longs


@kernel(types.void(BYTES, LONGS, LONGS, types.int64[::1], types.uint8[::1]))
def _gather(data: Bytes, starts: Longs, sizes: Longs, ends: Longs, out: Bytes) -> None:
    at = 0
    for i in range(len(starts)):
        start = starts[i]
        for j in range(max(sizes[i], 0)):
            out[at + j] = data[start + j]
        at += max(sizes[i], 0)
        ends[i + 1] = at


def gather(data: Bytes, starts: Longs, sizes: Longs) -> tuple[Bytes, Longs]:
    """The strings one behind the other, and ``ends[n + 1]``: string ``i`` lies in ``[ends[i], ends[i + 1])``. A size
    below zero stands for null, and takes no room.
    """
    ends = np.zeros(len(starts) + 1, np.int64)
    out = np.empty(int(np.maximum(sizes, 0).sum()), np.uint8)
    _gather(data, starts, sizes, ends, out)
    return out, ends
