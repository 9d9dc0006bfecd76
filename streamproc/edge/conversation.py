"""Reads one connection: what it says goes to the edges, and while they have no room it is not read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping

from websockets.exceptions import ConnectionClosed, PayloadTooBig

from streamproc.edge import codes
from streamproc.edge.connection import Connection, SocketLink
from streamproc.edge.deadletters import DeadLetters
from streamproc.edge.dialects import Codec
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.ports import Half
from streamproc.edge.session import INGEST, Refuse, Reply, Session
from streamproc.edge.words import ClientFrame, FrameError, error_of

logger = logging.getLogger("streamproc.edge")
_TURN = 0.005  # seconds of work for one connection before the others get their turn


class Conversation:
    """One connection, from its handshake to its end.

    Args:
        codec: its side of its dialect.
        halves: the edges' halves of it, by the edges' names.
    """

    def __init__(
        self,
        socket: Connection,
        link: SocketLink,
        session: Session,
        codec: Codec,
        halves: Mapping[str, Half],
        dead_letters: DeadLetters,
        metrics: GatewayMetrics,
    ) -> None:
        self._socket = socket
        self._link = link
        self._session = session
        self._codec = codec
        self._halves = halves
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def run(self) -> None:
        """Returns when the connection is closed."""
        try:
            await self._read()
        except (ConnectionClosed, ConnectionResetError):
            if isinstance(error := self._socket.protocol.parser_exc, PayloadTooBig):
                self._metrics.closed.labels(codes.TOO_BIG.code).inc()
                self._dead_letters.put(INGEST, "oversized", str(error), rate=self._link.rate, session=self._session.id)

    def writable(self) -> None:
        for half in self._halves.values():
            half.writable()

    def close(self) -> None:
        for half in self._halves.values():
            half.close()

    async def _read(self) -> None:
        socket, metrics = self._socket, self._metrics
        began = time.monotonic()
        while True:
            data = await socket.recv(decode=False)
            metrics.frames_in += 1
            metrics.bytes_in += len(data)
            for frame in self._codec.decode(data):
                if (wait := self._take(frame, data)) is not None:
                    await self._held(wait)
            if socket.paused:  # it does not read our answers, so we do not read its questions
                metrics.paused.labels("unread").inc()
                await socket.drain()
            if time.monotonic() - began > _TURN:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _take(self, frame: ClientFrame | FrameError, data: bytes) -> Awaitable[None] | None:
        try:
            step = self._session.receive(frame, int(time.time() * 1000))
            if isinstance(step, Reply):
                self._link.send(step.frame)
            elif isinstance(step, Refuse):
                self._refuse(step, data)
            else:
                return self._halves[step.edge].receive(step.frame, len(data))
        except Exception:
            self._broken()
        return None

    async def _held(self, wait: Awaitable[None]) -> None:
        try:
            await wait
        except (ConnectionClosed, ConnectionResetError):
            raise
        except Exception:
            self._broken()

    def _refuse(self, step: Refuse, data: bytes) -> None:
        self._link.send(step.error)
        if step.publishing:
            text = step.error.message
            self._dead_letters.put(
                INGEST, "malformed", text, rate=self._link.rate, session=self._session.id, value=data
            )

    def _broken(self) -> None:
        logger.exception("gateway: a frame could not be handled; the connection goes on")
        self._link.send(error_of(codes.INTERNAL))
