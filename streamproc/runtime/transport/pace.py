"""How much of a fetch is one block, where agents of unknown speed read it.

A block is committed whole, and a stop or a rebalance waits for those that were begun. A fetch may hold a hundred
thousand events, and an agent may take milliseconds for each: so it gets as many at a time as it can do in half a
second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamproc.log.batches import Part, RecordBatch
from streamproc.runtime.transport.block import Fetched

_FIRST = 500  # rows, before anything is known
_WITHIN = 0.5  # seconds that a block should take
_FASTER = 4  # times as many rows as before, at most
_SHORTEST = 1e-3  # seconds; less is not told apart


class Pace:
    """How many rows a block of a topic may have."""

    def __init__(self) -> None:
        self.rows = _FIRST

    def took(self, rows: int, seconds: float) -> None:
        """A block of so many rows took its readers so long."""
        if seconds <= _WITHIN and rows * 2 < self.rows:
            return  # there were no more; it says little of many
        can = rows * _WITHIN / max(seconds, _SHORTEST)
        self.rows = max(1, min(int(can), self.rows * _FASTER))


def pieces(fetched: Fetched, at_once: Callable[[], int]) -> Iterator[Fetched]:
    """A fetch in pieces of about ``at_once()`` rows, which share what is decoded of it."""
    if fetched.rows <= at_once():
        yield fetched
        return
    shared: dict[object, object] = {}
    first, have = fetched.first_offset, 0
    for part in fetched.parts:
        low, end, left = _span(part, first)
        while have + left > (most := at_once()):
            rows = max(most - have, 1)
            cut = low + -(-rows * (end - low) // left)  # offsets may have gaps
            if cut >= end:
                break
            yield fetched.piece(first, cut, have + rows, shared)
            first = low = cut
            left, have = left - rows, 0
        have += left
    yield fetched.piece(first, fetched.next_offset, have, shared)


def _span(part: Part, first: int) -> tuple[int, int, int]:
    """Of a part, from ``first`` on: its offsets, and about how many rows it has."""
    if isinstance(part, RecordBatch):
        base, end, count = part.base_offset, part.next_offset, part.count
    else:
        base, end, count = part[0].offset, part[-1].offset + 1, len(part)
    low = min(max(base, first), end)
    return low, end, count * (end - low) // (end - base)
