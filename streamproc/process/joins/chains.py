"""Chains of versions: from each row to the one before it, and, for long ways, to one far before it.

Which one that is follows E. W. Myers, An applicative random-access stack (Information Processing Letters 17, 1983): a
row at depth ``d`` jumps to depth ``J(d)``, so that any older row is found in a number of steps that grows with the
logarithm of how many there are between. All of this is for many rows at a time.
"""

from __future__ import annotations

import numpy as np

from streamproc.columns import Longs
from streamproc.process.slots import grown

_NONE = -1


class Chains:
    """Rows by slot; the event times of slots are the caller's, and given with each call."""

    def __init__(self) -> None:
        self._before, self._jump, self._depth = (np.empty(0, np.int64) for _ in range(3))

    def grow(self, room: int) -> None:
        """Makes room for so many slots."""
        self._before, self._jump = grown(self._before, room, _NONE), grown(self._jump, room, _NONE)
        self._depth = grown(self._depth, room, 0)

    def add(self, newest: Longs, keys: Longs, slots: Longs, times: Longs) -> None:
        """Adds rows to the chains of their keys, which begin at ``newest[key]`` and get new beginnings.

        Args:
            keys: int64[n], ascending; those of one key by time, and of one time as they came.
        """
        if not len(keys):
            return
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        chain = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(keys))))
        base = newest[keys[firsts]]
        late_chain, late = self._take_off(base, times[slots[firsts]], times)
        if len(late):
            # Of one time what was there comes first.
            chain, slots = np.append(late_chain, chain), np.append(late, slots)
            order = np.lexsort((times[slots], chain))
            chain, slots = chain[order], slots[order]
        self._link(base, chain, slots)
        lasts = np.append(np.flatnonzero(chain[1:] != chain[:-1]), len(chain) - 1)
        newest[keys[firsts]] = slots[lasts]

    def _take_off(self, base: Longs, least: Longs, times: Longs) -> tuple[Longs, Longs]:
        """Each chain's rows newer than ``least``, the oldest first, and their chains. ``base`` becomes what is left."""
        chains, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        active = np.arange(len(base))
        while True:
            at = base[active]
            active = active[(at >= 0) & (times[at] > least[active])]
            if not len(active):
                return np.concatenate(chains[::-1]), np.concatenate(found[::-1])
            chains.append(active)
            found.append(base[active])
            base[active] = self._before[base[active]]

    def _link(self, base: Longs, chain: Longs, slots: Longs) -> None:
        """Puts rows in front of chains: ``base``, by chain."""
        alone = base[(base >= 0)]
        alone = alone[self._before[alone] < 0]
        self._depth[alone], self._jump[alone] = 0, _NONE
        firsts = np.flatnonzero(np.append(True, chain[1:] != chain[:-1]))
        first = firsts[chain]  # where each one's chain begins among these
        under = base[chain]
        number = np.arange(len(chain)) - first
        bottom = np.where(under >= 0, self._depth[under], -1)
        depth = bottom + 1 + number
        self._depth[slots] = depth
        self._before[slots] = np.where(number > 0, slots[np.arange(len(chain)) - 1], under)
        goal = _jumps(int(depth.max()))[depth]
        among = (goal > bottom) & (depth > 0)
        self._jump[slots] = np.where(among, slots[np.where(among, first + goal - bottom - 1, 0)], _NONE)
        below = np.flatnonzero(~among & (under >= 0))
        self._jump[slots[below]] = self._at_depth(under[below], goal[below])

    def _at_depth(self, slots: Longs, depth: Longs) -> Longs:
        """The rows at a depth, from rows that are no less deep; -1 where there is none any more."""
        found = slots.copy()
        active = np.arange(len(found))
        while True:
            at = found[active]
            active = active[(at >= 0) & (self._depth[at] > depth[active])]
            if not len(active):
                return found
            at = found[active]
            far = self._jump[at]
            found[active] = np.where((far >= 0) & (self._depth[far] >= depth[active]), far, self._before[at])

    def find(self, slots: Longs, at_most: Longs, times: Longs) -> Longs:
        """From each of these rows (-1: none) the newest one, going back, that is not later than a time; -1: none."""
        found = slots.copy()
        active = np.arange(len(found))
        while True:
            at = found[active]
            active = active[(at >= 0) & (times[at] > at_most[active])]
            if not len(active):
                return found
            at = found[active]
            far = self._jump[at]
            found[active] = np.where((far >= 0) & (times[far] > at_most[active]), far, self._before[at])

    def cut(self, held: Longs, time: int, times: Longs) -> Longs:
        """Lets go of all rows behind the newest one of each chain that is not later than ``time``; gives their slots.
        ``held`` has all rows.
        """
        old = held[times[held] <= time]
        dropped = self._before[old]
        dropped = dropped[dropped >= 0]
        self._before[old] = _NONE
        gone = np.zeros(len(self._before), np.bool_)
        gone[dropped] = True
        far = self._jump[held]
        self._jump[held[(far >= 0) & gone[far]]] = _NONE
        return dropped


_table = np.zeros(2, np.int64)


def _jumps(most: int) -> Longs:
    """int64[m], m > ``most``: from each depth, to which depth the jump goes."""
    global _table
    if most >= len(_table):
        found = _table.tolist()
        for depth in range(len(found), 2 * most + 1):
            one = found[depth - 1]
            two = found[one]
            found.append(two if depth - 1 - one == one - two else depth - 1)
        _table = np.array(found, np.int64)
    return _table
