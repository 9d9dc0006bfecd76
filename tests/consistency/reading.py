"""Follows topics of a run in a thread: what is committed in them, and when it came."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streamproc.settings import KafkaSettings
from tests.consistency.offsets import Place


class Came(NamedTuple):
    """A record."""

    offset: int
    key: bytes | None
    value: bytes | None


class Reader:
    """Reads all partitions of topics, from their beginnings on, what is committed.

    Args:
        keep: topics of which records are kept until somebody takes them; of others only the last of each key.
        watch: the topic of which it is noted when records come.
    """

    def __init__(self, kafka: KafkaSettings, topics: dict[str, int], *, latest: set[str], watch: str) -> None:
        self._consumer = Consumer(
            kafka.librdkafka()
            | {
                "group.id": "reads everything",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "fetch.queue.backoff.ms": 10,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._latest, self._watch = latest, watch
        self._places = [(topic, partition) for topic, count in topics.items() for partition in range(count)]
        self._lock = threading.Lock()
        self._at: dict[Place, int] = dict.fromkeys(self._places, 0)
        self._came: defaultdict[Place, list[Came]] = defaultdict(list)
        self._last: defaultdict[Place, dict[bytes, bytes]] = defaultdict(dict)
        self._arrivals: defaultdict[int, list[float]] = defaultdict(list)
        self._ending = False
        self._failure: BaseException | None = None
        self._consumer.assign([TopicPartition(*place, 0) for place in self._places])
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def take(self, topic: str, partition: int) -> list[Came]:
        """What came of a topic since the last time."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return self._came.pop((topic, partition), [])

    def last(self, topic: str, partition: int) -> dict[bytes, bytes]:
        """The last value of each key."""
        with self._lock:
            return dict(self._last[topic, partition])

    def arrivals(self, since: float) -> dict[int, list[float]]:
        """When something came of the watched topic, by partition; forgets what came before ``since``."""
        with self._lock:
            for times in self._arrivals.values():
                while times and times[0] < since:
                    times.pop(0)
            return {partition: list(times) for partition, times in self._arrivals.items()}

    def has(self, ends: dict[Place, int]) -> bool:
        """Whether all before these offsets was read."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            return all(self._at[place] >= end for place, end in ends.items() if place in self._at)

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._ending:
                came = self._consumer.consume(2000, 0.05)
                now = time.monotonic()
                with self._lock:
                    for raw in came:
                        self._note(raw, now)
        except BaseException as error:
            self._failure = error

    def _note(self, raw: Any, now: float) -> None:
        topic, partition, offset = raw.topic(), raw.partition(), raw.offset()
        error = raw.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._at[topic, partition] = max(self._at[topic, partition], offset)
            return  # of others librdkafka goes on by itself
        place, key, value = (topic, partition), raw.key(), raw.value()
        assert offset >= self._at[place], f"{place}: offset {offset} after {self._at[place]}"
        self._at[place] = offset + 1
        if topic in self._latest:
            if value is None:
                self._last[place].pop(key, None)
            else:
                self._last[place][key] = value
            return
        if topic == self._watch:
            times = self._arrivals[partition]
            if not times or times[-1] < now:
                times.append(now)
        self._came[place].append(Came(offset, key, value))
