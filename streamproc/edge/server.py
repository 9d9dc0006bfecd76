"""The gateway: serves WebSocket connections, and gives what they say to the edges that are plugged in."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from streamproc.avro.ports import Registry
from streamproc.define.app import App
from streamproc.edge import codes
from streamproc.edge.connection import Connection, Door, SocketLink
from streamproc.edge.conversation import Conversation
from streamproc.edge.deadletters import DeadLetters
from streamproc.edge.dialects import DIALECTS, NATIVE, choose
from streamproc.edge.keepalive import Heard, Keepalive
from streamproc.edge.limits import Limits
from streamproc.edge.metrics import GatewayMetrics
from streamproc.edge.origins import Origins
from streamproc.edge.ports import Context, Edge, GatewayProducer, Log
from streamproc.edge.session import Session
from streamproc.edge.tls import Certificates
from streamproc.edge.words import Drain
from streamproc.errors import SettingsError

logger = logging.getLogger("streamproc.edge")
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
GROUP = "streamproc.edge"
_NOT_WEBSOCKET = (
    "This is a WebSocket endpoint: connect with a WebSocket client and the subprotocol {}.\n"
    "Metrics and health are on the gateway's admin port.\n"
)
_OTHER_PAGE = "Pages of this origin may not connect. If they should: streamproc gateway --origin https://that.page\n"


def installed() -> list[Callable[[Context], Edge]]:
    """The edges of the installed packages, by name."""
    return [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


class Gateway:
    """One gateway process: both edges on one connection, over one producer.

    Args:
        log: makes the producer and the tails, e.g. ``KafkaLog(settings)``.
        port: 0 takes a free one; :attr:`port` tells which.
        edges: what to plug in; by default what is installed under the entry points ``streamproc.edge``.
        origins: which web pages may connect; by default those of this machine, while ``host`` is one of its own names.
        certificates: for TLS. Looked at anew now and then.
        serve_options: further arguments of ``websockets.serve``, such as ``reuse_port``.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        registry: Registry,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        edges: Sequence[Callable[[Context], Edge]] | None = None,
        metrics: GatewayMetrics | None = None,
        origins: Origins | None = None,
        certificates: Certificates | None = None,
        serve_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.app = app
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.metrics = metrics or GatewayMetrics()
        self.node = secrets.token_hex(4)
        self._log = log
        self._registry = registry
        self._makers = edges
        self._origins = Origins(loopback=host in _LOCAL) if origins is None else origins
        self._certificates = certificates
        self._options = dict(serve_options or {})
        if certificates is not None:
            tls = {"ssl": certificates.context, "ssl_handshake_timeout": self.limits.open_timeout}
            self._options = tls | self._options
        self._door = Door(self.limits, self.metrics)
        self._keepalive = Keepalive(self.limits, self._ping, self._silent)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._edges: dict[str, Edge] = {}
        self._links: dict[Connection, SocketLink] = {}
        self._server: Server | None = None
        self._producer: GatewayProducer | None = None
        self._draining = False
        self._patience: float | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws{'s' if self._options.get('ssl') else ''}://{host}:{self.port}"

    def problems(self) -> dict[str, str]:
        """What keeps the gateway from serving at the moment, by name; empty when it is ready."""
        if self._server is None or self._producer is None or self._draining:
            return {"gateway": "draining" if self._draining else "not started"}
        problem = self._producer.problem
        found = {} if problem is None else {"producer": problem}
        for edge in self._edges.values():
            found |= edge.problems()
        return found

    def ailing(self) -> dict[str, str]:
        """What only a new process can cure."""
        fatal = None if self._producer is None else self._producer.fatal
        return {"producer": fatal} if fatal else {}

    async def start(self) -> None:
        """Takes connections when it returns. Kafka need not be there yet.

        Raises:
            SettingsError: the port is in use, or no edge is installed.
        """
        makers = installed() if self._makers is None else self._makers
        if not makers:
            raise SettingsError(f"gateway: no edges: nothing is installed under the entry points {GROUP!r}")
        self._producer = self._log.producer()
        try:
            self._dead_letters = DeadLetters(self.app, self._registry, self._producer, self.metrics)
            context = Context(
                self.app,
                self._registry,
                self._log,
                self._producer,
                self._dead_letters,
                self.metrics,
                self.limits,
                self.node,
            )
            for make in makers:
                edge = make(context)
                self._edges[edge.name] = edge
                await edge.start()
            self._server = await self._listen()
        except BaseException:
            await self._release()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        self.metrics.up.set(1)
        self._spawn(self._tick())
        logger.info("gateway of app %r listens on %s (%s)", self.app.name, self.url, ", ".join(self._edges))

    async def stop(self) -> None:
        """Takes no more connections, tells the clients, waits for what is in flight, and closes with 3001."""
        server, self._draining = self._server, True
        if server is None:
            return
        self.metrics.up.set(0)
        server.close(close_connections=False)
        drain_ms = int(self.limits.drain * 1000)
        for link in list(self._links.values()):
            link.send(Drain(drain_ms, 1000))
        drained = asyncio.gather(*(edge.drain() for edge in self._edges.values()))
        try:
            await asyncio.wait_for(drained, self.limits.drain)
        except TimeoutError:
            logger.warning("gateway: not everything was acknowledged within %g s", self.limits.drain)
            self._patience = 0.0
        await asyncio.gather(*(self._close(connection, codes.SHUTDOWN) for connection in list(self._links)))
        await server.wait_closed()
        self._server = None
        await self._release()

    async def _release(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for edge in self._edges.values():
            await edge.stop()
        self._edges.clear()
        if self._producer is not None:
            await self._producer.close(self._patience)

    # The listening socket and the handshake.

    async def _listen(self) -> Server:
        limits = self.limits
        try:
            return await serve(
                self._serve,
                self.host,
                self.port,
                create_connection=partial(Connection, self._door),  # type: ignore[arg-type]
                process_request=self._request,
                select_subprotocol=_subprotocol,
                compression=None,
                max_size=limits.message,
                max_queue=limits.inbound,
                write_limit=limits.write_buffer,
                open_timeout=limits.open_timeout,
                close_timeout=5,
                ping_interval=None,
                server_header="streamproc",
                logger=_quiet_logger(),
                **self._options,
            )
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise SettingsError(f"gateway: port {self.port} on {self.host} {why}; choose another, or 0") from None

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        response = None
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            response = connection.respond(426, _NOT_WEBSOCKET.format(NATIVE.name))
            response.headers["Upgrade"] = "websocket"
        elif not self._origins.allow(request.headers.get_all("Origin")):
            response = connection.respond(403, _OTHER_PAGE)
        elif self._door.full:
            response = connection.respond(503, f"{self.limits.connections} connections are open: try again later.\n")
            response.headers["Retry-After"] = "1"
        if response is not None:
            self.metrics.refused.labels(str(response.status_code)).inc()
        return response

    # One connection.

    async def _serve(self, socket: ServerConnection) -> None:
        assert isinstance(socket, Connection)
        session = Session(secrets.token_hex(8), self.node, self.limits, self._edges)
        socket.dialect = dialect = DIALECTS.get(socket.subprotocol or NATIVE.name, NATIVE)
        codec = dialect.codec(self.limits)
        link = SocketLink(socket, session.id, dialect, codec, self.limits, self.metrics)
        halves = {name: edge.open(link) for name, edge in self._edges.items()}
        conversation = Conversation(socket, link, session, codec, halves, self._dead_letters, self.metrics)
        self._links[socket] = link
        self.metrics.accepted.inc()
        self.metrics.connections += 1
        socket.on_writable = conversation.writable
        socket.on_lost = partial(self._lost, socket, conversation)
        await conversation.run()

    def _lost(self, socket: Connection, conversation: Conversation) -> None:
        if self._links.pop(socket, None) is not None:
            self.metrics.connections -= 1
        conversation.close()

    async def _close(self, socket: Connection, why: codes.CloseCode) -> None:
        self.metrics.closed.labels(why.code).inc()
        await socket.close(why.code, why.text)

    # Silence.

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._keepalive.interval)
            self._keepalive.tick(list(self._links))
            if self._certificates is not None:
                self._certificates.refresh()

    def _ping(self, heard: Heard) -> None:
        assert isinstance(heard, Connection)
        if heard.open:
            heard.transport.write(heard.dialect.ping)

    def _silent(self, heard: Heard) -> None:
        assert isinstance(heard, Connection)
        heard.cut(codes.NO_PONG)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first dialect that a client asks for and the gateway has; who asks for nothing gets none named."""
    if not offered:
        return None
    if (dialect := choose(offered)) is not None:
        return Subprotocol(dialect.name)
    known = ", ".join(DIALECTS)
    raise NegotiationError(f"subprotocols offered: {', '.join(offered)}; this gateway speaks {known}")


def _quiet_logger() -> logging.Logger:
    """websockets logs every connection, and every broken handshake with a traceback: a port scan would flood."""
    quiet = logging.getLogger("streamproc.edge.websockets")
    quiet.setLevel(logging.ERROR)
    return quiet
