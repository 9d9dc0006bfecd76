"""Streams: what an agent reads. The worker feeds them; agents only iterate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, NamedTuple, NoReturn, Protocol, TypeVar

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
    """The events of one partition, in order, for ever.

    Asking for the next event says that the last one is done: its results go out, and it will not come again. So what an
    agent yields belongs to the event in work at that moment. An agent that takes ten events and then yields for all of
    them ties their results to the tenth: should that one raise, the results of the ten are dropped with it, while the
    first nine count as done; and what it keeps of them in local variables is lost whenever it is started anew. Yield
    for each event before asking for the next, and keep what must outlast an event in a table.

    After an event that raised, the function is called anew, and the next event is its first. Of a batch that raised,
    each half comes again, down to single rows: change tables last.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    # Plain iterators, not async generators: those that an agent leaves when it raises would have to be closed.

    def __aiter__(self) -> AsyncIterator[T]:
        return _Asked(self._value)

    def __iter__(self) -> NoReturn:
        raise TypeError("a stream is read with `async for event in stream`, not with `for`")

    def events(self) -> AsyncIterator[Event[T]]:
        """Events with their positions."""
        return _Asked(self._event)

    def batches(self) -> AsyncIterator[Batch]:
        """Events as columns, as many at a time as there are: one when they come singly, tens of thousands when there
        is a backlog.
        """
        return _Asked(self._feed.next_batch)

    async def _value(self) -> T:
        batch, row = await self._feed.next_row()
        return batch.records()[row]  # type: ignore[return-value]

    async def _event(self) -> Event[T]:
        batch, row = await self._feed.next_row()
        value: Record = batch.records()[row]
        offset, timestamp = int(batch.offsets[row]), int(batch.timestamps[row])
        return Event(value, batch.topic, batch.partition, offset, timestamp)  # type: ignore[arg-type]


class _Asked(Generic[T]):
    """Iterates for ever over what ``ask`` gives."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask

    def __aiter__(self) -> _Asked[T]:
        return self

    def __anext__(self) -> Awaitable[T]:
        return self._ask()
