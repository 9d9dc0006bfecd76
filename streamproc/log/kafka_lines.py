"""What librdkafka says, as few clear lines: one when a cluster stops answering, one when it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import KafkaError

from streamproc.errors import BrokerError, BrokerUnavailable, TopicError

logger = logging.getLogger("streamproc.log.kafka")

#: Said by librdkafka at each try to connect, or as news of no consequence; an outage is said once, by this module.
_CHATTER = frozenset({"FAIL", "ERROR", "GETPID", "METADATAUPDATE"})
_UNAVAILABLE = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._RESOLVE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
_NO_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_EXCEPTION,
    }
)


def exception(error: KafkaError, topic: str = "") -> BrokerError:
    """What of this platform's errors a librdkafka error is. BrokerUnavailable means that a later try may succeed."""
    if error.code() in _UNAVAILABLE:
        return BrokerUnavailable(f"Kafka did not take it in time: {error.str()}")
    if error.code() in _NO_TOPIC:
        return TopicError(f"Kafka has no such topic or partition{f': {topic!r}' if topic else ''}: {error.str()}")
    return BrokerError(f"Kafka refused it: {error.str()}")


class Lines:
    """The ``logger`` and ``error_cb`` of one client. Its methods may be called on any thread.

    Args:
        who: names the client in the lines.
        bootstrap: the cluster's address.
        every: seconds between two lines of one kind; those in between are counted.
    """

    def __init__(
        self, who: str, bootstrap: str, *, every: float = 10.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.down: str | None = None
        self.fatal: str | None = None
        self._who = f"{who} of Kafka at {bootstrap}"
        self._every = every
        self._now = now
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def log(self, level: int, _format: str, facility: str, _client: str, text: str) -> None:
        """One of librdkafka's lines, as confluent-kafka hands it over."""
        if facility in _CHATTER:
            logger.debug("%s: %s: %s", self._who, facility, text)
        else:
            self.warn(facility, text, min(level, logging.WARNING))

    def error(self, error: KafkaError) -> None:
        """librdkafka's error callback."""
        if error.fatal():
            self.fatal = error.str()
            logger.error("%s can go on no more: %s", self._who, error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.away(error.str())
        elif error.code() == KafkaError._TRANSPORT:
            logger.debug("%s: %s", self._who, error.str())
        else:
            self.warn(error.name(), error.str())

    def away(self, reason: str) -> None:
        """The cluster does not answer."""
        if self.down is None:
            logger.warning("%s does not answer (%s); trying again until it does", self._who, reason)
        self.down = reason

    def alive(self) -> None:
        """The cluster answered."""
        if self.down is not None:
            self.down = None
            logger.warning("%s answers again", self._who)

    def warn(self, kind: str, text: str, level: int = logging.WARNING) -> None:
        """A line, unless one of its kind was just written."""
        now = self._now()
        if now - self._last.get(kind, -self._every) < self._every:
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        self._last[kind] = now
        more = f" ({held} more since)" if (held := self._held.pop(kind, 0)) else ""
        logger.log(level, "%s: %s: %s%s", self._who, kind, text, more)
