"""What waits for one slow subscriber: bounded in bytes, the oldest dropped first, every loss told. Sans-I/O."""

from __future__ import annotations

from collections import deque

from streamproc_egress.frames import Item, gap


class Outbox:
    """Frames in order. Those that were dropped come out as one gap per subscription, ahead of what is left.

    Args:
        limit: bytes. A frame alone above it is dropped, too.
    """

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._items: deque[Item] = deque()
        #: Per subscription: first and last number lost, and how many messages. Whatever is queued comes after them.
        self._gaps: dict[int, tuple[int, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._items or self._gaps)

    def push(self, item: Item) -> int:
        """Queues a frame; how many messages were dropped for it."""
        self._items.append(item)
        self.bytes += len(item.framed)
        lost = 0
        while self.bytes > self._limit:
            lost += self._drop()
        return lost

    def pop(self) -> bytes | None:
        """The next frame to write."""
        if self._gaps:
            sid = next(iter(self._gaps))
            first, last, lost = self._gaps.pop(sid)
            return gap(sid, first, last, "slow", lost)
        if self._items:
            item = self._items.popleft()
            self.bytes -= len(item.framed)
            return item.framed
        return None

    def forget(self, sid: int) -> None:
        """Drops all of a subscription that ended; nobody waits to be told."""
        self._gaps.pop(sid, None)
        self._items = deque(item for item in self._items if item.sid != sid)
        self.bytes = sum(len(item.framed) for item in self._items)

    def clear(self) -> None:
        self._items.clear()
        self._gaps.clear()
        self.bytes = 0

    def _drop(self) -> int:
        item = self._items.popleft()
        self.bytes -= len(item.framed)
        first, _, lost = self._gaps.get(item.sid, (item.first, 0, 0))
        self._gaps[item.sid] = (first, item.first + item.n - 1, lost + item.n)
        return 0 if item.gap else item.n
