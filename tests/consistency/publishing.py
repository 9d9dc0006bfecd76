"""Events at a steady rate, some of them out of order and some late, until it is told to stop."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from streamproc.avro.codec import Codec
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.log.partition import partition_of
from streamproc.log.ports import Delivery
from streamproc.settings import KafkaSettings
from tests.consistency.flows import Visit
from tests.consistency.topology import PARTITIONS, Event

UNITS = tuple(f"u{n}" for n in range(36))
SITES = tuple(f"s{n}" for n in range(12))
_TICK = 0.02  # seconds
_STEP_MS = 3  # of event time, from one event to the next
_DISORDER = (0, 0, 0, 0, 0, 0, 50, 150)  # ms; less than the windows' grace
_LATE = 5_000  # ms
_FOR_EVER = 3600.0  # seconds


class Publisher:
    """Writes past all nemeses' network faults, but not past the brokers'. With each event goes a visit, to one of the
    flows' topics.

    Args:
        topic: of the events.
        codecs: of all topics.
        rate: events per second.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        visits: Sequence[str],
        codecs: Mapping[str, Codec],
        rate: float,
        chance: random.Random,
    ) -> None:
        self._topic, self._visits, self._codecs, self._rate, self._chance = topic, visits, codecs, rate, chance
        self._producer = KafkaProducer(kafka, delivery_timeout=_FOR_EVER, close_timeout=60.0)
        self.sent = Counter[str]()  # by topic
        self._now = 1_700_000_000_000  # event time
        self._refused: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def go(self) -> None:
        self._task = asyncio.create_task(self._publish())

    async def pause(self) -> None:
        """Returns when Kafka has all. Event time has gone on so far by then that no window is open but the last
        event's of each partition.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()
            self._task = None
        self._now += 60_000
        firsts: dict[int, str] = {}
        for unit in UNITS:
            firsts.setdefault(partition_of(unit.encode(), PARTITIONS), unit)
        assert len(firsts) == PARTITIONS
        for unit in firsts.values():
            self._send_event(unit, self._now)
            for topic in self._visits:
                self._send_visit(topic, unit, self._now)
        self._now += 60_000
        await self._producer.flush()
        assert not self._refused, self._refused[:3]

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._producer.close()

    async def _publish(self) -> None:
        began, sent = time.monotonic(), 0
        while True:
            while sent < (time.monotonic() - began) * self._rate:
                self._now += _STEP_MS
                self._send_event(self._chance.choice(UNITS), self._now - self._behind())
                self._send_visit(
                    self._chance.choice(self._visits), self._chance.choice(UNITS), self._now - self._behind()
                )
                sent += 1
                if sent % 500 == 0:  # a hold-up may have left many
                    await self._producer.room()
            await asyncio.sleep(_TICK)

    def _behind(self) -> int:
        return _LATE if self._chance.random() < 0.01 else self._chance.choice(_DISORDER)

    def _send_event(self, unit: str, ts: int) -> None:
        self._send(self._topic, Event(f"e{self.sent[self._topic]}", unit, ts, self._chance.randrange(8000) / 8))

    def _send_visit(self, topic: str, unit: str, ts: int) -> None:
        id = f"{topic}{self.sent[topic]}"
        self._send(topic, Visit(id, unit, self._chance.choice(SITES), ts, self._chance.randrange(8000) / 8))

    def _send(self, topic: str, record: Event | Visit) -> None:
        key = record.unit.encode()
        self._producer.send(topic, self._codecs[topic].encode(record), key=key, done=self._told)
        self.sent[topic] += 1

    def _told(self, delivery: Delivery) -> None:
        if delivery.error is not None:
            self._refused.append(str(delivery.error))
