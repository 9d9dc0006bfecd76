"""aiokafka's group coordinator, letting go late: a worker goes on while the group waits for its other members.

When a worker joins, leaves or dies, the group asks all members to join anew, and waits for them: for one that was
killed, as long as its session lasts. In the protocol that aiokafka speaks, members let go of their partitions before
they say that they join. Nobody else can have these before all have joined, though. Here members let go when the answer
to that is there.

Should the group have gone on without this worker meanwhile, others have its partitions: what it does to state and what
belongs to it is refused then (transactional ids). While it may have, :attr:`LateGroup.may_be_out` says so: results that
are sent at once, and are not refused, would be others than theirs where their clocks have closed windows.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.consumer import group_coordinator as aiokafka_group
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import LeaveGroupRequest

from streamproc.runtime.transport.assignor import Assignor

_LEAVE = 1.0  # seconds that it may take
_SEARCH = 1.0  # seconds between looks for a topic that is not there
_commits: ContextVar[bool] = ContextVar("commits", default=False)  # whether this is a commit


class Joining(aiokafka_group.CoordinatorGroupRebalance):  # type: ignore[misc]
    """One attempt to join, which lets go of partitions in its middle."""

    async def _on_join_leader(self, response: Any) -> Any:
        self._coordinator.between = True
        await self._coordinator.let_go()
        return await super()._on_join_leader(response)

    async def _on_join_follower(self) -> Any:
        self._coordinator.between = True
        await self._coordinator.let_go()
        return await super()._on_join_follower()


class LateGroup(aiokafka_group.GroupCoordinator):  # type: ignore[misc]
    """A coordinator that calls the listener's ``on_partitions_revoked`` when all members have joined."""

    _kept: Any = None  # the assignment that was not let go of yet
    _joins = False
    between = False  # all have joined, and nobody knows yet who gets what: Kafka takes no commits
    _search: asyncio.TimerHandle | None = None  # for topics that are not there
    _heard = float("-inf")  # monotonic: when that was sent to which the group last answered as to a member

    @property
    def may_be_out(self) -> bool:
        """Whether the group may have gone on without this member: it has not heard of it for a session."""
        return bool(time.monotonic() - self._heard >= self._session_timeout_ms / 1000)

    async def _do_heartbeat(self) -> bool:
        sent = time.monotonic()
        known = bool(await super()._do_heartbeat())
        if known:
            self._heard = sent
        return known

    async def _on_join_prepare(self, previous_assignment: Any) -> None:
        self._kept = previous_assignment
        if previous_assignment is None or self.generation < 0:  # it was never a member, or is none any more
            await self.let_go(prepare=True)

    async def let_go(self, *, prepare: bool = False) -> None:
        """Lets go of what was assigned, if that was not done yet."""
        kept, self._kept = self._kept, None
        if kept is None and not prepare:
            return
        if self.generation >= 0:  # the group waits for this one, as long as it hears of it
            self._start_heartbeat_task()
        try:
            await super()._on_join_prepare(kept)
        finally:
            await self._stop_heartbeat_task()

    async def _stop_heartbeat_task(self) -> None:
        await asyncio.sleep(0)  # one that is cancelled before it has begun takes its canceller with it
        await super()._stop_heartbeat_task()

    def search(self, cluster: Any) -> None:
        """Asks Kafka again soon, if topics that are to be read are not there: they may be made, or made anew. aiokafka
        asks for what it fetches from; for a topic without partitions it would wait until all it knows is too old.
        """
        subscription = self._subscription.subscription
        wanted = self._group_subscription or (subscription.topics if subscription is not None else ())
        if self._search is None and not self._closing.done() and not all(map(cluster.partitions_for_topic, wanted)):
            self._search = asyncio.get_running_loop().call_later(_SEARCH, self._look)

    def _look(self) -> None:
        self._search = None
        if not self._closing.done():
            self._client.force_metadata_update()

    async def close(self) -> None:
        """Leaves the group, also while it waits for others, who would else wait for this one's session to end."""
        if self._search is not None:
            self._search.cancel()
        leaving = asyncio.ensure_future(self._leave()) if self._joins else None
        try:
            await super().close()  # may be cancelled: by a listener that is gone
        finally:
            if leaving is not None:
                await asyncio.wait([leaving], timeout=_LEAVE)
                leaving.cancel()

    async def _leave(self) -> None:
        try:
            await self._send_req(LeaveGroupRequest(self.group_id, self.member_id))
        except KafkaError:
            pass

    # Commits go on while the group waits, and a worker may leave. A broker answers the requests of one connection one
    # by one, so these need another one than that which waits. A commit that comes too late says nothing of who is a
    # member: heartbeats do.

    async def _send_req(self, request: Any) -> Any:
        if not isinstance(request, OffsetCommitRequest | LeaveGroupRequest):
            return await super()._send_req(request)
        if self.coordinator_id is None:
            raise GroupCoordinatorNotAvailableError()
        try:
            return await self._client.send(self.coordinator_id, request, group=ConnectionGroup.DEFAULT)
        except KafkaError:
            self.coordinator_dead()
            raise

    async def _do_commit_offsets(self, *args: Any) -> None:
        _commits.set(True)
        try:
            await super()._do_commit_offsets(*args)
        finally:
            _commits.set(False)

    def reset_generation(self) -> None:
        if not _commits.get():
            super().reset_generation()

    def request_rejoin(self) -> None:
        if not _commits.get():
            super().request_rejoin()

    async def _do_rejoin_group(self, subscription: Any) -> Any:
        self._joins = True
        try:
            return await _rejoin(self, subscription)
        finally:
            self._joins = self.between = False

    async def _on_join_complete(self, generation: int, *args: Any) -> None:
        self.between, self._heard = False, time.monotonic()
        for assignor in self._assignors:
            if isinstance(assignor, Assignor):
                assignor.claim.generation = generation
        self.search(self._cluster)
        await super()._on_join_complete(generation, *args)


def _with_joining() -> Any:
    """aiokafka's own code, seeing our class where it names its own."""
    original = aiokafka_group.GroupCoordinator._do_rejoin_group
    names = {**original.__globals__, "CoordinatorGroupRebalance": Joining}
    return types.FunctionType(original.__code__, names, original.__name__, None, original.__closure__)


_rejoin = _with_joining()


def share_by(consumer: Any, groups: Mapping[str, str]) -> None:
    """Makes an ``AIOKafkaConsumer`` that was not started share partitions by :class:`Assignor`."""
    consumer._partition_assignment_strategy = (Assignor(groups),)


def let_go_late(consumer: Any) -> None:
    """Makes a started ``AIOKafkaConsumer``, not subscribed yet, let go of its partitions late, and look for topics that
    are not there.
    """
    coordinator = consumer._coordinator
    assert type(coordinator) is aiokafka_group.GroupCoordinator, "the consumer was not started, or lets go late already"
    coordinator.__class__ = LateGroup
    coordinator._cluster.add_listener(coordinator.search)
