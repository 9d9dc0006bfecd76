"""Blocks: what one fetch brought of one partition, and who is still busy with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from streamproc.log.batches import Part, RecordBatch
from streamproc.runtime.transport.ledger import Entry


class Fetched:
    """The record batches that one fetch brought of one partition, from ``first_offset`` on. Batches of formats before
    v2 come as records. ``restarted``: the log has begun anew, with offsets lower than before.

    A piece of a fetch has all of its record batches, but counts only from ``first_offset`` to before ``next_offset``.
    """

    __slots__ = ("begin", "first_offset", "next_offset", "parts", "restarted", "rows", "shared")

    def __init__(self, first_offset: int, parts: Sequence[Part], next_offset: int, *, restarted: bool = False) -> None:
        self.restarted = restarted
        self.begin = self.first_offset = first_offset  # of the fetch, of the piece
        self.parts = parts
        self.next_offset = next_offset
        #: How many records it has at most; fewer where a fetch began inside a batch or a topic was compacted.
        self.rows = sum(part.count if isinstance(part, RecordBatch) else len(part) for part in parts)
        self.shared: dict[object, object] = {}

    def piece(self, first: int, end: int, rows: int, shared: dict[object, object]) -> Fetched:
        """The records of these offsets."""
        some = Fetched(first, self.parts, end, restarted=self.restarted and first == self.first_offset)
        some.begin, some.rows, some.shared = self.begin, rows, shared
        return some

    @property
    def is_piece(self) -> bool:
        """Whether its batches hold more than counts here."""
        return bool(self.parts) and (self.begin < self.first_offset or self.next_offset < _end(self.parts[-1]))


class Block:
    """A fetch on its way through the agents. It is finished when every holder has let go; then its offsets may be
    committed.
    """

    __slots__ = (
        "_finished",
        "_holders",
        "_paced",
        "_readers",
        "_seconds",
        "entry",
        "fetched",
        "partition",
        "shared",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        fetched: Fetched,
        readers: int,
        finished: Callable[[], None],
        paced: Callable[[int, float], None] | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.fetched = fetched
        self.entry: Entry | None = None  # its place in the ledger
        self.shared, fetched.shared = fetched.shared, {}  # what its readers share, such as its decoded columns
        self._paced = paced
        self._seconds = 0.0
        self._readers = self._holders = readers
        self._finished = finished
        if not readers:
            finished()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While an agent is at it, which a rebalance waits for."""
        entry = self.entry
        if entry is None:
            yield
            return
        entry.at += 1
        try:
            yield
        finally:
            entry.at -= 1

    def hold(self) -> None:
        """One more must let go before the block is finished. Only while somebody still holds it."""
        self._holders += 1

    def leave(self, seconds: float = 0.0) -> None:
        """One reader is done with it, and took so long. With the last one goes what they shared, though results may be
        under way.
        """
        self._readers -= 1
        self._seconds += seconds
        if self._readers == 0:
            self.shared = {}
            if self.entry is not None:
                self.entry.processed = True
            if self._paced is not None:
                self._paced(self.rows, self._seconds)
        self.release()

    def release(self) -> None:
        """One holder is done."""
        self._holders -= 1
        if self._holders == 0:
            self._finished()

    @property
    def rows(self) -> int:
        return self.fetched.rows

    @property
    def size(self) -> int:
        """Its size on the wire, in bytes."""
        return sum(
            part.size if isinstance(part, RecordBatch) else sum(len(r.value or b"") for r in part)
            for part in self.fetched.parts
        )

    def __repr__(self) -> str:
        return f"Block({self.topic}[{self.partition}] {self.fetched.first_offset}..{self.fetched.next_offset - 1})"


def _end(part: Part) -> int:
    return part.next_offset if isinstance(part, RecordBatch) else part[-1].offset + 1
