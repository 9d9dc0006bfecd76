"""Rows of two sides that match in time: see :mod:`streamproc.process.joins.interval_chains`; and strings of such rows.

The rows of a code are a chain, from old to new. ``at`` is, for each code, the first row that may still match and the
last row: times do not fall, so neither do the bounds of what is near, and no row is passed over twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.memory import copy
from streamproc.compiled.types import Bytes, Longs

#: Words of ``state``: how many rows of the sequence are done; the numbers of the left's and of the right's next rows;
#: which row the row in work is compared with next, FRESH when it has not begun.
DONE, LEFT, RIGHT, NEXT = range(4)
FRESH = -2
_NONE = -1

_LONG = types.int64[::1]
_2D = types.int64[:, ::1]


@inlined
def _first(code: Any, low: Any, origin: Any, times: Any, chain: Any, at: Any) -> Any:
    """The first row of a code whose time is not below ``low``."""
    number = at[0, code]
    while number >= 0 and times[number - origin] < low:
        number = chain[number - origin]
    at[0, code] = number
    return number


@inlined
def _link(number: Any, code: Any, origin: Any, chain: Any, at: Any) -> Any:
    """Puts a row behind all others of its code."""
    chain[number - origin] = _NONE
    if at[0, code] < 0:
        at[0, code] = number
    else:
        chain[at[1, code] - origin] = number
    at[1, code] = number


_SIDE = (types.int64, LONGS, LONGS, _LONG, _2D)


@kernel(types.int64(LONGS, types.int64, types.int64, *_SIDE, *_SIDE, _LONG, _LONG, _LONG))
def pairs(
    of: Longs,
    low: int,
    high: int,
    left_origin: int,
    left_times: Longs,
    left_codes: Longs,
    left_chain: Longs,
    left_at: Longs,
    right_origin: int,
    right_times: Longs,
    right_codes: Longs,
    right_chain: Longs,
    right_at: Longs,
    state: Longs,
    left: Longs,
    right: Longs,
) -> int:
    """Takes new rows in, and writes the pairs that each makes with those before it, as many as there is room for; says
    how many. All are done when ``state[DONE]`` is the length of ``of``.
    """
    count, room = 0, len(left)
    for i in range(state[DONE], len(of)):
        if of[i] == 0:
            mine = state[LEFT]
            time, code = left_times[mine - left_origin], left_codes[mine - left_origin]
            if code >= 0:
                number = state[NEXT]
                if number == FRESH:
                    number = _first(code, time + low, right_origin, right_times, right_chain, right_at)
                while number >= 0 and right_times[number - right_origin] <= time + high:
                    if count == room:
                        state[DONE], state[NEXT] = i, number
                        return count
                    left[count], right[count] = mine, number
                    count += 1
                    number = right_chain[number - right_origin]
                _link(mine, code, left_origin, left_chain, left_at)
            state[LEFT] += 1
        else:
            mine = state[RIGHT]
            time, code = right_times[mine - right_origin], right_codes[mine - right_origin]
            if code >= 0:
                number = state[NEXT]
                if number == FRESH:
                    number = _first(code, time - high, left_origin, left_times, left_chain, left_at)
                while number >= 0 and left_times[number - left_origin] <= time - low:
                    if count == room:
                        state[DONE], state[NEXT] = i, number
                        return count
                    left[count], right[count] = number, mine
                    count += 1
                    number = left_chain[number - left_origin]
                _link(mine, code, right_origin, right_chain, right_at)
            state[RIGHT] += 1
        state[NEXT] = FRESH
    state[DONE] = len(of)
    return count


@kernel(types.void(types.int64, types.int64, types.int64, LONGS, _LONG, _2D))
def link(start: int, stop: int, origin: int, codes: Longs, chain: Longs, at: Longs) -> None:
    """Takes rows ``[start, stop)`` that have made their pairs."""
    for number in range(start, stop):
        code = codes[number - origin]
        if code >= 0:
            _link(number, code, origin, chain, at)


@kernel(types.void(types.int64, types.int64, types.int64, LONGS, LONGS, _2D))
def drop(start: int, stop: int, origin: int, codes: Longs, chain: Longs, at: Longs) -> None:
    """Forgets rows ``[start, stop)``, the oldest."""
    for number in range(start, stop):
        code = codes[number - origin]
        if code >= 0 and at[0, code] == number:
            at[0, code] = chain[number - origin]


@kernel(types.int64(LONGS, LONGS, _LONG))
def _measure(sizes: Longs, rows: Longs, out: Longs) -> int:
    """The sizes of these rows, -1 for row -1; gives their sum without those."""
    total = 0
    for i in range(len(rows)):
        out[i] = sizes[rows[i]] if rows[i] >= 0 else -1
        total += max(out[i], 0)
    return total


@kernel(types.void(BYTES, LONGS, LONGS, LONGS, _LONG, types.uint8[::1]))
def _pick(data: Bytes, starts: Longs, rows: Longs, sizes: Longs, places: Longs, out: Bytes) -> None:
    at = 0
    for i in range(len(rows)):
        places[i] = at
        if sizes[i] > 0:
            at = copy(data, starts[rows[i]], sizes[i], out, at)


def pick(data: Bytes, starts: Longs, sizes: Longs, rows: Longs) -> tuple[Bytes, Longs, Longs]:
    """The strings of these rows one behind the other, their places there and sizes; null, of size -1, for row -1."""
    found, places = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    out = np.empty(_measure(sizes, rows, found), np.uint8)
    _pick(data, starts, rows, found, places, out)
    return out, places, found
