"""The client: against the gateway on a log in memory, and against servers that say what they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from streamproc import client as module
from streamproc.client import Ack, Client, Disconnected, Gap, Message, Refused
from streamproc.errors import SettingsError
from tests.edge.kit import Note, World, tick, until, world

#: Long beside anything that should happen here, short beside a close that hangs (websockets gives up after 10 s).
PATIENCE = 8.0


@pytest.fixture
async def there() -> AsyncIterator[World]:
    async with world() as running:
        yield running


class Script:
    """A server with one connection at a time, that does what a test says."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def heard(self, op: str) -> dict[str, Any]:
        """The next frame of that kind."""
        while True:
            frame: dict[str, Any] = json.loads(await self.socket.recv())
            if frame["op"] == op:
                return frame

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def subscribed(self, sid: int = 1) -> None:
        await self.say(op="subscribed", id=(await self.heard("subscribe"))["id"], sid=sid)

    async def result(self, data: Any, sid: int = 1) -> None:
        await self.say(op="batch", sid=sid, seq=1, msgs=[{"k": "a", "p": 2, "o": 5, "ts": 7, "d": data, "cid": "c"}])


@contextlib.asynccontextmanager
async def scripted(play: Callable[[Script], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of a server that plays, and then keeps the connection until its client goes."""

    async def serve_one(socket: ServerConnection) -> None:
        await play(Script(socket))
        await socket.wait_closed()

    async with serve(serve_one, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# Against the gateway.


async def test_publishes_and_receives(there: World) -> None:
    async with Client(there.gateway.url) as client, client.subscribe("t-results") as results:
        acks = [await client.publish("t-ticks", f"e{n}", tick(f"e{n}", "a")) for n in range(3)]
        assert acks == [Ack(f"e{n}", acks[0].partition, n) for n in range(3)]
        there.emit("t-results", Note("hello", "e1"), key=b"a", timestamp=77, partition=1)
        message = await anext(aiter(results))
        assert isinstance(message, Message)
        assert (message.key, message.partition, message.offset, message.timestamp) == ("a", 1, 0, 77)
        assert (json.loads(message.data), message.cause) == ({"text": "hello", "event": "e1"}, "e1")


async def test_a_filter_lets_through_what_matches_and_is_refused_by_name(there: World) -> None:
    async with Client(there.gateway.url) as client:
        with pytest.raises(Refused) as refused:
            async with client.subscribe("t-results", {"key": "zap", "cmp": "ex"}):
                pass
        assert (refused.value.code, refused.value.field) == (107, "filter.key")
        async with client.subscribe("t-results", {"key": "text", "cmp": "eq", "val": "b"}) as results:
            for text in "abcb":
                there.emit("t-results", Note(text), partition=0)
            found = aiter(results)
            messages = [await anext(found) for _ in range(2)]
            assert [m.offset for m in messages if isinstance(m, Message)] == [1, 3]


async def test_a_key_for_a_topic_that_has_none(there: World) -> None:
    async with Client(there.gateway.url) as client:
        await client.publish("t-notes", "n", {"text": "x"}, key="k")
    assert [message.key for message in there.log.messages("t-notes")] == [b"k"]


async def test_what_is_refused_says_why_and_costs_nobody_else_anything(there: World) -> None:
    async with Client(there.gateway.url, window=1) as client:
        with pytest.raises(Refused, match="x") as wrong:
            await client.publish("t-ticks", "w", tick("w", x="high"))
        assert (wrong.value.code, wrong.value.field, wrong.value.temporary) == (107, "x", False)
        with pytest.raises(Refused, match="code 102"):
            await client.publish("nowhere", "n", {})
        with pytest.raises(Refused, match=r"expected one of: t-bare, t-results \(code 102\)"):
            async with client.subscribe("nowhere"):
                pytest.fail("there is no such channel")
        assert (await client.publish("t-ticks", "g", tick("g"))).id == "g"


async def test_an_event_may_have_any_id(there: World) -> None:
    there.log.down()
    async with Client(there.gateway.url) as client:
        pending = await client.send("t-ticks", "r1", tick("r1"))
        with pytest.raises(Refused, match="code 102"):
            async with client.subscribe("nowhere"):
                pass
        assert not pending.done()
        there.log.up()
        assert (await pending).id == "r1"


async def test_an_id_that_is_on_its_way_is_refused(there: World) -> None:
    there.log.down()
    async with Client(there.gateway.url, window=2) as client:
        first = await client.send("t-ticks", "e", tick("e"))
        with pytest.raises(Refused, match="'e' is on its way: wait for its answer") as refused:
            await client.send("t-ticks", "e", tick("e"))
        assert refused.value.temporary
        there.log.up()
        assert (await first).id == "e"
        assert (await client.publish("t-ticks", "e", tick("e"))).offset == 1


async def test_the_window_holds_a_publisher_back(there: World) -> None:
    there.log.down()
    async with Client(there.gateway.url, window=2) as client:
        acks = [await client.send("t-ticks", id, tick(id)) for id in ("a", "b")]
        third = asyncio.create_task(client.send("t-ticks", "c", tick("c")))
        await until(lambda: there.gateway.metrics.events == 2)
        await asyncio.sleep(0.05)
        assert not third.done()
        assert there.gateway.metrics.events == 2
        there.log.up()
        assert [(await ack).id for ack in (*acks, await third)] == ["a", "b", "c"]


async def test_unsubscribing_ends_the_results_and_one_may_come_back(there: World) -> None:
    async with Client(there.gateway.url) as client:
        async with client.subscribe("t-bare"):
            pass
        await until(lambda: there.gateway.metrics.subscriptions == 0)
        there.emit("t-bare", Note("unheard"))
        async with client.subscribe("t-bare") as again:
            there.emit("t-bare", Note("heard"))
            message = await anext(aiter(again))
            assert isinstance(message, Message)
            assert json.loads(message.data)["text"] == "heard"


async def test_a_gateway_that_stops_disconnects(there: World) -> None:
    async with Client(there.gateway.url) as client, client.subscribe("t-bare") as results:
        there.emit("t-bare", Note("last"))
        await until(lambda: not results._queue.empty())
        await there.gateway.stop()
        messages = aiter(results)
        assert isinstance(await anext(messages), Message)
        with pytest.raises(Disconnected, match="closed: 3001 shutdown"):
            await anext(messages)
        for n in range(3):
            with pytest.raises(Disconnected, match="3001"):
                await client.publish("t-ticks", f"e{n}", tick(f"e{n}"))


# Against servers that do as they are told.


async def test_disconnection_ends_everything_that_waits() -> None:
    async def play(server: Script) -> None:
        await server.subscribed()
        await server.heard("publish")
        await server.heard("publish")
        await server.say(op="ack", acks=[["a", 0, 1]])
        server.socket.transport.abort()

    async with scripted(play) as url, Client(url, window=2) as client, client.subscribe("c") as results:
        a, b = [await client.send("t", id, {}) for id in "ab"]
        held = asyncio.create_task(client.send("t", "c", {}))
        assert await a == Ack("a", 0, 1)
        with pytest.raises(Disconnected, match="the connection broke"):
            await b
        with pytest.raises(Disconnected):
            await (await held)
        with pytest.raises(Disconnected):
            await anext(aiter(results))
        for n in range(5):  # more than the window: what fails does not fill it
            with pytest.raises(Disconnected):
                await asyncio.wait_for(client.publish("t", f"{n}", {}), PATIENCE)
        with pytest.raises(Disconnected):
            async with client.subscribe("d"):
                pass


async def test_gaps_are_told() -> None:
    async def play(server: Script) -> None:
        await server.subscribed()
        await server.result(1)
        await server.say(op="gap", sid=1, from_seq=2, to_seq=4, reason="slow", lost=3)
        await server.result(2)

    async with scripted(play) as url, Client(url) as client, client.subscribe("c") as results:
        messages = aiter(results)
        got = [await anext(messages) for _ in range(3)]
    assert got[1] == Gap(3, "slow")
    assert [m.data for m in got if isinstance(m, Message)] == [b"1", b"2"]


async def test_a_cancelled_publish_leaves_its_answer_to_nobody() -> None:
    async def play(server: Script) -> None:
        await server.heard("publish")
        assert (await server.heard("publish"))["id"] == "b"
        await server.say(op="ack", acks=[["a", 0, 0], ["b", 0, 1]])

    async with scripted(play) as url, Client(url, window=1) as client:
        first = asyncio.create_task(client.publish("t", "a", {}))
        await until(lambda: "a" in client._acks)
        first.cancel()
        assert await client.publish("t", "b", {}) == Ack("b", 0, 1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscriptions that hold two frames."""
    monkeypatch.setattr(module, "_QUEUE", 2)


async def flood(server: Script) -> None:
    """Far more than the client takes, on two subscriptions; then an ack behind it all."""
    await server.subscribed(1)
    await server.subscribed(2)
    for n in range(50):
        await server.result(n, sid=1)
        await server.result(n, sid=2)
    frame = await server.heard("publish")
    await server.say(op="ack", acks=[[frame["id"], 0, 0]])


@pytest.mark.usefixtures("narrow")
async def test_a_slow_reader_loses_nothing_here() -> None:
    async def play(server: Script) -> None:
        await server.subscribed()
        for n in range(300):
            await server.result(n)
        server.socket.transport.close()

    async with scripted(play) as url, Client(url) as client, client.subscribe("c") as results:
        got: list[int] = []
        with pytest.raises(Disconnected):
            async for message in results:
                assert isinstance(message, Message)
                got.append(json.loads(message.data))
                await asyncio.sleep(0)
    assert got == list(range(300))


@pytest.mark.usefixtures("narrow")
async def test_leaving_a_subscription_that_nobody_read_lets_the_rest_through() -> None:
    async with scripted(flood) as url, Client(url) as client, client.subscribe("two") as two:
        async with client.subscribe("one"):
            await until(lambda: any(s._queue.full() for s in client._subscriptions.values()))
        reading = asyncio.create_task(read(two, 50))
        assert await asyncio.wait_for(client.publish("t", "e", {}), PATIENCE) == Ack("e", 0, 0)
        assert len(await reading) == 50


@pytest.mark.usefixtures("narrow")
async def test_closing_with_unread_subscriptions_does_not_hang() -> None:
    async def session(url: str) -> None:
        async with Client(url) as client, client.subscribe("one"), client.subscribe("two"):
            await until(lambda: any(s._queue.full() for s in client._subscriptions.values()))
            await client.send("t", "e", {})

    async with scripted(flood) as url:
        await asyncio.wait_for(session(url), PATIENCE)


async def read(subscription: module.Subscription, count: int) -> list[Message | Gap]:
    found = []
    async for message in subscription:
        found.append(message)
        if len(found) == count:
            break
    return found


async def test_what_is_no_gateway_is_told() -> None:
    async def play(server: Script) -> None:
        await server.heard("publish")
        await server.socket.send("hello there")

    async with scripted(play) as url, Client(url) as client:
        with pytest.raises(Disconnected, match="that is no gateway"):
            await client.publish("t", "e", {})


async def test_nobody_there() -> None:
    async with scripted(lambda server: asyncio.sleep(0)) as url:
        pass
    with pytest.raises(Disconnected, match=f"no gateway at {url}: "):
        async with Client(url):
            pass


@pytest.mark.parametrize("url", ["localhost:8000", "http://127.0.0.1:8000", "ws://"])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SettingsError, match=r"expected a gateway's address such as ws://127\.0\.0\.1:8000"):
        async with Client(url):
            pass
