"""What the edges and the worker need of a log. Two implementations, one test suite: ``memory`` and ``kafka``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes]]
DEFAULT_MESSAGE_LIMIT = 1_048_588  # bytes of a record batch: Kafka's default of max.message.bytes


class Message(NamedTuple):
    """One record as it lies in the log. ``timestamp`` is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Delivery(NamedTuple):
    """What became of one sent record: where it lies, or why it does not (``error`` is None when it does)."""

    partition: int
    offset: int
    error: Exception | None


class QueueFull(Exception):
    """The producer's bounded queue has no room; wait for :meth:`Producer.room`."""


class Producer(Protocol):
    """Sends records. Idempotent, ``acks=all``; bounded in records and bytes; order is kept per partition."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
        partition: int | None = None,
        done: Callable[[Delivery], None] | None = None,
    ) -> None:
        """Queues one record. Returns at once.

        Args:
            timestamp: milliseconds since the epoch; now, when None.
            partition: the key's, by murmur2 as in Java's client, when None.
            done: called on the event loop's thread, once, when the log has the record or refused it for good.

        Raises:
            QueueFull: nothing was queued.
        """

    async def room(self) -> None:
        """Returns when :meth:`send` is likely to be taken again."""

    async def flush(self) -> None:
        """Returns when every record sent so far has been delivered or refused, and its ``done`` called."""

    async def close(self) -> None:
        """Flushes and lets go."""


class Tail(Protocol):
    """Reads topics from their ends on, every partition, without a consumer group."""

    def __aiter__(self) -> AsyncIterator[list[Message]]:
        """Yields what one poll brought, in order per partition, never an empty list."""

    async def close(self) -> None: ...


class TopicSpec(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int = 4
    replication: int = 1
    config: Mapping[str, str] = {}


class TopicInfo(NamedTuple):
    """A topic as it is. ``begin`` and ``end`` are offsets per partition."""

    name: str
    partitions: int
    replication: int
    begin: tuple[int, ...]
    end: tuple[int, ...]
    config: Mapping[str, str]


class Admin(Protocol):
    """Looks after topics."""

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Creates those that are missing. Raises TopicError where one is there with fewer or more partitions."""

    async def describe(self, names: Sequence[str]) -> list[TopicInfo]:
        """Raises TopicError for a name that is not there."""

    async def list(self) -> Sequence[str]:
        """Names of all topics that are not internal, sorted."""

    async def delete(self, names: Sequence[str]) -> None:
        """Raises TopicError for a name that is not there."""

    async def close(self) -> None: ...


class Marks(NamedTuple):
    """What of a topic can be read. ``id`` is the log's name for this very topic: made anew, it has another.

    ``begin`` and ``end`` are offsets per partition.
    """

    id: str
    begin: tuple[int, ...]
    end: tuple[int, ...]


class History(Protocol):
    """Reads parts of topics that lie behind, without a consumer group."""

    async def marks(self, topic: str) -> Marks:
        """Raises TopicError for a topic that is not there, and BrokerUnavailable."""

    async def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """Per partition, the first offset whose timestamp is not before ``timestamp``, in milliseconds since the epoch;
        the end where there is none. Raises as :meth:`marks` does.
        """

    def read(self, topic: str, begin: Mapping[int, int], end: Mapping[int, int]) -> AsyncGenerator[list[Message], None]:
        """Records from ``begin`` to before ``end``, by partition, in order within each. Reads no faster than it is
        asked, and ends when there is no more. Close it when it is left early. Raises as :meth:`marks` does.
        """

    async def close(self) -> None: ...
