"""The egress edge's half of one connection: its subscriptions, and what waits for it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from msgspec import UnsetType

from streamproc.edge import codes
from streamproc.edge.ports import Context, Link
from streamproc.edge.words import Subscribe, Subscribed, Unsubscribe, Unsubscribed, error_of
from streamproc_egress.filters import Filter, FilterError, filter_of
from streamproc_egress.frames import Item
from streamproc_egress.hub import AlreadySubscribed, Hub
from streamproc_egress.outbox import Outbox


class State(Protocol):
    """What the half must know of its edge."""

    draining: bool

    @property
    def problem(self) -> str | None:
        """Why results cannot be followed, if so."""


class Subscriber:
    """Of the ports :class:`streamproc.edge.ports.Half` and :class:`streamproc_egress.hub.Member`."""

    def __init__(self, context: Context, hub: Hub, link: Link, state: State) -> None:
        self._context = context
        self._hub = hub
        self._link = link
        self._state = state
        self._outbox = Outbox(context.limits.queue)
        self._subscriptions = 0

    def receive(self, frame: Subscribe | Unsubscribe, size: int) -> Awaitable[None] | None:
        if isinstance(frame, Subscribe):
            self._subscribe(frame)
        else:
            self._unsubscribe(frame)
        return None

    def deliver(self, item: Item) -> None:
        if not self._outbox and self._link.writable:
            self._link.write(item.framed)
            return
        metrics, before = self._context.metrics, self._outbox.bytes
        if lost := self._outbox.push(item):
            metrics.lost.labels("slow").inc(lost)
        metrics.queue_bytes += self._outbox.bytes - before

    def writable(self) -> None:
        before = self._outbox.bytes
        while self._link.writable and (framed := self._outbox.pop()) is not None:
            self._link.write(framed)
        self._context.metrics.queue_bytes += self._outbox.bytes - before

    def close(self) -> None:
        self._hub.leave(self)
        self._context.metrics.queue_bytes -= self._outbox.bytes
        self._context.metrics.subscriptions -= self._subscriptions
        self._subscriptions = 0
        self._outbox.clear()

    def _subscribe(self, frame: Subscribe) -> None:
        limit = self._context.limits.subscriptions
        if self._state.draining:
            return self._link.send(error_of(codes.DRAINING, id=frame.id))
        if self._subscriptions >= limit:
            return self._link.send(error_of(codes.LIMIT_EXCEEDED, f"{limit} subscriptions per connection", id=frame.id))
        if (problem := self._state.problem) is not None:
            return self._link.send(
                error_of(codes.LOG_UNAVAILABLE, f"results cannot be followed: {problem}", id=frame.id)
            )
        try:
            group = self._hub.subscribe(frame.ch, self, self._filter(frame))
        except FilterError as error:
            return self._link.send(error_of(codes.BAD_REQUEST, str(error), id=frame.id, field=error.field))
        except KeyError:
            known = ", ".join(self._hub.channels[:10]) or "none"
            text = f"channel {frame.ch!r}: expected one of: {known}"
            return self._link.send(error_of(codes.UNKNOWN_CHANNEL, text, id=frame.id, field="ch"))
        except AlreadySubscribed:
            text = f"already subscribed to channel {frame.ch!r}"
            return self._link.send(error_of(codes.ALREADY_SUBSCRIBED, text, id=frame.id, field="ch"))
        self._subscriptions += 1
        self._context.metrics.subscriptions += 1
        return self._link.send(Subscribed(frame.id, group.sid, frame.ch, self._context.node, group.seq))

    def _filter(self, frame: Subscribe) -> Filter | None:
        """Raises FilterError, and KeyError for an unknown channel."""
        if isinstance(frame.filter, UnsetType):
            return None
        return filter_of(frame.filter, self._context.app.channels[frame.ch].record)

    def _unsubscribe(self, frame: Unsubscribe) -> None:
        if not self._hub.unsubscribe(frame.sid, self):
            text = f"sid {frame.sid}: this connection has no such subscription"
            return self._link.send(error_of(codes.UNKNOWN_CHANNEL, text, id=frame.id, field="sid"))
        before = self._outbox.bytes
        self._outbox.forget(frame.sid)
        self._context.metrics.queue_bytes += self._outbox.bytes - before
        self._subscriptions -= 1
        self._context.metrics.subscriptions -= 1
        return self._link.send(Unsubscribed(frame.id, frame.sid))
