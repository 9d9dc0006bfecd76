"""Looks after topics on Kafka, by confluent-kafka's admin client."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from streamproc.errors import TopicError
from streamproc.log.kafka_call import Caller, checked, topic_errors
from streamproc.log.kafka_groups import committed
from streamproc.log.ports import Marks, TopicInfo, TopicSpec
from streamproc.settings import KafkaSettings

Result = TypeVar("Result")

#: A topic that was just made, or whose leader has changed: another answer follows soon. KafkaError.retriable() is false
#: for what an admin client is answered.
_SOON = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_PAUSE = 0.02  # seconds


class KafkaAdmin:
    """Of the port :class:`streamproc.log.ports.Admin`. Its calls run on a thread, one at a time.

    Every call raises BrokerUnavailable where the cluster does not answer within ``timeout`` seconds, and at once where
    it refuses the credentials.
    """

    def __init__(self, settings: KafkaSettings, *, timeout: float = 5.0) -> None:
        self._kafka = settings
        self.timeout = timeout
        self._caller: Caller | None = None
        self._one = asyncio.Lock()

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Creates those that are missing, and gives those that are there the config that is asked for.

        The replication of a topic that is there is left alone.

        Raises:
            TopicError: one is there with fewer or more partitions (nothing was changed then), or is refused by Kafka.
        """
        await self._call(lambda caller: _ensure(caller, topics))

    async def list(self) -> list[str]:
        return await self._call(lambda caller: sorted(name for name in caller.metadata().topics if not _internal(name)))

    async def describe(self, names: Sequence[str]) -> builtins.list[TopicInfo]:
        return await self._call(lambda caller: _describe(caller, names))

    async def delete(self, names: Sequence[str]) -> None:
        await self._call(lambda caller: _delete(caller, names))

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """By topic, how many records lie behind the offsets that a consumer group has committed."""
        return await self._call(lambda caller: _lag(caller, group, topics))

    async def message_limits(self, topics: Sequence[str]) -> dict[str, int]:
        """By topic, how many bytes a record batch may have: its max.message.bytes, or the broker's."""
        return {topic: int(found["max.message.bytes"]) for topic, found in (await self.settings(topics)).items()}

    async def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """By topic, all that is set for it: on itself, on its brokers, or by default."""
        return await self._call(lambda caller: _configs(caller, topics, defaults=True))

    async def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """By topic, Kafka's id of it. One that is deleted and made anew gets another."""
        return await self._call(lambda caller: _ids(caller, topics))

    async def marks(self, topic: str) -> Marks:
        """What of a topic can be read. Raises TopicError for one that is not there."""
        return await self._call(lambda caller: _marks(caller, topic))

    async def offsets_at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """Per partition, the first offset whose timestamp is not before ``timestamp``, or the end. Raises TopicError.

        Args:
            timestamp: in milliseconds since the epoch.
        """
        return await self._call(lambda caller: _offsets_at(caller, topic, timestamp))

    async def close(self) -> None:
        async with self._one:
            self._caller = None  # librdkafka's handle goes with the last reference

    async def _call(self, function: Callable[[Caller], Result]) -> Result:
        async with self._one:
            return await asyncio.to_thread(self._run, function)

    def _run(self, function: Callable[[Caller], Result]) -> Result:
        if self._caller is None:
            self._caller = Caller(self._kafka, self.timeout)
        return function(self._caller)


def _internal(name: str) -> bool:
    return name.startswith("__")


def _ensure(caller: Caller, topics: Sequence[TopicSpec]) -> None:
    wanted = {spec.name: spec for spec in topics}
    _check_partitions(caller, wanted)
    there = caller.metadata().topics
    missing = [spec for name, spec in wanted.items() if name not in there]
    if missing:
        new = [NewTopic(x.name, x.partitions, x.replication, config=dict(x.config)) for x in missing]
        made = caller.results(caller.client.create_topics(new, operation_timeout=caller.timeout))
        # Somebody else may have made one meanwhile; its partitions are checked below.
        topic_errors({name: result for name, result in made.items() if not _exists_already(result)}, "creating")
        _wait(caller, lambda found: all(_has_leaders(found.get(spec.name)) for spec in missing))
        _check_partitions(caller, wanted)
    _alter(caller, [spec for spec in wanted.values() if spec.config and spec not in missing])


def _exists_already(result: Any) -> bool:
    return isinstance(result, KafkaError) and result.code() == KafkaError.TOPIC_ALREADY_EXISTS


def _check_partitions(caller: Caller, wanted: dict[str, TopicSpec]) -> None:
    there = caller.metadata().topics
    differing = [
        f"topic {name!r} has {len(there[name].partitions)} partitions; expected {spec.partitions}"
        for name, spec in wanted.items()
        if name in there and len(there[name].partitions) != spec.partitions
    ]
    if differing:
        raise TopicError(f"{', '.join(differing)}: delete the topic, or ask for the partitions that it has")


def _alter(caller: Caller, specs: Sequence[TopicSpec]) -> None:
    configs = _configs(caller, [spec.name for spec in specs])
    resources = []
    for spec in specs:
        changed = {k: v for k, v in spec.config.items() if configs[spec.name].get(k) != v}
        if changed:
            entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in changed.items()]
            resources.append(ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries))
    if resources:
        altered = caller.results(caller.client.incremental_alter_configs(resources))
        topic_errors({resource.name: result for resource, result in altered.items()}, "setting the config")


