"""From librdkafka's records to ours."""

from __future__ import annotations

from confluent_kafka import Message as Raw

from streamproc.log.ports import Message


def message_of(raw: Raw) -> Message:
    """A record that came without an error. Then all of it is set; the types of confluent-kafka do not know."""
    topic, partition, offset = raw.topic() or "", raw.partition() or 0, raw.offset() or 0
    headers = tuple((name, value or b"") for name, value in raw.headers() or ())
    return Message(topic, partition, offset, raw.timestamp()[1], raw.key(), raw.value(), headers)
