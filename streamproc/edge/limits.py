"""What one connection, and one gateway process, may use at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from streamproc.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, in bytes and seconds unless said otherwise.

    Args:
        connections: how many at once; more are answered with HTTP 503.
        message: the largest message of a client; a larger one closes its connection with 1009.
        inbound: how many messages of a client wait to be read before its socket is read no more.
        in_flight: published bytes of a connection that Kafka has not acknowledged, before it is read no more.
        write_buffer: bytes that the process hands to the socket ahead of the client; beyond that they queue.
        queue: bytes of results that queue for one slow client; beyond that the oldest are dropped, and it is told.
        abort: bytes of anything unread at which a connection is cut (3008). Only a client that never reads gets there.
        frame: the largest frame of results; more go in several.
        batch: events in one publish frame.
        subscriptions: how many a connection may hold.
        dead_letters: bad records of one connection that are kept, per second.
        ping: silence after which the gateway asks whether the client is there.
        ping_timeout: further silence after which the connection is closed.
        open_timeout: for the handshake.
        drain: how long a stopping gateway waits for Kafka's acknowledgements.
    """

    connections: int = 10_000
    message: int = 64 << 10
    inbound: int = 4
    in_flight: int = 1 << 20
    write_buffer: int = 64 << 10
    queue: int = 1 << 20
    abort: int = 4 << 20
    frame: int = 64 << 10
    batch: int = 1000
    subscriptions: int = 128
    dead_letters: int = 100
    ping: float = 25.0
    ping_timeout: float = 25.0
    open_timeout: float = 10.0
    drain: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise SettingsError(f"limit {field.name}: expected more than 0; got {getattr(self, field.name)}")
        if self.abort <= self.write_buffer + self.frame:
            raise SettingsError(f"limit abort: expected more than write_buffer + frame; got {self.abort}")
