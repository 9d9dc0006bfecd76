"""Which blocks are finished, and how far a partition may be committed: the end of the longest finished prefix."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator


class Entry:
    """One block's place in the order."""

    __slots__ = ("at", "finished", "next_offset", "processed", "waits")

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self.at = 0  # how many agents are at it
        self.processed = False  # by all its readers, though it may have to be kept
        self.waits = False  # for blocks of other topics
        self.finished = False


class Ledger:
    """Blocks in flight per partition, in order."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, deque[Entry]] = {}
        self._positions: dict[Hashable, int] = {}

    def add(self, partition: Hashable, next_offset: int) -> Entry:
        """A block has been handed out; ``next_offset`` is the first one behind it."""
        entry = Entry(next_offset)
        self._entries.setdefault(partition, deque()).append(entry)
        return entry

    def position(self, partition: Hashable) -> int | None:
        """The offset up to which all is finished; None while nothing is."""
        entries = self._entries.get(partition)
        while entries and entries[0].finished:
            self._positions[partition] = entries.popleft().next_offset
        return self._positions.get(partition)

    def unprocessed(self, partition: Hashable) -> int:
        """How many blocks its readers are not done with."""
        return sum(not (entry.processed or entry.finished) for entry in self._entries.get(partition, ()))

    def at_work(self) -> bool:
        """Whether an agent is at any block."""
        return any(entry.at for entries in self._entries.values() for entry in entries)

    def unkept(self) -> bool:
        """Whether there are blocks that all their readers are done with, and that are not finished."""
        entries = (entry for entries in self._entries.values() for entry in entries)
        return any(entry.processed and not (entry.finished or entry.waits) for entry in entries)

    def clear(self, partition: Hashable | None = None) -> None:
        """Forgets a partition, or all: its blocks will come again. Those that still finish change nothing."""
        for at in [partition] if partition is not None else list(self._entries):
            self._entries.pop(at, None)
            self._positions.pop(at, None)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._entries))

    def __contains__(self, partition: Hashable) -> bool:
        return partition in self._entries
