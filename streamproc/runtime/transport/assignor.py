"""Which worker gets which partitions: as evenly as can be, and those that it has, as far as that goes.

Topics that are read together are one group, and their partitions of one number are one unit: they go to one worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

Unit = tuple[str, int]  # a group's name, and a partition's number


class Claim(msgspec.Struct, array_like=True):
    """What a member says that it has."""

    generation: int  # of the group, when it was given that
    topics: dict[str, list[int]]


class Member(NamedTuple):
    """A member that wants partitions."""

    topics: frozenset[str]
    claim: Claim


def share(members: Mapping[str, Member], groups: Mapping[str, Mapping[str, int]]) -> dict[str, set[Unit]]:
    """The units of each member.

    Args:
        members: by their ids.
        groups: by name, the topics of a group and how many partitions each has.
    """
    given: dict[str, set[Unit]] = {member: set() for member in members}
    for group, counts in sorted(groups.items()):
        able = [id for id, member in members.items() if member.topics >= counts.keys()]
        able = able or [id for id, member in members.items() if member.topics & counts.keys()]
        if not able:
            continue
        units = {(group, number) for number in range(max(counts.values()))}
        had = _owned(members, able, counts, units)
        # Who has least of the other groups gets what does not go up evenly; then who has most of this one.
        able.sort(key=lambda id: (len(given[id]), -len(had[id]), id))
        least, more = divmod(len(units), len(able))
        room = {id: least + (place < more) for place, id in enumerate(able)}
        kept = {id: set(sorted(had[id])[: room[id]]) for id in able}
        free = sorted(units.difference(*kept.values()))
        for id in able:
            taken, free = free[: room[id] - len(kept[id])], free[room[id] - len(kept[id]) :]
            given[id] |= kept[id] | set(taken)
    return given


def _owned(
    members: Mapping[str, Member], able: Iterable[str], counts: Mapping[str, int], units: set[Unit]
) -> dict[str, set[Unit]]:
    """By member, the units that it had last. Where several say so, whoever got it later."""
    (group,) = {unit[0] for unit in units}
    latest: dict[Unit, tuple[int, str]] = {}
    for id in able:
        generation, topics = members[id].claim.generation, members[id].claim.topics
        for unit in {(group, number) for topic in counts for number in topics.get(topic, ())} & units:
            latest[unit] = max(latest.get(unit, (-1, "")), (generation, id))
    found: defaultdict[str, set[Unit]] = defaultdict(set)
    for unit, (_, id) in latest.items():
        found[id].add(unit)
    return found


class Assignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """As aiokafka wants it. One for each consumer.

    Args:
        groups: by topic, the name of its group. A topic that is not there is a group of its own.
    """

    name = "streamproc"
    version = 0

    def __init__(self, groups: Mapping[str, str]) -> None:
        self._groups = groups
        self.claim = Claim(-1, {})

    def metadata(self, topics: Iterable[str]) -> Any:
        """What a member says of itself when it joins."""
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), msgspec.msgpack.encode(self.claim))

    def on_assignment(self, assignment: Any) -> None:
        """What this member has from now on; whoever knows the generation sets it."""
        self.claim.topics = {topic: list(partitions) for topic, partitions in assignment.assignment}

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """What each member gets. Called where this one leads the group."""
        wanting = {id: Member(frozenset(found.subscription), _claim(found.user_data)) for id, found in members.items()}
        counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for topic in frozenset().union(*(member.topics for member in wanting.values())):
            if partitions := cluster.partitions_for_topic(topic):
                counts[self._groups.get(topic, topic)][topic] = max(partitions) + 1
        return {id: self._assignment(units, wanting[id].topics, counts) for id, units in share(wanting, counts).items()}

    def _assignment(self, units: set[Unit], topics: frozenset[str], counts: Mapping[str, Mapping[str, int]]) -> Any:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for group, number in sorted(units):
            for topic in counts[group].keys() & topics:
                if number < counts[group][topic]:
                    found[topic].append(number)
        return ConsumerProtocolMemberAssignment(self.version, sorted(found.items()), b"")


def _claim(data: bytes) -> Claim:
    try:
        return msgspec.msgpack.decode(data, type=Claim)
    except msgspec.MsgspecError:  # of another version
        return Claim(-1, {})
