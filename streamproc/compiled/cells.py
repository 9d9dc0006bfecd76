"""Cells: what is kept per pane and key, for just those pairs that events came for.

A cell is a row of 64-bit words: the pane it is of (by a number given once to every pane), its key's code, the next
cell, how many events, and then the measures, ints or floats as they are. The cells of a pane are a chain in order of
coming, and so are the free ones: a pane is freed in one step, and its cells are used again in the order in which they
lie. A cell is found by its key's last one, or in a table of all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from streamproc.compiled.kernel import LONGS, inlined, kernel
from streamproc.compiled.types import Longs

U = np.uint64
_TAG = U(0xFFFFFFFF00000000)
_INDEX = U(0x00000000FFFFFFFF)

SERIAL, CODE, NEXT, ROWS, MEASURES = range(5)  # words of a cell; the last is the first of its measures
SUM, MIN, MAX, COUNT, HIGH, SUM_F, MIN_F, MAX_F = range(8)  # what a word holds; _F: a float

# Words of a pane's slot. A free one has serial 0, and SLOT_FIRST is the next free one.
SLOT_PANE, SLOT_SERIAL, SLOT_FIRST, SLOT_LAST, SLOT_CELLS, SLOT_WORDS = range(6)
# Words of what is counted: cells ever used, the first free one, live ones, entries in their table; slots ever used, the
# first free one, live panes, entries in their table; panes so far.
CELLS, FREE, LIVE, INDEXED, SLOTS, FREE_SLOT, PANES, PLACED, SERIALS = range(9)

# Where a walk over the cells of windows is, and what it has found; see visit.
WALK_WINDOW, WALK_PANE, WALK_CELL, WALK_SEEN, WALK_ROWS = range(5)

LONG = types.int64[::1]
_2D = types.int64[:, ::1]
_2D_F = types.float64[:, ::1]
_TABLE = types.uint64[::1]
_STATE = (_2D, _TABLE, _2D, _TABLE)  # cells, their table, slots, their table
_FLOATS = types.Array(types.float64, 1, "C", readonly=True)
_BOOLS = types.Array(types.boolean, 1, "C", readonly=True)


@inlined
def _mixed(a: Any, b: Any, secret: Any) -> Any:
    """A hash of two words; the finaliser is splitmix64's (Steele, Lea, Flood 2014)."""
    x = (U(a) ^ secret) * U(0x9E3779B97F4A7C15) ^ U(b)
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


@inlined
def _slot_of(number: Any, slots: Any, panes: Any, secret: Any, at: Any) -> Any:
    """The slot of a pane, a new one if need be; -1 when there is no room."""
    mask = U(len(panes) - 1)
    hashed = _mixed(number, 0, secret)
    place = hashed & mask
    while panes[place] != U(0):
        if panes[place] & _TAG == hashed & _TAG:
            slot = np.int64(panes[place] & _INDEX) - 1
            if slots[slot, SLOT_PANE] == number and slots[slot, SLOT_SERIAL] > 0:
                return slot
        place = (place + U(1)) & mask
    if 2 * at[PLACED] >= len(panes):
        return np.int64(-1)
    if at[FREE_SLOT] >= 0:
        slot = at[FREE_SLOT]
        at[FREE_SLOT] = slots[slot, SLOT_FIRST]
    elif at[SLOTS] < len(slots):
        slot = at[SLOTS]
        at[SLOTS] += 1
    else:
        return np.int64(-1)
    at[SERIALS] += 1
    at[PLACED] += 1
    at[PANES] += 1
    slots[slot, SLOT_PANE], slots[slot, SLOT_SERIAL] = number, at[SERIALS]
    slots[slot, SLOT_FIRST] = slots[slot, SLOT_LAST] = -1
    slots[slot, SLOT_CELLS] = 0
    panes[place] = (hashed & _TAG) | U(slot + 1)
    return slot


@inlined
def _cell_of(slot: Any, code: Any, identity: Any, state: Any, table: Any, slots: Any, secret: Any, at: Any) -> Any:
    """The cell of a pane and a key, a new one if need be; -1 when there is no room."""
    mask = U(len(table) - 1)
    serial = slots[slot, SLOT_SERIAL]
    hashed = _mixed(serial, code, secret)
    place = hashed & mask
    while table[place] != U(0):
        if table[place] & _TAG == hashed & _TAG:
            cell = np.int64(table[place] & _INDEX) - 1
            if state[cell, SERIAL] == serial and state[cell, CODE] == code:
                return cell
        place = (place + U(1)) & mask
    if 2 * at[INDEXED] >= len(table):
        return np.int64(-1)
    if at[FREE] >= 0:
        cell = at[FREE]
        at[FREE] = state[cell, NEXT]
    elif at[CELLS] < len(state):
        cell = at[CELLS]
        at[CELLS] += 1
    else:
        return np.int64(-1)
    at[INDEXED] += 1
    at[LIVE] += 1
    for word in range(len(identity)):
        state[cell, word] = identity[word]
    state[cell, SERIAL], state[cell, CODE], state[cell, NEXT] = serial, code, -1
    if slots[slot, SLOT_FIRST] < 0:
        slots[slot, SLOT_FIRST] = cell
    else:
        state[slots[slot, SLOT_LAST], NEXT] = cell
    slots[slot, SLOT_LAST] = cell
    slots[slot, SLOT_CELLS] += 1
    table[place] = (hashed & _TAG) | U(cell + 1)
    return cell


