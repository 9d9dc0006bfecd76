"""What holds for topics on Kafka: all their settings, and the ids that Kafka gave them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import TopicCollection
from confluent_kafka.admin import ConfigResource, ResourceType

from streamproc.log.kafka_call import Caller, topic_errors
from streamproc.settings import KafkaSettings

Result = TypeVar("Result")


class Configs:
    """Asks a cluster, on a thread, one call at a time.

    Every call raises BrokerUnavailable where the cluster does not answer within ``timeout`` seconds, and TopicError for
    a topic that is not there.
    """

    def __init__(self, settings: KafkaSettings, *, timeout: float = 5.0) -> None:
        self._settings, self._timeout = settings, timeout
        self._caller: Caller | None = None
        self._one = asyncio.Lock()

    async def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """By topic, all that is set for it: on itself, on its brokers, or by default."""
        return await self._call(lambda caller: _settings(caller, topics))

    async def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """By topic, its id. One that is deleted and made anew gets another."""
        return await self._call(lambda caller: _ids(caller, topics))

    async def close(self) -> None:
        async with self._one:
            self._caller = None  # librdkafka's handle goes with the last reference

    async def _call(self, function: Callable[[Caller], Result]) -> Result:
        async with self._one:
            return await asyncio.to_thread(self._run, function)

    def _run(self, function: Callable[[Caller], Result]) -> Result:
        if self._caller is None:
            self._caller = Caller(self._settings, self._timeout)
        self._caller.metadata()  # raises soon, and with the reason, where nobody answers
        return function(self._caller)


def _settings(caller: Caller, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    results: dict[Any, Any] = caller.results(caller.client.describe_configs(resources)) if resources else {}
    named = {resource.name: result for resource, result in results.items()}
    topic_errors(named, "reading the settings")
    return {topic: {key: entry.value for key, entry in named[topic].items()} for topic in topics}


def _ids(caller: Caller, topics: Sequence[str]) -> dict[str, str]:
    if not topics:
        return {}
    results: dict[str, Any] = caller.results(caller.client.describe_topics(TopicCollection(list(topics))))
    topic_errors(results, "describing")
    return {topic: str(results[topic].topic_id) for topic in topics}
