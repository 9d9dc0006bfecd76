"""A WebSocket connection as the gateway needs it: admission, a cap on what a client leaves unread, signs of life.

Steps under websockets' documented API in three places, which ``tests/edge/test_pins.py`` holds: the asyncio protocol's
callbacks, ``transport``, and ``protocol.state`` with ``send_in_progress``, the guard of a frame written ready-made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from streamproc.edge import codes
from streamproc.edge.codes import CloseCode
from streamproc.edge.dialects import NATIVE, Codec, Dialect
from streamproc.edge.limits import Limits
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.rate import Rate
from streamproc.edge.words import Error, ServerFrame

#: Handshakes that may be under way when all places are taken: these get a proper answer, the rest a short one.
HANDSHAKES = 64
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Door:
    """Counts a process's sockets."""

    def __init__(self, limits: Limits, metrics: GatewayMetrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.sockets: set[Connection] = set()

    @property
    def full(self) -> bool:
        return len(self.sockets) > self.limits.connections


class Connection(ServerConnection):
    """One socket. ``heard`` is set by every byte that comes, and cleared by whoever looks for silence."""

    def __init__(self, door: Door, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.door = door
        self.heard = True
        self.quiet = 0
        self.dialect: Dialect = NATIVE
        self.on_writable: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self.door
        transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        if len(door.sockets) >= door.limits.connections + HANDSHAKES:
            door.metrics.refused.labels("503").inc()
            transport.set_protocol(asyncio.Protocol())
            transport.write(FULL)
            transport.close()
            return
        door.sockets.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.sockets.discard(self)
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = self.on_writable = None

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)
        # Pongs are written from in here, past every flow control: who only sends pings and never reads ends here.
        if self.transport.get_write_buffer_size() > self.door.limits.abort:
            self.cut(codes.SLOW)

    def resume_writing(self) -> None:
        self.heard = True  # the client took data, so it is there
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    @property
    def held(self) -> bool:
        """Whether it is us who do not read."""
        return self.recv_messages.paused

    @property
    def open(self) -> bool:
        return self.protocol.state is State.OPEN and self.send_in_progress is None

    def cut(self, why: CloseCode) -> None:
        """Ends it without a closing handshake, for which a client that does not read has no ear."""
        if not self.transport.is_closing():
            self.door.metrics.closed.labels(why.code).inc()
            self.transport.abort()


class SocketLink:
    """Of the port :class:`streamproc.edge.ports.Link`."""

    def __init__(
        self,
        connection: Connection,
        session: str,
        dialect: Dialect,
        codec: Codec,
        limits: Limits,
        metrics: GatewayMetrics,
    ) -> None:
        self.session = session
        self.dialect = dialect
        self._codec = codec
        self.rate = Rate(limits.dead_letters)
        self._connection = connection
        self._abort = limits.abort
        self._metrics = metrics

    @property
    def writable(self) -> bool:
        return not self._connection.paused

    def send(self, frame: ServerFrame) -> None:
        if isinstance(frame, Error):
            self._metrics.errors.labels(frame.code).inc()
        if framed := self._codec.encode(frame):
            self.write(framed)

    def write(self, framed: bytes) -> bool:
        connection = self._connection
        if not connection.open:
            return False
        transport = connection.transport
        transport.write(framed)
        metrics = self._metrics
        metrics.frames_out += 1
        metrics.bytes_out += len(framed)
        if connection.paused and transport.get_write_buffer_size() > self._abort:
            connection.cut(codes.SLOW)
        return True

    def cut(self, why: CloseCode) -> None:
        self._connection.cut(why)
