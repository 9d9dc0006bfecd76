"""What a member of a group does about topics that are not there, and whether it knows that it is out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from streamproc.runtime.transport import group
from streamproc.runtime.transport.group import LateGroup


class Cluster:
    """What is known of topics."""

    def __init__(self, **topics: set[int]) -> None:
        self.topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.topics.get(topic)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(group, "_SEARCH", 0.0)
    member = LateGroup.__new__(LateGroup)
    member.asked = 0
    member._closing = asyncio.Future(loop=(loop := asyncio.new_event_loop()))
    member._group_subscription = None
    member._subscription = SimpleNamespace(subscription=SimpleNamespace(topics={"t"}))

    def ask() -> None:
        member.asked += 1

    member._client = SimpleNamespace(force_metadata_update=ask)
    yield member
    loop.close()


@pytest.mark.parametrize(
    ("cluster", "group_topics", "asked"),
    [
        (Cluster(t={0}), None, 0),
        (Cluster(), None, 1),
        (Cluster(t=set()), None, 1),
        (Cluster(t={0}), {"t", "of_others"}, 1),  # the group's leader looks for what others read
        (Cluster(t={0}, of_others={0, 1}), {"t", "of_others"}, 0),
    ],
)
async def test_topics_that_are_not_there_are_looked_for(
    member: Any, cluster: Cluster, group_topics: set[str] | None, asked: int
) -> None:
    member._group_subscription = group_topics
    member.search(cluster)
    member.search(cluster)  # one look for all that is heard meanwhile
    await asyncio.sleep(0.01)
    assert member.asked == asked
    member.search(cluster)
    await asyncio.sleep(0.01)
    assert member.asked == 2 * asked


async def test_nothing_is_looked_for_without_a_subscription_or_after_the_end(member: Any) -> None:
    member._subscription.subscription = None
    member.search(Cluster())
    await asyncio.sleep(0.01)
    member._subscription.subscription = SimpleNamespace(topics={"t"})
    member.search(Cluster())
    member._closing.set_result(None)
    await asyncio.sleep(0.01)
    member.search(Cluster())
    await asyncio.sleep(0.01)
    assert member.asked == 0


async def test_a_member_that_was_not_heard_of_for_a_session_may_be_out(
    member: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, known = [1000.0], [True]

    async def heartbeat(_: Any) -> bool:
        now[0] += 3  # it takes so long; the session counts from before
        return known[0]

    monkeypatch.setattr(group.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(group.aiokafka_group.GroupCoordinator, "_do_heartbeat", heartbeat)
    member._session_timeout_ms = 10_000
    assert member.may_be_out  # it has never been in
    assert await member._do_heartbeat()
    assert not member.may_be_out
    now[0] += 6.5
    assert not member.may_be_out
    known[0] = False
    assert not await member._do_heartbeat()
    assert member.may_be_out
    known[0] = True
    await member._do_heartbeat()
    assert not member.may_be_out
