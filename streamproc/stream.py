"""Streams: what an agent reads. The worker feeds them; agents only iterate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from streamproc.batch import Batch
from streamproc.record import Record

T = TypeVar("T")


class Event(NamedTuple, Generic[T]):
    """One event and where it lies. ``timestamp`` is when it was taken in, in milliseconds since the epoch."""

    value: T
    topic: str
    partition: int
    offset: int
    timestamp: int


class Feed(Protocol):
    """What stands behind a stream."""

    async def next_row(self) -> tuple[Batch, int]: ...

    async def next_batch(self) -> Batch: ...


class Stream(Generic[T]):
    """The events of one partition, in order, for ever. Asking for the next one says that the last one is done."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __aiter__(self) -> AsyncIterator[T]:
        return self._values()

    async def _values(self) -> AsyncIterator[T]:
        while True:
            batch, row = await self._feed.next_row()
            value: Record = batch.records()[row]
            yield value  # type: ignore[misc]

    async def events(self) -> AsyncIterator[Event[T]]:
        """Events with their positions."""
        while True:
            batch, row = await self._feed.next_row()
            value: Record = batch.records()[row]
            offset, timestamp = int(batch.offsets[row]), int(batch.timestamps[row])
            yield Event(value, batch.topic, batch.partition, offset, timestamp)  # type: ignore[arg-type]

    async def batches(self) -> AsyncIterator[Batch]:
        """Events as columns, as many at a time as there are: one when they come singly, tens of thousands when there
        is a backlog.
        """
        while True:
            yield await self._feed.next_batch()
