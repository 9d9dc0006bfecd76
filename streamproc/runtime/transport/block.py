"""Blocks: what one fetch brought of one partition, and who is still busy with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamproc.log.batches import Part, RecordBatch
from streamproc.runtime.transport.ledger import Entry


class Fetched:
    """The record batches that one fetch brought of one partition, from ``first_offset`` on. Batches of formats before
    v2 come as records. ``restarted``: the log has begun anew, with offsets lower than before.
    """

    __slots__ = ("first_offset", "next_offset", "parts", "restarted")

    def __init__(self, first_offset: int, parts: Sequence[Part], next_offset: int, *, restarted: bool = False) -> None:
        self.restarted = restarted
        self.first_offset = first_offset
        self.parts = parts
        self.next_offset = next_offset


class Block:
    """A fetch on its way through the agents. It is finished when every holder has let go; then its offsets may be
    committed.
    """

    __slots__ = ("_finished", "_holders", "_readers", "entry", "fetched", "partition", "shared", "topic")

    def __init__(
        self, topic: str, partition: int, fetched: Fetched, readers: int, finished: Callable[[], None]
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.fetched = fetched
        self.entry: Entry | None = None  # its place in the ledger
        self.shared: dict[object, object] = {}  # what its readers share, such as its decoded columns
        self._readers = self._holders = readers
        self._finished = finished
        if not readers:
            finished()

    def hold(self) -> None:
        """One more must let go before the block is finished. Only while somebody still holds it."""
        self._holders += 1

    def leave(self) -> None:
        """One reader is done with it. With the last one goes what they shared, though results may be under way."""
        self._readers -= 1
        if self._readers == 0:
            self.shared.clear()
        self.release()

    def release(self) -> None:
        """One holder is done."""
        self._holders -= 1
        if self._holders == 0:
            self._finished()

    @property
    def rows(self) -> int:
        """How many records it holds at most; fewer where a fetch began inside a batch or a topic was compacted."""
        return sum(part.count if isinstance(part, RecordBatch) else len(part) for part in self.fetched.parts)

    @property
    def size(self) -> int:
        """Its size on the wire, in bytes."""
        return sum(
            part.size if isinstance(part, RecordBatch) else sum(len(r.value or b"") for r in part)
            for part in self.fetched.parts
        )

    def __repr__(self) -> str:
        return f"Block({self.topic}[{self.partition}] {self.fetched.first_offset}..{self.fetched.next_offset - 1})"
