"""Who gets what. Sans-I/O: subscriptions in, frames to members out.

Subscribers of one channel are one group: they share ``sid`` and the numbers of messages, so that every frame is the
same bytes for all of them, and is built once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from streamproc_egress.frames import Item, items


class Member(Protocol):
    """One connection, as the hub sees it."""

    def deliver(self, item: Item) -> None: ...


class AlreadySubscribed(Exception):
    """The member is in that group."""


class Group:
    """The subscribers of one channel. ``seq`` is the number of the next message."""

    __slots__ = ("channel", "members", "seq", "sid")

    def __init__(self, channel: str, sid: int) -> None:
        self.channel = channel
        self.sid = sid
        self.seq = 1
        self.members: dict[Member, None] = {}


class Hub:
    """The groups of one process.

    Args:
        frame: about how many bytes of messages one frame carries.
    """

    def __init__(self, channels: Iterable[str], frame: int) -> None:
        self._frame = frame
        self._groups = {channel: Group(channel, sid) for sid, channel in enumerate(channels, 1)}
        self._by_sid = {group.sid: group for group in self._groups.values()}

    @property
    def channels(self) -> list[str]:
        return sorted(self._groups)

    def subscribe(self, channel: str, member: Member) -> Group:
        """Raises KeyError for an unknown channel, and AlreadySubscribed."""
        group = self._groups[channel]
        if member in group.members:
            raise AlreadySubscribed(channel)
        group.members[member] = None
        return group

    def unsubscribe(self, sid: int, member: Member) -> bool:
        """Whether there was such a subscription."""
        group = self._by_sid.get(sid)
        if group is None or member not in group.members:
            return False
        del group.members[member]
        return True

    def leave(self, member: Member) -> None:
        for group in self._groups.values():
            group.members.pop(member, None)

    def wanted(self, channel: str) -> bool:
        """Whether anybody subscribes to it."""
        group = self._groups.get(channel)
        return group is not None and bool(group.members)

    def publish(self, channel: str, messages: Sequence[bytes | None]) -> int:
        """Gives messages to everyone in the group, None as a gap; to how many."""
        group = self._groups[channel]
        if not group.members:
            return 0
        members = list(group.members)
        for item in items(group.sid, group.seq, messages, self._frame):
            for member in members:
                member.deliver(item)
        group.seq += len(messages)
        return len(members)
