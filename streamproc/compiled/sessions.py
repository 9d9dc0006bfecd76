"""Open sessions of every key, by slot, and the walk of :mod:`streamproc.process.session_walk`.

The sessions of a key are a chain, from early to late. What is due is a heap of (an end that a session once had, its
number); an entry is looked at when that end is over, and put back where the session has gone on since.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from streamproc.compiled.kernel import LONGS, inlined, kernel
from streamproc.compiled.types import Longs

START, LAST, BORN, CODE, NEXT, LEVEL, NUMBER, WORDS = range(8)  # words of a session; NUMBER: 0 when it is not open
DUE, NUMBERS = range(2)  # words of what is counted: entries in the heap, sessions that there ever were

_LONG = types.int64[::1]
_2D = types.int64[:, ::1]


@inlined
def _push(heap: Any, at: Any, end: Any, number: Any, slot: Any) -> Any:
    place = at[DUE]
    at[DUE] += 1
    while place > 0:
        above = (place - 1) >> 1
        if heap[above, 0] <= end:
            break
        heap[place, 0], heap[place, 1], heap[place, 2] = heap[above, 0], heap[above, 1], heap[above, 2]
        place = above
    heap[place, 0], heap[place, 1], heap[place, 2] = end, number, slot


@inlined
def _pop(heap: Any, at: Any) -> Any:
    """Takes the first entry away."""
    at[DUE] -= 1
    size = at[DUE]
    end, number, slot = heap[size, 0], heap[size, 1], heap[size, 2]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1, 0] < heap[below, 0]:
            below += 1
        if heap[below, 0] >= end:
            break
        heap[place, 0], heap[place, 1], heap[place, 2] = heap[below, 0], heap[below, 1], heap[below, 2]
        place = below
    heap[place, 0], heap[place, 1], heap[place, 2] = end, number, slot


@inlined
def _unlink(state: Any, heads: Any, slot: Any) -> Any:
    code = state[slot, CODE]
    if heads[code] == slot:
        heads[code] = state[slot, NEXT]
    else:
        other = heads[code]
        while state[other, NEXT] != slot:
            other = state[other, NEXT]
        state[other, NEXT] = state[slot, NEXT]
    state[slot, NUMBER] = 0


@inlined
def _close_due(now: Any, gap: Any, state: Any, heads: Any, heap: Any, at: Any, closed: Any, count: Any) -> Any:
    """Closes what is over; says how many are closed by now."""
    while at[DUE] > 0 and heap[0, 0] <= now:
        end, number, slot = heap[0, 0], heap[0, 1], heap[0, 2]
        _pop(heap, at)
        if state[slot, NUMBER] != number:
            continue
        if state[slot, LAST] + gap > end:
            _push(heap, at, state[slot, LAST] + gap, number, slot)
            continue
        _unlink(state, heads, slot)
        closed[count] = slot
        count += 1
    return count


@kernel(
    types.void(
        LONGS, LONGS, LONGS, types.int64, LONGS, types.int64, types.int64, _2D, _LONG, _2D, _LONG, _2D, _2D, _2D, _LONG
    )
)
def walk(
    times: Longs,
    seen: Longs,
    codes: Longs,
    first: int,
    offered: Longs,
    gap: int,
    grace: int,
    state: Longs,
    heads: Longs,
    heap: Longs,
    at: Longs,
    rows: Longs,
    mergers: Longs,
    closed: Longs,
    counts: Longs,
) -> None:
    """Finds the sessions of rows. ``rows[:, i]``: the slot and level of row ``i``, and of new sessions the row;
    ``mergers`` and ``closed`` (and their causes) are columns, too; ``counts``: of new, merged and closed ones.
    """
    for i in range(len(times)):
        t, now, code = times[i], seen[i], codes[i]
        if at[DUE] > 0 and heap[0, 0] + grace <= now:
            before = counts[2]
            counts[2] = _close_due(now - grace, gap, state, heads, heap, at, closed[0], before)
            for j in range(before, counts[2]):
                closed[1, j] = i
        last, slot = np.int64(-1), heads[code]
        while slot >= 0 and state[slot, LAST] + gap <= t:
            last, slot = slot, state[slot, NEXT]
        if slot < 0 or state[slot, START] >= t + gap:
            if t + gap + grace <= now:
                rows[0, i], rows[1, i] = -1, 0
                continue
            after = slot
            slot = offered[counts[0]]
            rows[2, counts[0]] = i
            counts[0] += 1
            at[NUMBERS] += 1
            state[slot, START], state[slot, LAST], state[slot, BORN], state[slot, CODE] = t, t, first + i, code
            state[slot, NEXT], state[slot, LEVEL], state[slot, NUMBER] = after, 0, at[NUMBERS]
            if last < 0:
                heads[code] = slot
            else:
                state[last, NEXT] = slot
            _push(heap, at, t + gap, at[NUMBERS], slot)
        else:
            state[slot, START] = min(state[slot, START], t)
            state[slot, LAST] = max(state[slot, LAST], t)
            other = state[slot, NEXT]
            if other >= 0 and state[other, START] < state[slot, LAST] + gap:
                state[slot, NEXT], state[slot, LAST] = state[other, NEXT], state[other, LAST]
                state[slot, BORN] = min(state[slot, BORN], state[other, BORN])
                state[slot, LEVEL] = max(state[slot, LEVEL], state[other, LEVEL]) + 1
                state[other, NUMBER] = 0
                n = counts[1]
                mergers[0, n], mergers[1, n], mergers[2, n] = slot, other, state[slot, LEVEL]
                counts[1] = n + 1
        rows[0, i], rows[1, i] = slot, state[slot, LEVEL]
    for j in range(counts[1]):
        state[mergers[0, j], LEVEL] = 0


@kernel(types.int64(types.int64, types.int64, _2D, _LONG, _2D, _LONG, _LONG))
def close(time: int, gap: int, state: Longs, heads: Longs, heap: Longs, at: Longs, closed: Longs) -> int:
    """Closes what ended by this time; says how many."""
    return _close_due(time, gap, state, heads, heap, at, closed, 0)  # type: ignore[no-any-return]


@kernel(types.void(LONGS, types.int64, _2D, _LONG, _2D, _LONG))
def put(slots: Longs, gap: int, state: Longs, heads: Longs, heap: Longs, at: Longs) -> None:
    """Opens sessions whose words are there already; the last of each key first."""
    for slot in slots:
        code = state[slot, CODE]
        state[slot, NEXT] = heads[code]
        heads[code] = slot
        at[NUMBERS] += 1
        state[slot, NUMBER] = at[NUMBERS]
        _push(heap, at, state[slot, LAST] + gap, at[NUMBERS], slot)
