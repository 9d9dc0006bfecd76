"""Consumer groups on Kafka: who is in one, what it has committed, and to commit in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streamproc.errors import BrokerError, BrokerUnavailable
from streamproc.log.kafka_call import Caller, checked
from streamproc.settings import KafkaSettings

Result = TypeVar("Result")
Place = tuple[str, int]  # a topic's name, and a partition
_ATTEMPT = 2.0  # seconds; a consumer that has lost its coordinator may look for it for minutes, a new one finds it
_PAUSE = 0.05  # seconds
_PASSING = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)


class KafkaGroups:
    """Blocking calls on a thread. Every one raises BrokerUnavailable where the cluster does not answer."""

    def __init__(self, settings: KafkaSettings, *, timeout: float = 5.0) -> None:
        self._kafka, self._timeout = settings, timeout

    async def members(self, group: str) -> list[str]:
        """The hosts and clients of those who are in a group; none where there is no such group."""
        return await self._call(lambda caller: _members(caller, group))

    async def committed(self, group: str, places: Sequence[Place]) -> dict[Place, int | None]:
        """The offset that a group has committed of each; None where it has not."""
        return await self._call(lambda caller: committed(caller, group, places))

    async def at_time(self, places: Sequence[Place], time: int) -> dict[Place, int]:
        """By partition, the first offset whose record is of this time (ms since the epoch) or later; -1 where there is
        none.
        """
        return await self._call(lambda caller: _at_time(caller, places, time))

    async def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commits these offsets. Raises BrokerError where the group has members."""
        await self._call(lambda caller: _commit(caller, group, offsets))

    async def _call(self, function: Callable[[Caller], Result]) -> Result:
        def call() -> Result:
            caller = Caller(self._kafka, self._timeout)
            caller.metadata()  # raises soon, and with the reason, where nobody answers
            return function(caller)

        return await asyncio.to_thread(call)


def _members(caller: Caller, group: str) -> list[str]:
    (found,) = checked(caller.results(caller.client.describe_consumer_groups([group])))
    return sorted(f"{member.client_id} at {member.host.removeprefix('/')}" for member in found.members)


def committed(caller: Caller, group: str, places: Sequence[Place]) -> dict[Place, int | None]:
    """See :meth:`KafkaGroups.committed`. Asked by a consumer that joins nothing: the admin client's own call ends the
    process where a group's coordinator has moved (confluent-kafka-javascript#374).

    Raises:
        BrokerUnavailable: nobody answers in time.
        BrokerError: Kafka refuses it.
    """
    if not places:
        return {}
    deadline = time.monotonic() + caller.timeout
    while True:
        try:
            found = _asked(caller, group, [TopicPartition(*place) for place in places])
            break
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() not in _PASSING:
                raise BrokerError(f"Kafka refused it: {reason.str()}") from error
            if time.monotonic() > deadline:
                caller.metadata()  # says why, where no broker answers at all
                said = f"nobody could say within {caller.timeout:g} s what group {group!r} has committed"
                raise BrokerUnavailable(f"{said}: {reason.str()}") from error
            time.sleep(_PAUSE)
    for tp in found:
        if tp.error is not None:
            raise BrokerError(f"Kafka refused it: {tp.topic}[{tp.partition}] of group {group!r}: {tp.error.str()}")
    return {(tp.topic, tp.partition): tp.offset if tp.offset >= 0 else None for tp in found}


def _asked(caller: Caller, group: str, wanted: list[TopicPartition]) -> list[TopicPartition]:
    only_reads = {"group.id": group, "enable.auto.commit": False, "log_level": 0}
    unfinished_too = {"isolation.level": "read_uncommitted"}  # else it waits for transactions that commit offsets
    consumer = Consumer(caller.settings.librdkafka() | only_reads | unfinished_too)
    try:
        found: list[TopicPartition] = consumer.committed(wanted, timeout=min(caller.timeout, _ATTEMPT))
        return found
    finally:
        consumer.close()


def _at_time(caller: Caller, places: Sequence[Place], time: int) -> dict[Place, int]:
    asked = {TopicPartition(*place): OffsetSpec.for_timestamp(time) for place in places}
    results = caller.results(caller.client.list_offsets(asked) if asked else {})
    for _ in checked(results):
        pass
    return {(tp.topic, tp.partition): result.offset for tp, result in results.items()}


def _commit(caller: Caller, group: str, offsets: Mapping[Place, int]) -> None:
    if not offsets:
        return
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*place, offset) for place, offset in offsets.items()])
    (found,) = checked(caller.results(caller.client.alter_consumer_group_offsets([asked])))
    for tp in found.topic_partitions:
        if tp.error is not None:
            raise BrokerError(f"{tp.topic}[{tp.partition}] of group {group!r}: {tp.error.str()}")
