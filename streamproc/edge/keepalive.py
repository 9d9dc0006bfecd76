"""Finds the connections whose clients are gone, with one timer for all.

Silence is counted in ticks of this timer, not by the clock: a process that was held up for a minute has only missed
ticks, and blames no client. A connection that the gateway does not read, for back-pressure, is not silent either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from streamproc.edge.limits import Limits

TICKS = 5  # per ping interval


class Heard(Protocol):
    """What is looked at of a connection."""

    heard: bool
    quiet: int

    @property
    def held(self) -> bool: ...


class Keepalive:
    """Pings after ``limits.ping`` of silence, and gives up after ``limits.ping_timeout`` more.

    Args:
        ping: asks a connection for a sign of life.
        end: ends a connection.
    """

    def __init__(self, limits: Limits, ping: Callable[[Heard], None], end: Callable[[Heard], None]) -> None:
        self.interval = limits.ping / TICKS
        self._last = TICKS + max(round(limits.ping_timeout / self.interval), 1)
        self._ping = ping
        self._end = end

    def tick(self, connections: Iterable[Heard]) -> None:
        """To be called every ``interval`` seconds."""
        for connection in connections:
            if connection.heard or connection.held:
                connection.heard = False
                connection.quiet = 0
                continue
            connection.quiet += 1
            if connection.quiet == TICKS:
                self._ping(connection)
            elif connection.quiet >= self._last:
                self._end(connection)
