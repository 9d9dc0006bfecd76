"""Whatever the order of frames and slow writes, a subscriber gets each message once, in order, or is told its gap."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamproc_egress.filters import Filter, Seen
from streamproc_egress.frames import Item, items
from streamproc_egress.hub import AlreadySubscribed, Group, Hub
from streamproc_egress.outbox import Outbox

FRAME, QUEUE = 120, 400


def payload(framed: bytes) -> dict[str, Any]:
    head = {126: 4, 127: 10}.get(framed[1], 2)
    frame: dict[str, Any] = json.loads(framed[head:])
    return frame


class Reader:
    """A member whose connection takes so many frames before it is full; it checks all that it reads."""

    def __init__(self) -> None:
        self.outbox = Outbox(QUEUE)
        self.budget = 0
        self.next: dict[int, int] = {}
        self.texts: dict[int, list[tuple[int, int]]] = {}
        self.lost = 0

    def deliver(self, item: Item) -> None:
        if not self.outbox and self.budget:
            self.read(item.framed)
        else:
            self.outbox.push(item)

    def read(self, framed: bytes) -> None:
        self.budget -= 1
        frame = payload(framed)
        sid = frame["sid"]
        assert sid in self.next, "a frame for a subscription that ended"
        if frame["op"] == "gap":
            assert frame["from_seq"] == self.next[sid]
            assert frame["lost"] == frame["to_seq"] - frame["from_seq"] + 1
            self.next[sid] = frame["to_seq"] + 1
        else:
            assert frame["seq"] == self.next[sid]
            self.texts[sid] += [(frame["seq"] + n, m) for n, m in enumerate(frame["msgs"])]
            self.next[sid] += len(frame["msgs"])

    def run(self, budget: int) -> None:
        self.budget += budget
        while self.budget and (framed := self.outbox.pop()) is not None:
            self.read(framed)


EVEN = Filter(("in", ("$key",), ("even",)))


class Machine(RuleBasedStateMachine):
    """Two channels, each with and without a filter; three readers."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(["a", "b"], FRAME)
        self.readers = [Reader() for _ in range(3)]
        self.where: list[dict[str, Group]] = [{}, {}, {}]
        self.said: dict[int, list[int | None]] = {}

    channels = st.sampled_from("ab")
    readers_ = st.integers(0, 2)

    @rule(channel=channels, who=readers_, filter=st.sampled_from([None, EVEN]))
    def subscribe(self, channel: str, who: int, filter: Filter | None) -> None:
        reader = self.readers[who]
        if channel in self.where[who]:
            with pytest.raises(AlreadySubscribed):
                self.hub.subscribe(channel, reader, filter)
        else:
            group = self.where[who][channel] = self.hub.subscribe(channel, reader, filter)
            assert group.seq == len(self.said.setdefault(group.sid, [])) + 1
            reader.next[group.sid] = group.seq
            reader.texts[group.sid] = []

    @rule(channel=channels, who=readers_)
    def unsubscribe(self, channel: str, who: int) -> None:
        reader, group = self.readers[who], self.where[who].pop(channel, None)
        if group is None:
            assert not self.hub.unsubscribe(99, reader)
            return
        assert self.hub.unsubscribe(group.sid, reader)
        assert not self.hub.unsubscribe(group.sid, reader)
        reader.outbox.forget(group.sid)
        reader.next.pop(group.sid)

    @rule(channel=channels, bodies=st.lists(st.none() | st.integers(0, 10**30), min_size=1, max_size=12))
    def publish(self, channel: str, bodies: list[int | None]) -> None:
        groups = {mine[channel].sid: mine[channel] for mine in self.where if channel in mine}
        assert self.hub.wanted(channel) is bool(groups)
        told = lost = 0
        for group in groups.values():
            mine = [b for b in bodies if group.filter is None or b is None or b % 2 == 0]
            self.said[group.sid] += mine
            lost += mine.count(None) * len(group.members)
            told += (len(mine) - mine.count(None)) * len(group.members)
        seen = [Seen("odd" if b is None or b % 2 else "even", None) for b in bodies]
        encoded = [None if b is None else b"%d" % b for b in bodies]
        assert self.hub.publish(channel, encoded, seen) == (told, lost)

    @rule(who=readers_, budget=st.integers(1, 8))
    def writes(self, who: int, budget: int) -> None:
        self.readers[who].run(budget)

    @rule(who=readers_)
    def blocks(self, who: int) -> None:
        self.readers[who].budget = 0

    @precondition(lambda self: any(reader.next for reader in self.readers))
    @rule(who=readers_)
    def catches_up(self, who: int) -> None:
        reader = self.readers[who]
        reader.run(10_000)
        reader.budget = 0
        for sid, expected in reader.next.items():
            assert expected == len(self.said[sid]) + 1

    @invariant()
    def queues_are_bounded_and_counted(self) -> None:
        for reader in self.readers:
            assert reader.outbox.bytes <= QUEUE
            assert reader.outbox.bytes == sum(len(item.framed) for item in reader.outbox._items)

    @invariant()
    def what_was_read_is_what_was_said(self) -> None:
        for reader in self.readers:
            for sid, read in reader.texts.items():
                assert all(self.said[sid][number - 1] == body for number, body in read)


TestHub = Machine.TestCase


def test_an_unknown_channel_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Hub(["a"], FRAME).subscribe("b", Reader())


def test_leaving_ends_every_subscription() -> None:
    hub, reader = Hub(["a", "b"], FRAME), Reader()
    hub.subscribe("a", reader)
    hub.subscribe("b", reader)
    hub.leave(reader)
    assert not hub.wanted("a")
    assert not hub.wanted("b")


def test_all_members_get_the_same_bytes() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.items: list[Item] = []

        def deliver(self, item: Item) -> None:
            self.items.append(item)

    hub, one, two = Hub(["a"], FRAME), Keeper(), Keeper()
    hub.subscribe("a", one)
    hub.subscribe("a", two)
    hub.publish("a", [b"1", b"2"])
    assert one.items[0].framed is two.items[0].framed


@given(st.lists(st.none() | st.binary(max_size=80), max_size=30), st.integers(1, 9))
def test_frames_cover_a_run_without_overlap_and_within_their_size(bodies: list[bytes | None], first: int) -> None:
    expected = first
    for item in items(1, first, bodies, FRAME):
        assert item.first == expected
        assert item.n >= 1
        assert item.gap is (bodies[expected - first] is None)
        if item.n > 1:
            assert len(item.framed) <= FRAME + 60
        expected += item.n
    assert expected == first + len(bodies)
