"""What a dialect is: a codec for each connection, and frames of results that many connections share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamproc.edge.limits import Limits
from streamproc.edge.words import ClientFrame, FrameError, ServerFrame


@dataclass(slots=True)
class Result:
    """One record of a channel, as it is told. ``timestamp`` is the log's, in milliseconds.

    Args:
        data: JSON; ``null`` of a tombstone.
        caused: whether the channel declares a cause.
    """

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    data: bytes
    cause: str | None = None
    caused: bool = False


class Codec(Protocol):
    """One connection's side of a dialect. May remember what it has to, in bounds."""

    def decode(self, data: bytes) -> Iterable[ClientFrame | FrameError]:
        """The requests of one WebSocket message, in order. What is none of the dialect's is an error, never raised."""

    def encode(self, frame: ServerFrame) -> bytes:
        """A reply as a whole WebSocket frame; empty where the dialect has no word for it."""


class Dialect(Protocol):
    """A language on the wire."""

    @property
    def name(self) -> str:
        """Its subprotocol."""

    @property
    def ping(self) -> bytes:
        """A whole WebSocket frame that asks a silent client for a sign of life."""

    def codec(self, limits: Limits) -> Codec:
        """A connection's."""

    def body(self, result: Result) -> bytes:
        """One result, to be put into frames of :meth:`batch`."""

    def batch(self, sid: int, first: int, bodies: Sequence[bytes], cursor: str | None = None) -> bytes:
        """Results number ``first``, ``first`` + 1, … as a whole WebSocket frame, the same for all who get them.

        Args:
            cursor: where the subscription stands behind them, for who comes back later.
        """
