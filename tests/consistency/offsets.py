"""How far a topic and a consumer group are.

By a consumer that is no member: librdkafka's admin client ends the process where a group's coordinator has moved
(confluent-kafka-javascript#374).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamproc.settings import KafkaSettings

Place = tuple[str, int]  # topic, partition
_T = TypeVar("_T")
_ANSWER = 5.0  # seconds
_LOOK = 0.1


class Offsets:
    """Asks as long as it takes, up to ``patience`` seconds: brokers may just come back."""

    def __init__(self, kafka: KafkaSettings, group: str, *, patience: float) -> None:
        self._conf = kafka.librdkafka() | {"group.id": group, "log_level": 0}
        self._consumer, self._patience = Consumer(self._conf), patience

    def close(self) -> None:
        self._consumer.close()

    async def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Where partitions end."""
        return {place: await self._ask(partial(self._end, place)) for place in places}

    async def committed(self, topic: str, partitions: int) -> list[int]:
        """What the group has committed, by partition; 0 where it has nothing."""
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        found = await self._ask(lambda: self._consumer.committed(wanted, timeout=_ANSWER))
        return [max(0, tp.offset) for tp in found]

    def _end(self, place: Place) -> int:
        found = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_ANSWER)
        if found is None:
            raise KafkaException(f"no answer about {place}")
        return int(found[1])

    async def _ask(self, question: Callable[[], _T]) -> _T:
        until = time.monotonic() + self._patience
        while True:
            try:
                return await asyncio.to_thread(question)
            except KafkaException:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_LOOK)
                # One that has lost its coordinator may look for it for minutes.
                await asyncio.to_thread(self._consumer.close)
                self._consumer = Consumer(self._conf)
