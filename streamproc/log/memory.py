"""A log in memory: the twin of Kafka for tests, for one process and one event loop."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from streamproc.errors import BrokerUnavailable, TopicError
from streamproc.log.partition import partition_of
from streamproc.log.ports import Delivery, Headers, Marks, Message, QueueFull, TopicInfo, TopicSpec

Done = Callable[[Delivery], None]


class _Sent(NamedTuple):
    topic: str
    value: bytes | None
    key: bytes | None
    timestamp: int
    headers: Headers
    partition: int | None
    done: Done | None


class MemoryLog:
    """Topics as lists. Records are delivered in the loop's next round, as Kafka's reports come later than the send.

    Args:
        max_messages: how many undelivered records a producer holds before it raises QueueFull.

    ``down()`` plays a broker that went away: records wait. ``up()`` delivers them; ``expire()`` refuses them for good,
    as a delivery timeout does.
    """

    def __init__(self, *topics: TopicSpec, max_messages: int = 10_000) -> None:
        self.max_messages = max_messages
        self.is_down = False
        #: By topic and partition, the first offset that retention has left.
        self.gone: dict[tuple[str, int], int] = {}
        self.topics: dict[str, list[list[Message]]] = {}
        self._specs: dict[str, TopicSpec] = {}
        self._producers: list[MemoryProducer] = []
        self._tails: list[MemoryTail] = []
        self._turn = 0
        for spec in topics:
            self.create(spec)

    def create(self, spec: TopicSpec) -> None:
        """Makes a topic, or adds partitions to it."""
        partitions = self.topics.setdefault(spec.name, [])
        partitions.extend([] for _ in range(spec.partitions - len(partitions)))
        self._specs[spec.name] = spec

    def producer(self) -> MemoryProducer:
        producer = MemoryProducer(self)
        self._producers.append(producer)
        return producer

    def tail(self, topics: Sequence[str]) -> MemoryTail:
        tail = MemoryTail(self, topics)
        self._tails.append(tail)
        return tail

    def admin(self) -> MemoryAdmin:
        return MemoryAdmin(self)

    def history(self) -> MemoryHistory:
        return MemoryHistory(self)

    def messages(self, topic: str) -> list[Message]:
        """Everything in a topic, partition after partition."""
        return [message for partition in self.topics.get(topic, []) for message in partition]

    def down(self) -> None:
        self.is_down = True

    def up(self) -> None:
        self.is_down = False
        for producer in self._producers:
            producer.wake()

    def expire(self) -> None:
        """Refuses what waits, as after Kafka's delivery timeout."""
        for producer in self._producers:
            producer.refuse(BrokerUnavailable("delivery timed out"))

    def append(self, sent: _Sent) -> Message:
        """Raises TopicError for a topic or partition that is not there."""
        partitions = self.topics.get(sent.topic)
        if not partitions:
            raise TopicError(f"no topic {sent.topic!r}")
        number = sent.partition
        if number is None:
            self._turn += 1
            number = (self._turn if sent.key is None else partition_of(sent.key, len(partitions))) % len(partitions)
        if not 0 <= number < len(partitions):
            raise TopicError(f"topic {sent.topic!r} has partitions 0 to {len(partitions) - 1}; got {number}")
        message = Message(
            sent.topic, number, len(partitions[number]), sent.timestamp, sent.key, sent.value, tuple(sent.headers)
        )
        partitions[number].append(message)
        return message

    def appended(self) -> None:
        for tail in self._tails:
            tail.wake()

    def forget(self, tail: MemoryTail) -> None:
        self._tails.remove(tail)


