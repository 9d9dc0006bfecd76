"""A WebSocket client of the gateway: publish events, subscribe to channels. Speaks the native dialect
(``docs/protocol.md``).

::

    async with Client("ws://127.0.0.1:8000") as client:
        async with client.subscribe("scores") as scores:
            ack = await client.publish("readings", "id-1", {"unit": "a", …})
            async for message in scores: …
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from streamproc.errors import SettingsError, StreamprocError

SUBPROTOCOL = "streamproc.v1.json"
_BAD_REQUEST = 107  # of the gateway's error codes
_WINDOW = 1000  # events on their way at most, per client
_QUEUE = 1 << 14  # frames of a subscription that nobody has asked for yet; beyond that the socket is not read


class Ack(NamedTuple):
    """Where Kafka has an event."""

    id: str
    partition: int
    offset: int


class Message(NamedTuple):
    """One result. ``data`` is JSON; ``cause`` the id of the event that caused it; ``timestamp`` when that was taken
    in, in milliseconds.
    """

    key: str | None
    partition: int
    offset: int
    timestamp: int
    data: bytes
    cause: str | None


class Gap(NamedTuple):
    """So many results were left out, and why."""

    lost: int
    reason: str


class Refused(StreamprocError):
    """The gateway refused a request. ``temporary`` says whether trying again may help."""

    def __init__(self, code: int, message: str, temporary: bool, field: str | None = None) -> None:
        self.code, self.message, self.temporary, self.field = code, message, temporary, field
        super().__init__(f"{message} (code {code})")


class Disconnected(StreamprocError):
    """There is no connection, or it was lost: what had no ack may or may not be in Kafka."""

    exit_code = 3


class _Msg(msgspec.Struct):
    o: int
    p: int
    ts: int
    d: msgspec.Raw
    k: str | None = None
    cid: str | None = None


class _Frame(msgspec.Struct):
    """Any frame from the gateway; which fields count depends on ``op``."""

    op: str
    id: str | None = None
    sid: int = 0
    acks: list[tuple[str, int, int]] = []
    msgs: list[_Msg] = []
    code: int = 0
    message: str = ""
    temporary: bool = False
    field: str | None = None
    lost: int = 0
    reason: str = ""


_decode = msgspec.json.Decoder(_Frame).decode
_encode = msgspec.json.Encoder().encode


class Subscription:
    """Results of one channel, in the order of each partition. Entering it subscribes, leaving it unsubscribes.

    It wants to be read: while :data:`_QUEUE` of its frames wait, the client reads nothing at all, acks neither.
    """

    def __init__(self, client: Client, channel: str, filter: Mapping[str, Any] | None = None) -> None:
        self.channel = channel
        self.filter = filter
        self._client = client
        self._queue: asyncio.Queue[_Frame | None] = asyncio.Queue(_QUEUE)  # None wakes who waits when it has ended
        self._ended: Exception | None = None
        self._left = False
        self._sid = 0

    async def __aenter__(self) -> Subscription:
        self._sid = await self._client._subscribe(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        await self._client._unsubscribe(self._sid)

    def __aiter__(self) -> AsyncIterator[Message | Gap]:
        return self._messages()

    async def _take(self, frame: _Frame) -> None:
        if not self._left:
            await self._queue.put(frame)

    def _leave(self) -> None:
        """Nobody reads on: lets go of what waits, and of the reader that may wait for room."""
        self._left = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def _end(self, error: Exception) -> None:
        self._ended = error
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def _messages(self) -> AsyncIterator[Message | Gap]:
        while True:
            if self._ended is not None and self._queue.empty():
                raise self._ended
            frame = await self._queue.get()
            if frame is None:
                continue
            if frame.op == "gap":
                yield Gap(frame.lost, frame.reason)
            for m in frame.msgs:
                yield Message(m.k, m.p, m.o, m.ts, bytes(m.d), m.cid)


class Client:
    """One connection to a gateway.

    Args:
        url: ``ws://`` or ``wss://`` and the gateway's address.
        name: shown to the gateway.
        ssl: for ``wss://``, what to trust and to show; by default what this machine trusts.
        window: how many events may be on their way; :meth:`send` waits beyond that.
    """

    def __init__(
        self, url: str, *, name: str = "streamproc-client", ssl: SSLContext | None = None, window: int = _WINDOW
    ) -> None:
        self.url, self.name = url, name
        self._ssl = ssl
        self._window = asyncio.Semaphore(window)
        self._acks: dict[str, asyncio.Future[Ack]] = {}
        self._replies: dict[str, asyncio.Future[_Frame]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._opening: dict[str, Subscription] = {}
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._requests = 0

    async def __aenter__(self) -> Client:
        """Connects. Raises Disconnected, and SettingsError for an address that is none."""
        trust: dict[str, Any] = {} if self._ssl is None else {"ssl": self._ssl}
        try:
            self._socket = await connect(
                self.url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=None,
                ping_interval=None,
                proxy=None,
                **trust,
            )
        except InvalidURI:
            raise SettingsError(f"expected a gateway's address such as ws://127.0.0.1:8000; got {self.url!r}") from None
        except (OSError, InvalidHandshake, EOFError) as error:
            raise Disconnected(f"no gateway at {self.url}: {error}") from None
        await self._send({"op": "hello", "client": self.name, "version": 1})
        self._reader = asyncio.create_task(self._read(self._socket), name=f"{self.name} reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for subscription in self._subscriptions.values():
            subscription._leave()  # or the reader waits for who will not read, and never sees the close
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def publish(self, topic: str, id: str, data: Any, *, key: str | None = None) -> Ack:
        """Publishes one event and waits until Kafka has it.

        Args:
            id: the event's, unique among those on their way.
            data: its fields; anything that msgspec can write as JSON.

        Raises:
            Refused: the gateway did not take it.
            Disconnected: the connection was lost before the ack came.
        """
        return await (await self.send(topic, id, data, key=key))

    async def send(self, topic: str, id: str, data: Any, *, key: str | None = None) -> asyncio.Future[Ack]:
        """As :meth:`publish`, but returns once it is sent; the future has the ack. Waits while the window is full."""
        await self._window.acquire()
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: self._window.release())
        if id in self._acks:
            future.cancel()
            raise Refused(_BAD_REQUEST, f"an event with id {id!r} is on its way: wait for its answer", True, "id")
        self._acks[id] = future
        frame = {"op": "publish", "topic": topic, "id": id, "data": data}
        try:
            await self._send(frame if key is None else {**frame, "key": key})
        except Disconnected:
            self._acks.pop(id, None)
            future.cancel()
            raise
        return future

    async def room(self) -> None:
        """Returns when the window has room: then :meth:`send` sends at once."""
        async with self._window:
            pass

    def subscribe(self, channel: str, filter: Mapping[str, Any] | None = None) -> Subscription:
        """The results of a channel from now on; with ``filter`` (``docs/protocol.md``) those that match it."""
        return Subscription(self, channel, filter)

    async def _subscribe(self, subscription: Subscription) -> int:
        id = self._request()
        self._opening[id] = subscription
        reply: asyncio.Future[_Frame] = asyncio.get_running_loop().create_future()
        self._replies[id] = reply
        try:
            frame = {"op": "subscribe", "id": id, "ch": subscription.channel}
            await self._send(frame if subscription.filter is None else {**frame, "filter": subscription.filter})
            return (await reply).sid
        finally:
            self._replies.pop(id, None)
            self._opening.pop(id, None)

    async def _unsubscribe(self, sid: int) -> None:
        """Does not wait for the answer: that may be behind results that another subscription has no room for."""
        if self._subscriptions.pop(sid, None) is not None and self._reader is not None and not self._reader.done():
            with contextlib.suppress(Disconnected):
                await self._send({"op": "unsubscribe", "id": self._request(), "sid": sid})

    def _request(self) -> str:
        """An id that no event is likely to have: they share one space."""
        self._requests += 1
        return f"\N{SECTION SIGN}{self._requests}"

    async def _send(self, frame: dict[str, Any]) -> None:
        assert self._socket is not None, "use: async with Client(…) as client"
        try:
            await self._socket.send(_encode(frame), text=True)
        except ConnectionClosed as closed:
            raise self._lost(closed) from None

    async def _read(self, socket: ClientConnection) -> None:
        closed: Exception = Disconnected("the connection was closed")
        try:
            while True:
                await self._take(_decode(await socket.recv(decode=False)))
        except ConnectionClosed as error:
            closed = self._lost(error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            closed = Disconnected(f"{self.url}: that is no gateway: {error}")
            await socket.close(1002)
        finally:
            waiting: list[asyncio.Future[Any]] = [*self._acks.values(), *self._replies.values()]
            for future in waiting:
                if not future.done():
                    future.set_exception(closed)
                    future.exception()  # seen: nobody may be waiting
            for subscription in self._subscriptions.values():
                subscription._end(closed)

    async def _take(self, frame: _Frame) -> None:
        if frame.op == "ack":
            for id, partition, offset in frame.acks:
                future = self._acks.pop(id, None)
                if future is not None and not future.done():
                    future.set_result(Ack(id, partition, offset))
        elif frame.op in ("batch", "gap"):
            subscription = self._subscriptions.get(frame.sid)
            if subscription is not None:
                await subscription._take(frame)
        elif frame.op == "subscribed":
            if opening := self._opening.pop(frame.id or "", None):
                self._subscriptions[frame.sid] = opening
            if (reply := self._replies.pop(frame.id or "", None)) and not reply.done():
                reply.set_result(frame)
        elif frame.op == "error":
            self._refuse(frame)

    def _refuse(self, frame: _Frame) -> None:
        refused = Refused(frame.code, frame.message, frame.temporary, frame.field)
        waiting: asyncio.Future[Any] | None = self._acks.pop(frame.id or "", None) or self._replies.pop(
            frame.id or "", None
        )
        if waiting is not None and not waiting.done():
            waiting.set_exception(refused)

    def _lost(self, closed: ConnectionClosed) -> Disconnected:
        why = f"{closed.rcvd.code} {closed.rcvd.reason}".strip() if closed.rcvd else "the connection broke"
        return Disconnected(f"{self.url}: closed: {why}")


__all__ = ["Ack", "Client", "Disconnected", "Gap", "Message", "Refused", "Subscription"]
