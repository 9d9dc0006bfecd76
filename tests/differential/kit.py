"""Topics that both sides read, what lies in them, and when all of it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamproc.avro.agree import schema_of
from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.bench.produce import encoder
from streamproc.bench.topics import committed
from streamproc.define.app import App
from streamproc.errors import StreamprocError
from streamproc.log.partition import partition_of
from streamproc.record import Record
from streamproc.settings import KafkaSettings
from tests.differential.inputs import PARTITIONS
from tests.differential.jobs import Job, Round

_PATIENCE = 120.0  # seconds for a round
_LOOK = 0.1


class Place:
    """A Kafka, and a registry in a file."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.registry_url = f"file:{folder / 'registry.json'}"
        self.registry = open_registry(self.registry_url)
        self._admin = AdminClient(kafka.librdkafka())

    def make(self, topic: str, record: type[Record]) -> int:
        """A topic, and its schema's number."""
        config = {"retention.ms": "-1"}
        for made in self._admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)]).values():
            made.result(30)
        return self.registry.register(f"{topic}-value", schema_of(record))

    def publish(self, app: str, job: Job, ids: Mapping[str, int], events: Round) -> None:
        """Writes a round, each key where Java's producer would put it, in the order given."""
        options = {"enable.idempotence": True, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
        producer = Producer(self.kafka.librdkafka() | options)
        encode = {short: encoder(schema_of(record), ids[short]) for short, record in job.sources.items()}
        for short, row in events:
            key = str(next(iter(row.values()))).encode()
            producer.produce(f"{app}-{short}", encode[short](row), key, partition_of(key, PARTITIONS))
            producer.poll(0)
        assert producer.flush(_PATIENCE) == 0

    def read(self, topic: str, app: App) -> list[Record]:
        """All results in a topic that are committed."""
        codec = Codec.of(app.topics[f"{app.name}-out"], self.registry)
        return [codec.decode(value) for value in self._values(self._whole(topic))]

    def count(self, topic: str) -> int:
        """How many records a topic has."""
        return len(self._values(self._whole(topic)))

    def until_done(
        self, group: str, topics: Callable[[], Iterable[str]], alive: Callable[[], None], timeout: float
    ) -> None:
        """Returns when the group has committed all that lies in the topics, or comes to lie there while it works.

        What is committed is asked first: it is committed when Kafka has what came of it.

        Raises:
            StreamprocError: that took longer than ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            alive()
            names = sorted(topics())
            if names and not self._values(self._behind(group, names), at_most=1):
                return
            if time.monotonic() > deadline:
                raise StreamprocError(f"{group}: not done within {timeout:g} s")
            time.sleep(_LOOK)

    def topics_of(self, application: str, short: Sequence[str]) -> Callable[[], list[str]]:
        """Sources by their short names, and the repartition topics that an application has made."""

        def there() -> list[str]:
            known = self._admin.list_topics(timeout=30).topics
            made = [name for name in known if name.startswith(application) and "-repartition" in name]
            return [*short, *made]

        return there

    def _whole(self, topic: str) -> list[TopicPartition]:
        there = self._admin.list_topics(topic, timeout=30).topics[topic].partitions
        return [TopicPartition(topic, partition, 0) for partition in there]

    def _behind(self, group: str, topics: Sequence[str]) -> list[TopicPartition]:
        return committed(self.kafka, group, [TopicPartition(name, p) for name in topics for p in range(PARTITIONS)])

    def _values(self, places: Sequence[TopicPartition], at_most: int = 1 << 62) -> list[bytes]:
        """Values from these places on to the ends; the markers of transactions are not among them."""
        options = {
            "group.id": "reads",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
        found: list[bytes] = []
        with closing(Consumer(self.kafka.librdkafka() | options)) as consumer:
            consumer.assign(list(places))
            ended: set[tuple[str, int]] = set()
            deadline = time.monotonic() + _PATIENCE
            while len(ended) < len(places) and len(found) < at_most:
                for message in consumer.consume(10_000, 0.2):
                    if (error := message.error()) is None:
                        found.append(message.value() or b"")
                    else:
                        assert error.code() == KafkaError._PARTITION_EOF, error
                        ended.add((str(message.topic()), int(message.partition() or 0)))
                assert time.monotonic() < deadline, f"the ends of {places} do not come"
        return found