@kernel(types.int64(LONGS, LONGS, types.int64, types.int64, types.uint64, LONGS, *_STATE, LONG, LONG, LONG))
def place(
    times: Longs,
    codes: Longs,
    first: int,
    length: int,
    secret: Any,
    identity: Longs,
    state: Longs,
    table: Any,
    slots: Longs,
    panes: Any,
    last: Longs,
    at: Longs,
    cells: Longs,
) -> int:
    """Finds the cells of rows ``first`` and on and counts the rows in them; says where it stopped: at the end, or at a
    row for which there is no room.
    """
    begin, slot, serial = times[first], np.int64(-1), np.int64(-1)
    for i in range(first, len(times)):
        if slot < 0 or times[i] < begin or times[i] - begin >= length:
            number = times[i] // length
            begin = number * length
            slot = _slot_of(number, slots, panes, secret, at)
            if slot < 0:
                return i
            serial = slots[slot, SLOT_SERIAL]
        code = codes[i]
        cell = last[code]
        # It may be this pane's and still another key's: one that was freed with its pane, and used again.
        if cell < 0 or state[cell, SERIAL] != serial or state[cell, CODE] != code:
            cell = _cell_of(slot, code, identity, state, table, slots, secret, at)
            if cell < 0:
                return i
            last[code] = cell
        state[cell, ROWS] += 1
        cells[i] = cell
    return len(times)


@kernel(types.void(_2D, types.int64, types.int64, LONGS, LONGS, _BOOLS))
def add_longs(state: Longs, word: int, op: int, cells: Longs, data: Longs, valid: Any) -> None:
    """Adds ``data[i]`` to a word of cell ``cells[i]``, one after the other; ``valid`` of no length means all are."""
    every = len(valid) == 0
    for i in range(len(cells)):
        if not (every or valid[i]):
            continue
        cell, value = cells[i], data[i]
        if op == SUM:
            state[cell, word] += value
        elif op == HIGH:
            high = (value >> 32) + ((value >> 31) & 1)
            if high:
                state[cell, word] += high
        elif op == MIN:
            if value < state[cell, word]:
                state[cell, word] = value
        elif op == MAX:
            if value > state[cell, word]:
                state[cell, word] = value
        else:
            state[cell, word] += 1


@kernel(types.void(_2D_F, types.int64, types.int64, LONGS, _FLOATS, _BOOLS))
def add_floats(state: Any, word: int, op: int, cells: Longs, data: Any, valid: Any) -> None:
    """The same for floats. NaN wins over every number."""
    every = len(valid) == 0
    for i in range(len(cells)):
        if not (every or valid[i]):
            continue
        cell, value = cells[i], data[i]
        if op == SUM_F:
            state[cell, word] += value
        elif op == MIN_F:
            if value < state[cell, word] or value != value:
                state[cell, word] = value
        elif value > state[cell, word] or value != value:
            state[cell, word] = value


@kernel(types.int64(LONGS, LONGS, LONGS, LONG, _2D, _2D, _2D, LONG, LONG, LONG, LONG))
def visit(
    live: Longs,
    low: Longs,
    high: Longs,
    walk: Longs,
    slots: Longs,
    state: Longs,
    seen: Longs,
    windows: Longs,
    codes: Longs,
    cells: Longs,
    rows: Longs,
) -> int:
    """Walks over the cells of windows, each of the slots ``live[low : high]``, in their order. Of each it gives the
    cell and the row of its window and key; of each row the window's number and the code. Says how many cells there
    were: as many as there is room for, when it has not come to the end; ``walk`` has where it is, how many windows have
    ever been seen, and how many rows there are. ``seen`` has for each code the window that it was last seen in, and its
    row there.
    """
    cell, found, visits = walk[WALK_CELL], walk[WALK_ROWS], 0
    while walk[WALK_WINDOW] < len(low):
        i = walk[WALK_WINDOW]
        stamp = walk[WALK_SEEN]
        while walk[WALK_PANE] < high[i] - low[i]:
            if cell < 0:
                cell = slots[live[low[i] + walk[WALK_PANE]], SLOT_FIRST]
            while cell >= 0:
                if visits == len(cells):
                    walk[WALK_CELL], walk[WALK_ROWS] = cell, found
                    return visits
                code = state[cell, CODE]
                if seen[code, 0] != stamp:
                    seen[code, 0], seen[code, 1] = stamp, found
                    windows[found], codes[found] = i, code
                    found += 1
                cells[visits], rows[visits] = cell, seen[code, 1]
                visits += 1
                cell = state[cell, NEXT]
            walk[WALK_PANE] += 1
        walk[WALK_WINDOW] += 1
        walk[WALK_SEEN] += 1
        walk[WALK_PANE] = 0
    walk[WALK_CELL], walk[WALK_ROWS] = -1, found
    return visits


