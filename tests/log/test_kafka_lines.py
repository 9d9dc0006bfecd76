"""A broker that is away is one line, not a flood."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError

from streamproc.errors import BrokerError, BrokerUnavailable, TopicError
from streamproc.log.kafka_lines import Lines, exception


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines("producer", "h:9092")
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            lines.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#producer-1", "Connection refused")
            lines.error(KafkaError(KafkaError._TRANSPORT, "refused"))
            lines.error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
        assert lines.down == "1/1 brokers are down"
        lines.alive()
        lines.alive()
    assert [record.getMessage() for record in caplog.records] == [
        "producer of Kafka at h:9092 does not answer (1/1 brokers are down); trying again until it does",
        "producer of Kafka at h:9092 answers again",
    ]
    assert lines.down is None


def test_lines_of_one_kind_are_limited_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    lines = Lines("tail", "h:9092", every=10, now=clock)
    for second in range(21):
        clock.now = float(second)
        lines.log(logging.WARNING, "%s [%s] %s", "THING", "rdkafka#consumer-1", f"at {second}")
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "at 0",
        "at 10 (9 more since)",
        "at 20 (9 more since)",
    ]


def test_a_fatal_error_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines("producer", "h:9092")
    lines.error(KafkaError(KafkaError._FENCED, "fenced", True))
    assert lines.fatal == "fenced"
    assert "can go on no more: fenced" in caplog.text


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._MSG_TIMED_OUT, BrokerUnavailable),
        (KafkaError._PURGE_QUEUE, BrokerUnavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, BrokerUnavailable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, TopicError),
        (KafkaError.MSG_SIZE_TOO_LARGE, BrokerError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, BrokerError),
    ],
)
def test_librdkafka_s_errors_are_ours(code: int, kind: type[BrokerError]) -> None:
    assert type(exception(KafkaError(code), "t")) is kind
