"""What the gateway's shell and its edges need of each other."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamproc.avro.ports import Registry
from streamproc.define.app import App
from streamproc.edge.codes import CloseCode
from streamproc.edge.deadletters import DeadLetters
from streamproc.edge.dialects import Dialect
from streamproc.edge.limits import Limits
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.rate import Rate
from streamproc.edge.words import ServerFrame
from streamproc.log.ports import History, Producer, Tail


class GatewayProducer(Producer, Protocol):
    """A producer that tells how it is."""

    @property
    def fatal(self) -> str | None:
        """Why it will never deliver again, if so."""

    @property
    def problem(self) -> str | None:
        """Why records do not get through at the moment, if so."""

    async def close(self, timeout: float | None = None) -> None:
        """Flushes for at most ``timeout`` seconds, and lets go."""


class GatewayTail(Tail, Protocol):
    """A tail that tells how it is."""

    @property
    def problem(self) -> str | None:
        """Why records do not come at the moment, if so."""

    async def ready(self) -> None:
        """Returns when every record sent from now on will be seen."""


class Log(Protocol):
    """Makes producers, tails and readers of what lies behind: ``MemoryLog``, ``KafkaLog``."""

    def producer(self) -> GatewayProducer: ...

    def tail(self, topics: Sequence[str]) -> GatewayTail: ...

    def history(self) -> History: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What an edge is made with. ``node`` names the process, and is new at each start."""

    app: App
    registry: Registry
    log: Log
    producer: Producer
    dead_letters: DeadLetters
    metrics: GatewayMetrics
    limits: Limits
    node: str


class Link(Protocol):
    """What an edge may do to one connection."""

    @property
    def session(self) -> str: ...

    @property
    def dialect(self) -> Dialect:
        """What its client speaks."""

    @property
    def rate(self) -> Rate:
        """The connection's allowance of dead letters."""

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than it is written to. Then queue, until ``Half.writable``."""

    def send(self, frame: ServerFrame) -> None:
        """Writes a control frame, now. Errors are counted. Nothing happens when the connection is gone."""

    def write(self, framed: bytes) -> bool:
        """Writes a whole WebSocket frame; False when the connection is gone."""

    def cut(self, why: CloseCode) -> None:
        """Ends the connection without ceremony."""


class Half(Protocol):
    """One edge's half of one connection."""

    def receive(self, frame: Any, size: int) -> Awaitable[None] | None:
        """Takes a frame of ``size`` bytes. What comes back, if anything, is awaited before the connection is read on:
        that is the back-pressure."""

    def writable(self) -> None:
        """The connection takes data again."""

    def close(self) -> None:
        """The connection is gone. May come while :meth:`receive`'s result is awaited, which then ends."""


class Edge(Protocol):
    """One side of the gateway, made with a :class:`Context`; plugged in under the entry points ``streamproc.edge``."""

    name: str

    async def start(self) -> None: ...

    def open(self, link: Link) -> Half:
        """A connection's half."""

    def problems(self) -> dict[str, str]:
        """What keeps it from working at the moment, by name."""

    async def drain(self) -> None:
        """Takes nothing new from now on, and returns when nothing is in flight."""

    async def stop(self) -> None: ...
