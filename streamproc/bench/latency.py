"""One event at a time, Kafka to Kafka: the worker's agent beside a bare pass-through consumer, in turns.

An event is sent when the last one's result is there and a short random pause is over. What is measured goes from
handing the event to the producer until the consumer gives its result: so it holds both clients, and the bare way is the
floor.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamproc.avro.agree import schema_of
from streamproc.bench.fixture import Fixtures
from streamproc.bench.metered import REGISTRY
from streamproc.bench.process import process
from streamproc.bench.produce import encoder
from streamproc.bench.records import Ping
from streamproc.bench.run import WORKER
from streamproc.bench.topics import PARTITIONS, Topics, columns
from streamproc.errors import StreamprocError

WAYS = ("bare", "streamproc")
_WARM = 50  # events that do not count
_PAUSE = 0.008  # seconds at most
_PATIENCE = 10.0  # seconds for one result
_STOP = 20.0  # seconds for the worker to leave its group
_BARE = (sys.executable, "-m", "streamproc.bench.bare")


@dataclass(slots=True)
class Latencies:
    """Milliseconds, by way and round."""

    job: str
    p50: dict[str, list[float]] = field(default_factory=dict)
    p99: dict[str, list[float]] = field(default_factory=dict)
    events: int = 0
    flushes: list[tuple[float, float]] = field(default_factory=list)  # p50 and p99 of keeping state, by round

    def add(self, way: str, seconds: list[float]) -> None:
        """A round's."""
        self.p50.setdefault(way, []).append(float(np.median(seconds)) * 1000)
        self.p99.setdefault(way, []).append(float(np.quantile(seconds, 0.99)) * 1000)
        self.events += len(seconds)

    def median(self, way: str) -> tuple[float, float]:
        """The medians over the rounds of p50 and p99."""
        return statistics.median(self.p50[way]), statistics.median(self.p99[way])

    def flush(self) -> tuple[float, float] | None:
        """The medians over the rounds of a flush's p50 and p99, where there are any."""
        if not self.flushes:
            return None
        return statistics.median(x for x, _ in self.flushes), statistics.median(x for _, x in self.flushes)

    def told(self) -> str:
        """The last round, in a line."""
        ways = [f"{way} p50 {self.p50[way][-1]:.2f} ms, p99 {self.p99[way][-1]:.2f} ms" for way in self.p50]
        ways += [f"flush p50 {p50:.2f} ms, p99 {p99:.2f} ms" for p50, p99 in self.flushes[-1:]]
        return f"round {len(self.p50[WAYS[-1]])} {self.job:15} {'; '.join(ways)}"


class Loop:
    """Sends events to either way and waits for each result."""

    def __init__(
        self, topics: Topics, sources: dict[str, str], sinks: dict[str, str], schema_ids: dict[str, int]
    ) -> None:
        self._sources, self._ways = sources, {sink: way for way, sink in sinks.items()}
        schema = schema_of(Ping)
        self._schema = schema
        self._encode = {way: encoder(schema, schema_ids[way]) for way in WAYS}
        kafka = topics.kafka.librdkafka()
        self._producer = Producer(kafka | {"enable.idempotence": True, "linger.ms": 0, "log_level": 3})
        self._consumer = Consumer(kafka | {"group.id": "one", "enable.auto.commit": False, "log_level": 3})
        self._consumer.assign([TopicPartition(sink, p, 0) for sink in sinks.values() for p in range(PARTITIONS)])
        self._number = 0

    def once(self, way: str) -> float:
        """Seconds from an event to its result. Raises StreamprocError for none, or a wrong one."""
        self._number += 1
        row = {"id": f"ping-{self._number}", "ts": 1_700_000_000_000 + self._number, "value": random.random()}
        value = self._encode[way](row)
        began = time.perf_counter()
        self._producer.produce(self._sources[way], value, str(row["id"]).encode())
        self._producer.poll(0)
        message = self._consumer.poll(_PATIENCE)
        seconds = time.perf_counter() - began
        self._check(way, row, message)
        return seconds

    def _check(self, way: str, row: dict[str, object], message: Message | None) -> None:
        if message is None or message.error() is not None:
            raise StreamprocError(f"one, {way}: no result within {_PATIENCE:g} s: {message and message.error()}")
        (found,) = columns([message.value() or b""], self._schema).rows(named=True)
        wanted = row if way == "bare" else row | {"value": float(str(row["value"])) * 2}
        if found != wanted or self._ways[str(message.topic())] != way:
            raise StreamprocError(f"one, {way}: expected {wanted}; got {found} in {message.topic()}")

    def close(self) -> None:
        self._producer.flush(5.0)
        self._consumer.close()


def one_at_a_time(fixtures: Fixtures, found: Latencies, events: int, timeout: float) -> None:
    """One round of ``events`` on each way, added to ``found``.

    Raises:
        StreamprocError: a result was wrong, or did not come.
    """
    topics = fixtures.topics
    names = {way: topics.name(f"one-{way}") for way in WAYS}
    sources = {way: topics.make(topics.name(f"pings-{way}")) for way in WAYS}
    sinks = {way: f"{name}-out" for way, name in names.items()}
    ids = {way: fixtures.registry.register(f"{sources[way]}-value", schema_of(Ping)) for way in WAYS}
    environ = topics.kafka.environ() | {REGISTRY: fixtures.registry_url}
    topics.make(sinks["bare"])
    try:
        with ExitStack() as stack:
            bare = stack.enter_context(process([*_BARE, sources["bare"], sinks["bare"]], environ))
            command = [*WORKER, "one", sources["streamproc"], names["streamproc"], "0"]
            worker = stack.enter_context(process(command, environ))
            for child in (bare, worker):
                child.line("up", timeout)
            loop = Loop(topics, sources, sinks, ids)
            stack.callback(loop.close)
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(_WARM + events):
                for way in WAYS:
                    time.sleep(random.random() * _PAUSE)
                    took = loop.once(way)
                    if number >= _WARM:
                        seconds[way].append(took)
            worker.close_input()
            worker.wait(_STOP)
        for way in WAYS:
            found.add(way, seconds[way])
    finally:
        for name in (*names.values(), *sources.values()):
            topics.drop(name)