@kernel(types.void(_2D, types.int64, types.int64, LONGS, LONGS, LONG))
def merge_longs(state: Longs, word: int, op: int, cells: Longs, rows: Longs, out: Longs) -> None:
    """Merges a word of cell ``cells[i]`` into ``out[rows[i]]``, one after the other."""
    for i in range(len(cells)):
        row, value = rows[i], state[cells[i], word]
        if op == MIN:
            if value < out[row]:
                out[row] = value
        elif op == MAX:
            if value > out[row]:
                out[row] = value
        else:
            out[row] += value


@kernel(types.void(_2D_F, types.int64, types.int64, LONGS, LONGS, types.float64[::1]))
def merge_floats(state: Any, word: int, op: int, cells: Longs, rows: Longs, out: Any) -> None:
    """The same for floats."""
    for i in range(len(cells)):
        row, value = rows[i], state[cells[i], word]
        if op == SUM_F:
            out[row] += value
        elif op == MIN_F:
            if value < out[row] or value != value:
                out[row] = value
        elif value > out[row] or value != value:
            out[row] = value


@kernel(types.void(LONGS, _2D, _2D, LONG))
def cells_of(panes: Longs, slots: Longs, state: Longs, cells: Longs) -> None:
    """Lists the cells of the panes in these slots."""
    at = 0
    for slot in panes:
        cell = slots[slot, SLOT_FIRST]
        while cell >= 0:
            cells[at] = cell
            at += 1
            cell = state[cell, NEXT]


@kernel(types.void(LONGS, _2D, _2D, LONG))
def free(drop: Longs, state: Longs, slots: Longs, at: Longs) -> None:
    for slot in drop:
        at[LIVE] -= slots[slot, SLOT_CELLS]
        state[slots[slot, SLOT_LAST], NEXT] = at[FREE]
        at[FREE] = slots[slot, SLOT_FIRST]
        slots[slot, SLOT_SERIAL], slots[slot, SLOT_FIRST] = 0, at[FREE_SLOT]
        at[FREE_SLOT] = slot
        at[PANES] -= 1


@kernel(types.void(LONGS, _2D, types.uint64, _TABLE, LONG))
def index_panes(live: Longs, slots: Longs, secret: Any, panes: Any, at: Longs) -> None:
    """Fills the table of panes anew."""
    for slot in live:
        hashed = _mixed(slots[slot, SLOT_PANE], 0, secret)
        place = hashed & U(len(panes) - 1)
        while panes[place] != U(0):
            place = (place + U(1)) & U(len(panes) - 1)
        panes[place] = (hashed & _TAG) | U(slot + 1)
    at[PLACED] = len(live)


@kernel(types.void(LONGS, _2D, types.uint64, _2D, _TABLE, LONG))
def index_cells(live: Longs, slots: Longs, secret: Any, state: Longs, table: Any, at: Longs) -> None:
    """Fills the table of cells anew."""
    mask = U(len(table) - 1)
    for slot in live:
        cell = slots[slot, SLOT_FIRST]
        while cell >= 0:
            hashed = _mixed(state[cell, SERIAL], state[cell, CODE], secret)
            place = hashed & mask
            while table[place] != U(0):
                place = (place + U(1)) & mask
            table[place] = (hashed & _TAG) | U(cell + 1)
            cell = state[cell, NEXT]
    at[INDEXED] = at[LIVE]


@kernel(types.void(LONGS, _2D, _2D, LONGS, _2D, LONG))
def move_cells(live: Longs, slots: Longs, state: Longs, renamed: Longs, state_to: Longs, at: Longs) -> None:
    """Copies the cells of the panes in these slots, one behind the other, with new codes (``renamed`` of no length: as
    they are).
    """
    cells = 0
    for slot in live:
        cell = slots[slot, SLOT_FIRST]
        slots[slot, SLOT_FIRST] = cells
        while cell >= 0:
            for word in range(state.shape[1]):
                state_to[cells, word] = state[cell, word]
            if len(renamed):
                state_to[cells, CODE] = renamed[state[cell, CODE]]
            cells += 1
            state_to[cells - 1, NEXT] = cells
            cell = state[cell, NEXT]
        slots[slot, SLOT_LAST] = cells - 1
        state_to[cells - 1, NEXT] = -1
    at[CELLS], at[FREE] = cells, -1


@kernel(types.void(LONGS, _2D, _2D, LONG))
def mark(live: Longs, state: Longs, slots: Longs, held: Longs) -> None:
    for slot in live:
        cell = slots[slot, SLOT_FIRST]
        while cell >= 0:
            held[state[cell, CODE]] = 1
            cell = state[cell, NEXT]
