"""The gateway's shell: handshakes, limits, slow and silent clients, and the way it stops."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.edge import server
from streamproc.edge.limits import Limits
from streamproc.edge.server import Gateway
from streamproc.errors import SettingsError
from streamproc.log.memory import MemoryLog
from tests.edge.kit import EDGES, PATIENCE, Note, make_app, specs, tick, until, world


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    return gateway.metrics.registry.get_sample_value(f"streamproc_gateway_{name}", labels) or 0.0


async def http(gateway: Gateway, request: bytes) -> str:
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_a_plain_http_request_is_told_what_this_is() -> None:
    async with world() as there:
        answer = await http(there.gateway, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith("HTTP/1.1 426 ")
        assert "Upgrade: websocket" in answer
        assert "streamproc.v1.json" in answer
        assert metric(there.gateway, "refused_total", status="426") == 1


async def test_the_subprotocol_is_the_native_one_or_none() -> None:
    async with world() as there:
        async with connect(
            there.gateway.url, subprotocols=[Subprotocol("x"), Subprotocol("streamproc.v1.json")]
        ) as one:
            assert one.subprotocol == "streamproc.v1.json"
        async with connect(there.gateway.url) as other:
            assert other.subprotocol is None
            await other.send('{"op":"ping","t":5}')
            assert json.loads(await other.recv()) == {"op": "pong", "t": 5}
        with pytest.raises(InvalidStatus) as refused:
            await connect(there.gateway.url, subprotocols=[Subprotocol("mqtt")])
        assert refused.value.response.status_code == 400
        assert b"streamproc.v1.json" in refused.value.response.body


async def test_connections_over_the_cap_are_refused_and_places_come_free() -> None:
    async with world(limits=Limits(connections=2)) as there:
        async with there.client(), there.client():
            with pytest.raises(InvalidStatus) as refused:
                await connect(there.gateway.url)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "1"
        await until(lambda: there.gateway.metrics.connections == 0)
        async with there.client() as client:
            assert (await client.ask(op="ping"))["op"] == "pong"


async def test_sockets_far_over_the_cap_get_a_short_answer_before_any_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamproc.edge.connection.HANDSHAKES", 1)
    async with world(limits=Limits(connections=1)) as there:
        held = [await asyncio.open_connection(there.gateway.host, there.gateway.port) for _ in range(2)]
        await until(lambda: len(there.gateway._door.sockets) == 2)
        assert (await http(there.gateway, b"")).startswith("HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
        await until(lambda: not there.gateway._door.sockets)


async def test_a_frame_over_the_limit_closes_its_connection_and_names_the_limit() -> None:
    async with world(limits=Limits(message=1000)) as there:
        async with there.client() as client, there.client() as neighbour:
            await client.socket.send("x" * 1000)
            assert (await client.frame())["code"] == 107
            await client.socket.send("x" * 1001)
            with pytest.raises(ConnectionClosed) as closed:
                await client.frame()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, "1000 bytes" in closed.value.rcvd.reason) == (1009, True)
            assert (await neighbour.ask(op="ping"))["op"] == "pong"
        letters = await there.dead(2)
        assert [letter.reason for letter in letters] == ["malformed", "oversized"]
        assert metric(there.gateway, "closed_total", code="1009") == 1


async def test_dead_letters_are_limited_per_connection() -> None:
    async with world(limits=Limits(dead_letters=5)) as there:
        async with there.client() as client:
            for _ in range(40):
                assert (await client.ask(op="publish", id="1", topic="t-notes", data=5))["code"] == 107
        kept = metric(there.gateway, "dead_letters_total", reason="invalid")
        dropped = metric(there.gateway, "dead_letters_dropped_total", reason="rate")
        assert kept + dropped == 40
        assert dropped > 0
        assert len(await there.dead(int(kept))) == kept


async def test_a_client_that_pings_and_never_reads_is_cut() -> None:
    limits = Limits(write_buffer=1 << 10, frame=1 << 10, abort=64 << 10)
    async with world(limits=limits) as there, there.client() as client:
        client.socket.transport.pause_reading()
        ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
        transport = client.socket.transport
        for _ in range(20_000):
            if transport.is_closing() or metric(there.gateway, "closed_total", code="3008"):
                break
            transport.write(ping * 50)
            await asyncio.sleep(0)
        await until(lambda: metric(there.gateway, "closed_total", code="3008") == 1)
        await until(lambda: there.gateway.metrics.connections == 0)
        transport.abort()


async def test_a_slow_reader_is_told_its_gap_and_costs_the_others_nothing() -> None:
    limits = Limits(write_buffer=8 << 10, queue=100_000, frame=20_000)
    async with world(limits=limits) as there, there.client() as slow, there.client() as quick:
        await slow.ask(op="subscribe", id="1", ch="t-bare")
        await quick.ask(op="subscribe", id="1", ch="t-bare")
        slow.socket.transport.pause_reading()
        text, rounds = "x" * 10_000, 1200
        for n in range(rounds):
            there.emit("t-bare", Note(f"{n} {text}"))
            if n % 10 == 9:
                await there.producer.flush()
                seen = 0
                while seen < 10:
                    seen += len((await quick.the("batch"))["msgs"])
        assert there.gateway.metrics.queue_bytes <= limits.queue
        assert metric(there.gateway, "lost_total", reason="slow") > 0
        slow.socket.transport.resume_reading()
        expected, lost, got = 1, 0, 0
        while expected <= rounds:
            frame = await slow.frame()
            if frame["op"] == "gap":
                assert (frame["from_seq"], frame["reason"]) == (expected, "slow")
                assert frame["lost"] == frame["to_seq"] - expected + 1
                lost += frame["lost"]
                expected = frame["to_seq"] + 1
            else:
                assert frame["seq"] == expected
                assert [int(m["d"]["text"].split()[0]) + 1 for m in frame["msgs"]] == list(
                    range(expected, expected + len(frame["msgs"]))
                )
                got += len(frame["msgs"])
                expected += len(frame["msgs"])
        assert got + lost == rounds
        assert lost == metric(there.gateway, "lost_total", reason="slow")
        assert there.gateway.metrics.queue_bytes == 0


async def test_a_silent_client_is_pinged_and_a_dead_one_ended() -> None:
    limits = Limits(ping=0.1, ping_timeout=1.0)
    async with world(limits=limits) as there, there.client() as alive, there.client() as dead:
        await dead.ask(op="ping")
        dead.socket.transport.pause_reading()  # pings go unanswered
        await until(lambda: metric(there.gateway, "closed_total", code="3012") == 1)
        await asyncio.sleep(1.5)
        assert (await alive.ask(op="ping"))["op"] == "pong"
        assert metric(there.gateway, "closed_total", code="3012") == 1
        dead.socket.transport.abort()


async def test_a_port_in_use_is_a_clear_error_and_leaves_nothing() -> None:
    async with world() as there:
        app = make_app("u")
        log = MemoryLog(*specs(app))
        second = Gateway(app, log, MemoryRegistry(), port=there.gateway.port, edges=EDGES)
        with pytest.raises(SettingsError, match=f"port {there.gateway.port} on 127.0.0.1 is in use"):
            await second.start()
        assert log._tails == []


async def test_edges_come_from_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, name: str, edge: Any) -> None:
            self.name, self.edge = name, edge

        def load(self) -> Any:
            return self.edge

    asked: list[str] = []

    def points(group: str) -> list[Point]:
        asked.append(group)
        return [Point("ingest", EDGES[0])]

    monkeypatch.setattr(server, "entry_points", points)
    app = make_app()
    gateway = Gateway(app, MemoryLog(*specs(app)), MemoryRegistry())
    await gateway.start()
    async with connect(gateway.url) as client:
        await client.send('{"op":"subscribe","id":"1","ch":"t-bare"}')
        error = json.loads(await client.recv())
        assert (error["code"], error["message"]) == (104, "this gateway has no egress edge")
    await gateway.stop()
    assert asked == ["streamproc.edge"]

    monkeypatch.setattr(server, "entry_points", lambda group: [])
    with pytest.raises(SettingsError, match="no edges"):
        await Gateway(app, MemoryLog(), MemoryRegistry()).start()


async def test_stopping_acknowledges_what_is_in_flight_then_closes_with_3001() -> None:
    async with world() as there:
        async with there.client() as client:
            there.log.down()
            for n in range(20):
                await client.say(op="publish", id=f"e{n}", topic="t-ticks", data=tick(f"e{n}"))
            await until(lambda: there.gateway.metrics.events == 20)
            stopping = asyncio.create_task(there.gateway.stop())
            assert (await client.frame())["op"] == "drain"
            assert there.gateway.problems() == {"gateway": "draining"}
            await client.say(op="publish", id="late", topic="t-ticks", data=tick("late"))
            late = await client.frame()
            assert (late["op"], late["id"], late["code"], late["temporary"]) == ("error", "late", 202, True)
            assert (await client.ask(op="subscribe", id="s", ch="t-bare"))["code"] == 202
            there.log.up()
            assert set(await client.acks(20)) == {f"e{n}" for n in range(20)}
            with pytest.raises(ConnectionClosed) as closed:
                await client.frame()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3001, "shutdown")
            await stopping
        assert len(there.log.messages("t-ticks")) == 20
        with pytest.raises(OSError):
            await connect(there.gateway.url)


async def test_stopping_without_a_broker_ends_too() -> None:
    async with world(limits=Limits(drain=0.05)) as there, there.client() as client:
        there.log.down()
        await client.say(op="publish", id="e", topic="t-ticks", data=tick("e"))
        await until(lambda: there.gateway.metrics.events == 1)
        async with asyncio.timeout(PATIENCE):
            await there.gateway.stop()
        assert (await client.the("drain"))["after_ms"] == 50
        with pytest.raises(ConnectionClosed):
            await client.the("ack")
        assert there.log.messages("t-ticks") == []


async def test_a_bug_in_an_edge_is_answered_and_harms_no_one(caplog: pytest.LogCaptureFixture) -> None:
    class Half:
        def receive(self, frame: object, size: int) -> None:
            raise ZeroDivisionError

        def writable(self) -> None: ...

        def close(self) -> None: ...

    class Broken(EDGES[0]):  # type: ignore[misc, valid-type]
        def open(self, link: object) -> Half:
            return Half()

    with caplog.at_level(logging.CRITICAL):
        async with world(edges=[Broken, EDGES[1]]) as there, there.client() as client:
            error = await client.ask(op="publish", id="1", topic="t-notes", data={})
            assert (error["code"], error["temporary"]) == (100, True)
            assert (await client.ask(op="subscribe", id="1", ch="t-bare"))["op"] == "subscribed"


async def test_problems_are_named_until_the_gateway_is_ready() -> None:
    app = make_app()
    gateway = Gateway(app, MemoryLog(*specs(app)), MemoryRegistry(), edges=EDGES)
    assert gateway.problems() == {"gateway": "not started"}
    await gateway.start()
    assert gateway.problems() == {}
    assert gateway.ailing() == {}
    await gateway.stop()
    await gateway.stop()
