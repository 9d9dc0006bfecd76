"""Who gets what. Sans-I/O: subscriptions in, frames to members out.

Subscribers of one channel with one filter are one group: they share ``sid`` and the numbers of messages, so that every
frame is the same bytes for all of them, and is built once. A filter looks at each result once, however many have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple, Protocol

from streamproc_egress.filters import Filter, Seen
from streamproc_egress.frames import Item, items


class Member(Protocol):
    """One connection, as the hub sees it."""

    def deliver(self, item: Item) -> None: ...


class AlreadySubscribed(Exception):
    """The member is in that group."""


class Told(NamedTuple):
    """Results given to members, and such as they were told they will not get; counted for each member."""

    results: int
    lost: int


class Group:
    """The subscribers of one channel with one filter. ``seq`` is the number of the next message."""

    __slots__ = ("channel", "filter", "members", "seq", "sid")

    def __init__(self, channel: str, sid: int, filter: Filter | None = None) -> None:
        self.channel = channel
        self.filter = filter
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
        self._sids = count(1)
        self._groups: dict[str, dict[Filter | None, Group]] = {channel: {} for channel in channels}
        self._by_sid: dict[int, Group] = {}
        self._of: dict[Member, dict[str, Group]] = {}

    @property
    def channels(self) -> list[str]:
        return sorted(self._groups)

    def subscribe(self, channel: str, member: Member, filter: Filter | None = None) -> Group:
        """Raises KeyError for an unknown channel, and AlreadySubscribed, whatever the filter."""
        groups = self._groups[channel]
        if channel in self._of.get(member, ()):
            raise AlreadySubscribed(channel)
        group = groups.get(filter)
        if group is None:
            group = groups[filter] = Group(channel, next(self._sids), filter)
            self._by_sid[group.sid] = group
        group.members[member] = None
        self._of.setdefault(member, {})[channel] = group
        return group

    def unsubscribe(self, sid: int, member: Member) -> bool:
        """Whether there was such a subscription."""
        group = self._by_sid.get(sid)
        if group is None or member not in group.members:
            return False
        self._drop(group, member)
        return True

    def leave(self, member: Member) -> None:
        for group in list(self._of.get(member, {}).values()):
            self._drop(group, member)

    def wanted(self, channel: str) -> bool:
        """Whether anybody subscribes to it."""
        return bool(self._groups.get(channel))

    def publish(self, channel: str, messages: Sequence[bytes | None], seen: Sequence[Seen] = ()) -> Told:
        """Gives messages to everyone who wants them, None to all as a gap.

        Args:
            seen: what filters look at, of each message.
        """
        told = lost = 0
        for group in list(self._groups[channel].values()):
            found = messages if group.filter is None else _matching(group.filter, messages, seen)
            for item in items(group.sid, group.seq, found, self._frame):
                for member in list(group.members):
                    member.deliver(item)
                told += 0 if item.gap else item.n * len(group.members)
                lost += item.n * len(group.members) if item.gap else 0
            group.seq += len(found)
        return Told(told, lost)

    def _drop(self, group: Group, member: Member) -> None:
        del group.members[member]
        mine = self._of[member]
        del mine[group.channel]
        if not mine:
            del self._of[member]
        if not group.members:
            del self._groups[group.channel][group.filter]
            del self._by_sid[group.sid]


def _matching(filter: Filter, messages: Sequence[bytes | None], seen: Sequence[Seen]) -> list[bytes | None]:
    """Of what could not be decoded nobody knows whether it would match, so everybody is told."""
    return [body for body, what in zip(messages, seen, strict=True) if body is None or filter.matches(what)]
