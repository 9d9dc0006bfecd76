"""Resets stages: what they keep is deleted, and the group's offsets are set, so that they begin anew from there.

A changelog is deleted and made anew. Kafka deletes no single records of a compacted topic, and tombstones for all its
rows would leave its head, the transactions and old snapshots in place; a topic that is made anew has another id, by
which every snapshot of before is refused.

Offsets come first: a worker that starts between the two steps still has its state, and goes on where that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamproc.define.app import App
from streamproc.errors import BrokerError, DefinitionError, StreamprocError, TopicError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_groups import KafkaGroups, Place
from streamproc.log.ports import TopicInfo, TopicSpec
from streamproc.runtime.topics import has_state
from streamproc.settings import KafkaSettings
from streamproc.state import topics as changelogs


class GroupInUse(BrokerError):
    """Workers run."""


class Target(NamedTuple):
    """Where stages are to begin: one of these."""

    beginning: bool = False
    end: bool = False
    offset: int | None = None  # of every partition
    time: int | None = None  # of Kafka's timestamps, in milliseconds since the epoch


class Move(NamedTuple):
    """What becomes of one partition's offset."""

    topic: str
    partition: int
    now: int | None  # committed; None: nothing is
    to: int
    begin: int
    end: int

    @property
    def is_forward(self) -> bool:
        """Whether events are skipped."""
        return self.to > (self.begin if self.now is None else self.now)

    @property
    def is_back(self) -> bool:
        return self.to < (self.begin if self.now is None else self.now)


@dataclass(slots=True)
class Plan:
    """What is to be done."""

    group: str
    stages: list[str]
    moves: list[Move] = field(default_factory=list)
    changelogs: list[TopicInfo] = field(default_factory=list)  # to be deleted and made anew
    again: list[str] = field(default_factory=list)  # stages that get events again, though they are not reset
    repeats: list[str] = field(default_factory=list)  # topics that get results again


class Resetter:
    """Resets stages of an app. Every call raises BrokerUnavailable where Kafka does not answer."""

    def __init__(self, app: App, kafka: KafkaSettings) -> None:
        self._app, self._kafka = app, kafka
        self._groups = KafkaGroups(kafka)

    async def plan(self, stage: str | None, to: Target) -> Plan:
        """What a reset of all stages, or of one, would do. Changes nothing.

        Raises:
            DefinitionError: there is no such stage.
            GroupInUse: workers run.
            TopicError: a source is not there.
            StreamprocError: other stages would miss events.
        """
        if stage is not None and stage not in self._app.agents:
            known = ", ".join(self._app.agents) or "none"
            raise DefinitionError(f"app {self._app.name!r} has no stage {stage!r}: it has {known}")
        await self.refuse_members()
        chosen = [each for each in self._app.agents.values() if stage in (None, each.name)]
        plan = Plan(self._app.name, [each.name for each in chosen])
        sources = sorted({source.name for each in chosen for source in each.sources})
        admin = KafkaAdmin(self._kafka)
        try:
            infos = {info.name: info for info in await admin.describe(sources)}
            there = set(await admin.list())
            names = [changelogs.name(self._app.name, each.name) for each in chosen]
            plan.changelogs = await admin.describe([name for name in names if name in there])
        except TopicError as error:
            raise TopicError(f"{error}: a worker or gateway makes its topology's topics when it starts") from None
        finally:
            await admin.close()
        plan.moves = await self._moves(infos, to)
        self._look_at_others(plan, set(sources))
        back = {move.topic for move in plan.moves if move.is_back}
        plan.repeats = sorted(
            {sink.name for each in chosen if any(s.name in back for s in each.sources) for sink in each.sinks}
        )
        return plan

    async def run(self, plan: Plan) -> None:
        """Does it. Raises GroupInUse where a worker has come meanwhile; run once more it does the rest."""
        try:
            await self._groups.commit(plan.group, {(move.topic, move.partition): move.to for move in plan.moves})
        except BrokerError:
            await self.refuse_members()
            raise
        if not plan.changelogs:
            return
        await self.refuse_members()
        admin = KafkaAdmin(self._kafka, timeout=15.0)
        try:
            await admin.delete([info.name for info in plan.changelogs])
            specs = [TopicSpec(i.name, i.partitions, i.replication, i.config) for i in plan.changelogs]
            await admin.ensure(specs)
        finally:
            await admin.close()

    async def refuse_members(self) -> None:
        """Raises GroupInUse where the group has members."""
        if members := await self._groups.members(self._app.name):
            raise GroupInUse(
                f"{len(members)} worker{'s' if len(members) > 1 else ''} of {self._app.name!r} "
                f"({', '.join(members[:3])}): stop them first; Kafka forgets one that was killed after 15 s"
            )

    async def _moves(self, infos: Mapping[str, TopicInfo], to: Target) -> list[Move]:
        places: list[Place] = [(name, p) for name, info in infos.items() for p in range(info.partitions)]
        committed = await self._groups.committed(self._app.name, places)
        times = await self._groups.at_time(places, to.time) if to.time is not None else {}
        moves = []
        for name, partition in places:
            begin, end = infos[name].begin[partition], infos[name].end[partition]
            if to.beginning:
                at = begin
            elif to.end:
                at = end
            elif to.time is not None:
                at = times[name, partition]
                at = end if at < 0 else at
            else:
                at = min(max(to.offset or 0, begin), end)
            moves.append(Move(name, partition, committed[name, partition], at, begin, end))
        return moves

    def _look_at_others(self, plan: Plan, sources: set[str]) -> None:
        """The group's offsets are those of all stages that read a topic."""
        forward = {move.topic for move in plan.moves if move.is_forward}
        back = {move.topic for move in plan.moves if move.is_back}
        for other in self._app.agents.values():
            read = {source.name for source in other.sources}
            if other.name in plan.stages or not read & sources:
                continue
            if skipped := sorted(read & forward):
                raise StreamprocError(
                    f"stage {other.name!r} reads {', '.join(skipped)} too, and would miss events: the group's offsets "
                    "are those of all its stages. Reset all of them (no --stage), or go to where nothing is skipped"
                )
            if read & back and not has_state(self._app, other):
                plan.again.append(other.name)