def _describe(caller: Caller, names: Sequence[str]) -> list[TopicInfo]:
    there = caller.metadata().topics
    _known(names, there)
    bounds = _bounds(caller, names, there)
    configs = _configs(caller, names)
    infos = []
    for name in names:
        partitions = sorted(there[name].partitions)
        copies = min((len(there[name].partitions[p].replicas) for p in partitions), default=0)
        infos.append(TopicInfo(name, len(partitions), copies, *bounds[name], configs[name]))
    return infos


def _marks(caller: Caller, topic: str) -> Marks:
    there = caller.metadata().topics
    _known([topic], there)
    return Marks(_ids(caller, [topic])[topic], *_bounds(caller, [topic], there)[topic])


def _bounds(caller: Caller, names: Sequence[str], there: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """By topic, the first offset of each partition and the next one."""
    begin, end = (_offsets(caller, names, there, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    parts = {name: sorted(there[name].partitions) for name in names}
    return {name: (tuple(begin[name, p] for p in of), tuple(end[name, p] for p in of)) for name, of in parts.items()}


def _offsets_at(caller: Caller, topic: str, timestamp: int) -> tuple[int, ...]:
    there = caller.metadata().topics
    _known([topic], there)
    at, end = (
        _offsets(caller, [topic], there, spec) for spec in (OffsetSpec.for_timestamp(timestamp), OffsetSpec.latest())
    )
    # Behind the last record there is no such offset, which Kafka says by -1.
    return tuple(at[topic, n] if at[topic, n] >= 0 else end[topic, n] for n in sorted(there[topic].partitions))


def _offsets(caller: Caller, names: Sequence[str], there: Any, spec: OffsetSpec) -> dict[tuple[str, int], int]:
    asked = {TopicPartition(name, partition): spec for name in names for partition in there[name].partitions}
    results = _answers(caller, lambda: caller.client.list_offsets(asked) if asked else {})
    for _ in checked(results):
        pass
    return {(tp.topic, tp.partition): result.offset for tp, result in results.items()}


def _configs(caller: Caller, names: Sequence[str], *, defaults: bool = False) -> dict[str, dict[str, str]]:
    """What is set on each topic itself; with ``defaults``, what is set for it anywhere."""
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    results = _answers(caller, lambda: caller.client.describe_configs(resources))
    named = {resource.name: result for resource, result in results.items()}
    topic_errors(named, "reading the settings")
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {
        name: {key: entry.value for key, entry in named[name].items() if defaults or entry.source == own}
        for name in names
    }


def _ids(caller: Caller, topics: Sequence[str]) -> dict[str, str]:
    if not topics:
        return {}
    caller.metadata()  # raises soon, and with the reason, where nobody answers
    results: dict[str, Any] = _answers(caller, lambda: caller.client.describe_topics(TopicCollection(list(topics))))
    topic_errors(results, "describing")
    return {topic: str(results[topic].topic_id) for topic in topics}


def _lag(caller: Caller, group: str, topics: Sequence[str]) -> dict[str, int]:
    there = caller.metadata().topics
    _known(topics, there)
    begin, end = (_offsets(caller, topics, there, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    behind = dict.fromkeys(topics, 0)
    for place, offset in committed(caller, group, list(end)).items():
        behind[place[0]] += max(0, end[place] - (begin[place] if offset is None else offset))
    return behind


def _delete(caller: Caller, names: Sequence[str]) -> None:
    if not names:
        return
    _known(names, caller.metadata().topics)
    deleted = caller.results(caller.client.delete_topics(builtins.list(names), operation_timeout=caller.timeout))
    topic_errors(deleted, "deleting")
    _wait(caller, lambda found: not any(name in found for name in names))


def _known(names: Sequence[str], there: Any) -> None:
    unknown = [name for name in names if name not in there]
    if unknown:
        raise TopicError(f"no topic {', '.join(map(repr, unknown))} on this broker")


def _has_leaders(topic: Any) -> bool:
    return topic is not None and bool(topic.partitions) and all(p.leader >= 0 for p in topic.partitions.values())


def _answers(caller: Caller, ask: Callable[[], Any]) -> dict[Any, Any]:
    """The results of a request that changes nothing, asked for again while some are errors that pass."""
    deadline = time.monotonic() + caller.timeout
    while True:
        results = caller.results(ask())
        passing = any(isinstance(x, KafkaError) and x.code() in _SOON for x in results.values())
        if not passing or time.monotonic() > deadline:
            return results
        time.sleep(_PAUSE)
        caller.metadata()  # librdkafka asks the leaders that it knows of


def _wait(caller: Caller, done: Callable[[Any], bool]) -> None:
    """Kafka answers before all brokers know: waits until the metadata say so, too."""
    deadline = time.monotonic() + caller.timeout
    while not done(caller.metadata().topics):
        if time.monotonic() > deadline:
            raise TopicError(f"Kafka did it, but its metadata did not show it within {caller.timeout:g} s")
        time.sleep(_PAUSE)
