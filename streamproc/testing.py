"""Testing topologies: a driver with no broker and a clock moved by hand, and a check that every topology should pass.

::

    with TestDriver(app) as driver:
        driver.publish(events, Reading(...), Reading(...))
        driver.advance("1m")
        assert driver.results(bars) == [...]
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.batch import Batch
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter
from streamproc.define.duration import Duration, milliseconds
from streamproc.define.topic import Topic
from streamproc.log.partition import partition_of
from streamproc.log.ports import Headers
from streamproc.record import Record
from streamproc.runtime.tasks import Task, task_for

T = TypeVar("T")


class Result(NamedTuple):
    """One record in a topic of the driver."""

    topic: str
    partition: int
    key: bytes | None
    record: Record
    timestamp: int
    headers: Headers


class TestDriver:
    """Runs a topology without a broker. Every record is encoded and decoded as it would be on its way through Kafka.

    Args:
        app: the topology.
        now: the clock at the start, in milliseconds since the epoch; only :meth:`advance` moves it.
    """

    __test__ = False  # not a test case, though its name begins like one

    def __init__(self, app: App, *, now: int = 0) -> None:
        self.app = app
        self.now = now
        self.log: list[Result] = []
        self._registry = MemoryRegistry()
        self._codecs: dict[str, Codec] = {}
        self._tasks: dict[tuple[str, int], Task] = {}
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._todo: deque[tuple[Topic, Batch]] = deque()
        self._spread = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TestDriver", daemon=True)
        self._thread.start()

    def publish(self, topic: Topic, *records: Record, timestamps: Sequence[int] | None = None) -> None:
        """Puts records into a topic, as one batch per partition, and runs until nothing moves.

        ``timestamps`` are when they are taken in; now, when None.
        """
        stamps = timestamps if timestamps is not None else [self.now] * len(records)
        self._call(self._publish(topic, records, stamps))

    def advance(self, duration: Duration) -> None:
        """Moves the clock on, lets idle windows close, and runs until nothing moves."""
        self.now += milliseconds(duration, "advance")
        self._call(self._advance())

    def results(self, topic: Topic) -> list[Any]:
        """The records that have come to a topic, in order."""
        return [result.record for result in self.log if result.topic == topic.name]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        return self.results(self.app.dead_letters)

    def close(self) -> None:
        """Stops all agents."""
        if self._loop.is_closed():
            return
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> TestDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The outlet of its tasks.

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Appends to a topic, and hands it to those who read it."""
        codec = self._codec(topic)
        by_partition: dict[int, tuple[list[Record], list[int]]] = defaultdict(lambda: ([], []))
        for i, (record, timestamp) in enumerate(zip(records, timestamps, strict=True)):
            decoded = codec.decode(codec.encode(record))
            key = topic.key_of(decoded)
            partition = self._partition(topic, key)
            self.log.append(Result(topic.name, partition, key, decoded, timestamp, headers[i] if headers else ()))
            rows, stamps = by_partition[partition]
            rows.append(decoded)
            stamps.append(timestamp)
        for partition, (rows, stamps) in by_partition.items():
            first = self._ends[topic.name, partition]
            self._ends[topic.name, partition] += len(rows)
            offsets = np.arange(first, first + len(rows), dtype=np.int64)
            batch = Batch(topic.name, partition, topic.record, offsets, np.array(stamps, np.int64), records=rows)
            self._todo.append((topic, batch))

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        """Appends to the dead letters."""
        if record is not None and letter.topic is not None:
            topic = self.app.topics[letter.topic]
            codec = self._codec(topic)
            letter = _with_bytes(letter, topic.key_of(record), codec.encode(record))
        await self.send(self.app.dead_letters, [letter], [self.now])

    # Inside.

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _publish(self, topic: Topic, records: Sequence[Record], timestamps: Sequence[int]) -> None:
        await self.send(topic, records, timestamps)
        await self._settle()

    async def _settle(self) -> None:
        while self._todo:
            topic, batch = self._todo.popleft()
            for reader in self.app.readers(topic):
                at = (reader.name, batch.partition)
                if at not in self._tasks:
                    self._tasks[at] = task_for(reader, self, lambda: self.now)
                await self._tasks[at].take(batch)

    async def _advance(self) -> None:
        for task in list(self._tasks.values()):
            await task.advance()
        await self._settle()

    async def _stop(self) -> None:
        for task in self._tasks.values():
            await task.stop()

    def _codec(self, topic: Topic) -> Codec:
        if topic.name not in self._codecs:
            self._codecs[topic.name] = Codec.of(topic, self._registry)
        return self._codecs[topic.name]

    def _partition(self, topic: Topic, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, topic.partitions)
        self._spread += 1
        return self._spread % topic.partitions


def _with_bytes(letter: DeadLetter, key: bytes | None, value: bytes) -> DeadLetter:
    return msgspec.structs.replace(letter, key=key, value=value)


def split_invariant(app: App, inputs: Mapping[Topic, Sequence[Record]], *, tries: int = 20, seed: int = 0) -> None:
    """Checks that a topology's results do not depend on how its inputs were cut into batches.

    The inputs are run whole, one by one, and cut at random ``tries`` times. Each topic must hold the same records,
    bit for bit and in the same order per key, every time. Dead letters are left out: they hold the clock.

    Raises:
        AssertionError: two runs differ; the message names the topic, the key and the first difference.
    """
    chance = random.Random(seed)
    whole = _run(app, [(topic, list(records)) for topic, records in inputs.items()])
    for attempt in range(tries + 1):
        cuts = [
            (topic, part)
            for topic, records in inputs.items()
            for part in (_cut(records, chance) if attempt else ([record] for record in records))
        ]
        _compare(
            whole, _run(app, cuts), "one by one" if attempt == 0 else f"cut at random (try {attempt}, seed {seed})"
        )


def _cut(records: Sequence[Record], chance: random.Random) -> Iterator[list[Record]]:
    start = 0
    while start < len(records):
        stop = start + chance.choice((1, 2, 3, 7, 50, 1000))
        yield list(records[start:stop])
        start = stop


def _run(app: App, parts: Sequence[tuple[Topic, list[Record]]]) -> dict[tuple[str, bytes | None], list[bytes]]:
    out: dict[tuple[str, bytes | None], list[bytes]] = defaultdict(list)
    with TestDriver(app) as driver:
        for topic, records in parts:
            driver.publish(topic, *records)
        for result in driver.log:
            if result.topic != app.dead_letters.name:
                codec = driver._codec(app.topics[result.topic])
                out[result.topic, result.key].append(codec.encode(result.record)[FRAME.size :])
    return out


def _compare(
    whole: dict[tuple[str, bytes | None], list[bytes]], other: dict[tuple[str, bytes | None], list[bytes]], how: str
) -> None:
    for at in sorted(whole.keys() | other.keys(), key=repr):
        want, got = whole.get(at, []), other.get(at, [])
        if want != got:
            i = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got)))
            raise AssertionError(
                f"topic {at[0]!r}, key {at[1]!r}: {len(want)} results when run whole, {len(got)} {how}; "
                f"the first difference is result {i}"
            )
