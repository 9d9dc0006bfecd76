"""What one connection has said so far, and which edge its next frame goes to. Sans-I/O: requests in, decisions out."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from streamproc.edge import codes, words
from streamproc.edge.limits import Limits
from streamproc.edge.words import (
    ClientFrame,
    Error,
    FrameError,
    Hello,
    Ping,
    Pong,
    Publish,
    ServerFrame,
    Subscribe,
    Unsubscribe,
    Welcome,
    error_of,
)

INGEST, EGRESS = "ingest", "egress"
ROUTES: dict[type[ClientFrame], str] = {Publish: INGEST, Subscribe: EGRESS, Unsubscribe: EGRESS}


class Reply(NamedTuple):
    """Answer with this."""

    frame: ServerFrame


class Route(NamedTuple):
    """Give this to that edge."""

    edge: str
    frame: ClientFrame


class Refuse(NamedTuple):
    """Answer with this error. ``publishing``: the frame was, or may have been, an event, so it is worth keeping."""

    error: Error
    publishing: bool


class Session:
    """One connection's conversation.

    Args:
        id: names the session in ``welcome`` and in dead letters.
        node: names the gateway process.
        edges: the names of the edges that are plugged in.
    """

    def __init__(self, id: str, node: str, limits: Limits, edges: Collection[str]) -> None:
        self.id = id
        self.node = node
        self.client: str | None = None
        self._limits = limits
        self._edges = edges
        self._opened = False

    def receive(self, frame: ClientFrame | FrameError, now: int) -> Reply | Route | Refuse:
        """What to do about one request. ``now`` is in milliseconds since the epoch."""
        if isinstance(frame, FrameError):
            return Refuse(frame.error, frame.publishing)
        first, self._opened = not self._opened, True
        edge = ROUTES.get(type(frame))
        if edge is not None:
            if edge in self._edges:
                return Route(edge, frame)
            text = f"this gateway has no {edge} edge"
            return Refuse(error_of(codes.METHOD_NOT_FOUND, text, id=getattr(frame, "id", None)), False)
        if isinstance(frame, Ping):
            return Reply(Pong(frame.t))
        assert isinstance(frame, Hello)
        return self._hello(frame, first, now)

    def _hello(self, frame: Hello, first: bool, now: int) -> Reply | Refuse:
        if not first:
            return Refuse(error_of(codes.BAD_REQUEST, "hello comes first, or not at all", field="op"), False)
        if frame.version != words.VERSION:
            text = f"version: this gateway speaks {words.VERSION}; got {frame.version}"
            return Refuse(error_of(codes.NOT_AVAILABLE, text, field="version"), False)
        self.client = frame.client
        limits = self._limits
        told = {
            "message": limits.message,
            "in_flight": limits.in_flight,
            "queue": limits.queue,
            "frame": limits.frame,
            "batch": limits.batch,
            "subscriptions": limits.subscriptions,
            "id": words.MAX_ID,
        }
        return Reply(Welcome(self.id, words.VERSION, self.node, now, limits.ping, told))
