"""A short round of what clients do, for the archive of classes: a topic, a transaction, a group."""

from __future__ import annotations

import uuid

TIMEOUT = 30.0


def exercise(bootstrap: str) -> None:
    """Creates a topic, writes in a transaction, reads it in a group, and commits. Failures are ignored."""
    from confluent_kafka import Consumer, KafkaException, Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    base = {"bootstrap.servers": bootstrap, "log_level": 0}
    name = f"exercise-{uuid.uuid4().hex}"
    try:
        admin = AdminClient(base)
        admin.create_topics([NewTopic(name, 2, 1)])[name].result(TIMEOUT)
        producer = Producer({**base, "transactional.id": name, "compression.type": "lz4"})
        producer.init_transactions(TIMEOUT)
        producer.begin_transaction()
        for number in range(100):
            producer.produce(name, b"value", key=b"%d" % number)
        producer.commit_transaction(TIMEOUT)
        consumer = Consumer({**base, "group.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False})
        try:
            consumer.subscribe([name])
            if consumer.consume(100, TIMEOUT / 3):
                consumer.commit(asynchronous=False)
        finally:
            consumer.close()
        admin.delete_topics([name])[name].result(TIMEOUT)
    except KafkaException:
        pass
