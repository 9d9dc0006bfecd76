"""The log on Kafka, by confluent-kafka (librdkafka). Its memory twin is :class:`streamproc.log.memory.MemoryLog`."""

from __future__ import annotations

from collections.abc import Sequence

from streamproc.log.kafka_history import KafkaHistory
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.log.kafka_tail import KafkaTail
from streamproc.settings import KafkaSettings

__all__ = ["KafkaHistory", "KafkaLog", "KafkaProducer", "KafkaTail"]


class KafkaLog:
    """Makes producers and tails of one cluster. Call its methods inside a running event loop."""

    def __init__(self, settings: KafkaSettings, *, delivery_timeout: float = 30.0) -> None:
        self.settings = settings
        self.delivery_timeout = delivery_timeout

    def producer(self) -> KafkaProducer:
        return KafkaProducer(self.settings, delivery_timeout=self.delivery_timeout)

    def tail(self, topics: Sequence[str]) -> KafkaTail:
        return KafkaTail(self.settings, topics)

    def history(self) -> KafkaHistory:
        return KafkaHistory(self.settings)

    def __repr__(self) -> str:
        return f"KafkaLog({self.settings!r})"