class MemoryProducer:
    """Of the port :class:`streamproc.log.ports.Producer`."""

    fatal: str | None = None

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Sent] = deque()
        self._scheduled = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def problem(self) -> str | None:
        return "down" if self._log.is_down else None

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
        partition: int | None = None,
        done: Done | None = None,
    ) -> None:
        if len(self._queue) >= self._log.max_messages:
            raise QueueFull
        stamp = int(time.time() * 1000) if timestamp is None else timestamp
        self._queue.append(_Sent(topic, value, key, stamp, headers, partition, done))
        self.wake()

    async def room(self) -> None:
        while len(self._queue) >= self._log.max_messages:
            await self._change()

    async def flush(self) -> None:
        while self._queue:
            await self._change()

    async def close(self, timeout: float | None = None) -> None:
        if self._log.is_down:
            self.refuse(BrokerUnavailable("closed before the log had it"))
        await self.flush()

    def wake(self) -> None:
        if not self._scheduled and not self._log.is_down:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def refuse(self, error: Exception) -> None:
        while self._queue:
            sent = self._queue.popleft()
            if sent.done:
                sent.done(Delivery(-1, -1, error))
        self._changed()

    def _deliver(self) -> None:
        self._scheduled = False
        if self._log.is_down:
            return
        round_, self._queue = self._queue, deque()
        for sent in round_:
            try:
                message = self._log.append(sent)
            except TopicError as error:
                delivery = Delivery(-1, -1, error)
            else:
                delivery = Delivery(message.partition, message.offset, None)
            if sent.done:
                sent.done(delivery)
        self._log.appended()
        self._changed()

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class MemoryTail:
    """Of the port :class:`streamproc.log.ports.Tail`."""

    def __init__(self, log: MemoryLog, topics: Sequence[str]) -> None:
        self._log = log
        self._closed = False
        self._event = asyncio.Event()
        # A partition that is not there yet is read from its first record: all of them are new.
        self._next = {topic: [len(p) for p in log.topics.get(topic, [])] for topic in topics}

    @property
    def problem(self) -> str | None:
        return "down" if self._log.is_down else None

    async def ready(self) -> None:
        """Returns when every record sent from now on will be seen."""

    async def __aiter__(self) -> AsyncIterator[list[Message]]:
        while not self._closed:
            self._event.clear()
            if messages := self._poll():
                yield messages
            else:
                await self._event.wait()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._event.set()
            self._log.forget(self)

    def wake(self) -> None:
        self._event.set()

    def _poll(self) -> list[Message]:
        messages: list[Message] = []
        for topic, positions in self._next.items():
            partitions = self._log.topics.get(topic, [])
            positions.extend(0 for _ in range(len(partitions) - len(positions)))
            for number, partition in enumerate(partitions):
                messages.extend(partition[positions[number] :])
                positions[number] = len(partition)
        return messages


class MemoryAdmin:
    """Of the port :class:`streamproc.log.ports.Admin`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        for spec in topics:
            there = self._log.topics.get(spec.name)
            if there is None:
                self._log.create(spec)
            elif len(there) != spec.partitions:
                raise TopicError(f"topic {spec.name!r} has {len(there)} partitions; expected {spec.partitions}")

    async def list(self) -> list[str]:
        return sorted(self._log.topics)

    async def describe(self, names: Sequence[str]) -> builtins.list[TopicInfo]:
        return [self._describe(name) for name in names]

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._describe(name)
            del self._log.topics[name]

    async def close(self) -> None:
        pass

    def _describe(self, name: str) -> TopicInfo:
        if name not in self._log.topics:
            raise TopicError(f"no topic {name!r}")
        partitions, spec = self._log.topics[name], self._log._specs[name]
        ends = tuple(len(partition) for partition in partitions)
        return TopicInfo(name, len(partitions), spec.replication, (0,) * len(ends), ends, spec.config)


class MemoryHistory:
    """Of the port :class:`streamproc.log.ports.History`. ``begin`` plays retention: what lies before is gone."""

    STEP = 100

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def marks(self, topic: str) -> Marks:
        partitions = self._partitions(topic)
        gone = tuple(self._log.gone.get((topic, number), 0) for number in range(len(partitions)))
        return Marks(f"id-of-{topic}", gone, tuple(len(partition) for partition in partitions))

    async def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        return tuple(
            next((message.offset for message in partition if message.timestamp >= timestamp), len(partition))
            for partition in self._partitions(topic)
        )

    async def read(
        self, topic: str, begin: Mapping[int, int], end: Mapping[int, int]
    ) -> AsyncGenerator[builtins.list[Message], None]:
        partitions = self._partitions(topic)
        for number, offset in begin.items():
            first = max(offset, self._log.gone.get((topic, number), 0))
            while found := partitions[number][first : min(first + self.STEP, end.get(number, 0))]:
                await asyncio.sleep(0)
                yield found
                first += len(found)

    async def close(self) -> None:
        pass

    def _partitions(self, topic: str) -> builtins.list[builtins.list[Message]]:
        if self._log.is_down:
            raise BrokerUnavailable("down")
        if topic not in self._log.topics:
            raise TopicError(f"no topic {topic!r}")
        return self._log.topics[topic]
