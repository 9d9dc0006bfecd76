"""Both edges on one connection, over a log in memory, with a real WebSocket client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from streamproc.define.deadletter import DeadLetter
from tests.edge.kit import Note, Tick, World, tick, world


@pytest.fixture
async def there() -> AsyncIterator[World]:
    async with world() as running:
        yield running


async def test_hello_is_welcomed(there: World) -> None:
    async with there.client() as client:
        welcome = await client.ask(op="hello", client="test/1", version=1)
        assert welcome["op"] == "welcome"
        assert welcome["node"] == there.gateway.node
        assert welcome["limits"]["message"] == there.gateway.limits.message
        assert client.socket.subprotocol == "streamproc.v1.json"


async def test_an_event_is_acknowledged_with_its_place_and_lies_there(there: World) -> None:
    async with there.client() as client:
        await client.say(op="publish", id="e1", topic="t-ticks", data=tick("e1"))
        ack = await client.frame()
        assert ack["op"] == "ack"
        ((id, partition, offset),) = ack["acks"]
        assert (id, offset) == ("e1", 0)
    (message,) = there.log.messages("t-ticks")
    assert (message.partition, message.offset, message.key) == (partition, offset, b"a")
    assert there.records("t-ticks") == [Tick(**tick("e1"))]


async def test_a_batch_is_acknowledged_event_by_event_and_a_bad_one_costs_nothing(there: World) -> None:
    async with there.client() as client:
        bad = [
            {"id": "no-data"},
            {"id": "wrong", "data": tick("wrong") | {"x": "high"}},
            {"id": "extra", "data": tick("extra") | {"y": 1}},
            17,
        ]
        good = [{"id": f"g{n}", "data": tick(f"g{n}")} for n in range(5)]
        await client.say(op="publish", topic="t-ticks", batch=[*good[:2], *bad, *good[2:]])
        assert set(await client.acks(5)) == {f"g{n}" for n in range(5)}
        errors = [await client.the("error") for _ in range(4)]
    assert [(e.get("id"), e["index"], e.get("field")) for e in errors] == [
        ("no-data", 2, "data"),
        ("wrong", 3, "x"),
        ("extra", 4, "y"),
        (None, 5, None),
    ]
    assert {(e["code"], e["temporary"]) for e in errors} == {(107, False)}
    letters = await there.dead(4)
    assert [json.loads(letter.value or b"") for letter in letters] == bad[:1] + [b["data"] for b in bad[1:3]] + [17]  # type: ignore[index]
    assert {letter.stage for letter in letters} == {"ingest"}


async def test_a_result_reaches_its_subscriber_with_its_cause(there: World) -> None:
    async with there.client() as client:
        subscribed = await client.ask(op="subscribe", id="s", ch="t-results")
        assert subscribed == {
            "op": "subscribed",
            "id": "s",
            "sid": subscribed["sid"],
            "ch": "t-results",
            "epoch": there.gateway.node,
            "seq": 1,
        }
        there.emit("t-results", Note("hi", "e7"), key=b"k", timestamp=1_700_000_000_000)
        batch = await client.frame()
        assert (batch["op"], batch["sid"], batch["seq"]) == ("batch", subscribed["sid"], 1)
        (message,) = batch["msgs"]
        place = {"p": message["p"], "o": 0, "k": "k", "ts": 1_700_000_000_000}
        assert message == place | {"d": {"text": "hi", "event": "e7"}, "cid": "e7"}
        there.emit("t-results", Note("next"))
        assert (await client.frame())["seq"] == 2


async def test_unsubscribe_ends_it_and_subscribing_twice_is_refused(there: World) -> None:
    async with there.client() as client:
        sid = (await client.ask(op="subscribe", id="1", ch="t-bare"))["sid"]
        assert (await client.ask(op="subscribe", id="2", ch="t-bare"))["code"] == 105
        assert await client.ask(op="unsubscribe", id="3", sid=sid) == {"op": "unsubscribed", "id": "3", "sid": sid}
        assert (await client.ask(op="unsubscribe", id="4", sid=sid))["code"] == 102
        there.emit("t-bare", Note("unheard"))
        await there.producer.flush()
        assert (await client.ask(op="ping", t=1))["op"] == "pong"
        again = await client.ask(op="subscribe", id="5", ch="t-bare")
        there.emit("t-bare", Note("heard"))
        batch = await client.frame()
        assert [m["d"]["text"] for m in batch["msgs"]] == ["heard"]
        assert batch["seq"] == again["seq"]


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ("{nope", 107, None),
        ("[1]", 107, None),
        ('{"op":"explode","id":"1"}', 104, "op"),
        ('{"id":"1"}', 107, "op"),
        ('{"op":"subscribe","id":"1","ch":"nowhere"}', 102, "ch"),
        ('{"op":"subscribe","id":"1","ch":"t-ticks"}', 102, "ch"),
        ('{"op":"subscribe","id":"1","ch":"t-bare","filter":{"key":"x"}}', 107, "filter.cmp"),
        ('{"op":"subscribe","id":"1","ch":"t-bare","from":0}', 108, "from"),
        ('{"op":"hello","token":"abc"}', 108, "token"),
        ('{"op":"hello","version":2}', 108, "version"),
        ('{"op":"publish","id":"1","topic":"nowhere","data":{}}', 102, "topic"),
        ('{"op":"publish","id":"1","topic":"t-inner","data":{"text":"x"}}', 102, "topic"),
        ('{"op":"publish","id":"1","topic":"t-notes","data":{"text":7}}', 107, "text"),
        ('{"op":"publish","id":"1","topic":"t-notes","data":[]}', 107, None),
        ('{"op":"publish","id":"1","topic":"t-notes","data":{"text":"x"},"colour":1}', 107, "colour"),
        ('{"op":"publish","id":"","topic":"t-notes","data":{"text":"x"}}', 107, "id"),
        ('{"op":"publish","topic":"t-notes","data":{"text":"x"}}', 107, "id"),
        ('{"op":"publish","id":"1","topic":"t-notes","data":{"text":"x"},"ts":5}', 107, "ts"),
        ('{"op":"publish","id":"1","topic":"t-notes","data":{"text":"x"},"schema":5}', 108, "schema"),
        ('{"op":"publish","topic":"t-notes","batch":[]}', 107, "batch"),
    ],
)
async def test_what_cannot_be_taken_is_answered_and_the_connection_goes_on(
    there: World, said: str, code: int, field: str | None
) -> None:
    async with there.client() as client:
        await client.socket.send(said)
        error = await client.frame()
        assert (error["op"], error["code"], error.get("field")) == ("error", code, field)
        assert (await client.ask(op="ping"))["op"] == "pong"
    metric = there.gateway.metrics.registry.get_sample_value("streamproc_gateway_errors_total", {"code": str(code)})
    assert metric == 1


async def test_a_malformed_frame_is_a_dead_letter_with_its_bytes_and_session(there: World) -> None:
    async with there.client() as client:
        session = (await client.ask(op="hello"))["session"]
        await client.socket.send(b'{"op":"publish", \xff\x00')
        assert (await client.frame())["code"] == 107
    (letter,) = await there.dead()
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.session, letter.value) == ("malformed", session, b'{"op":"publish", \xff\x00')
    assert letter.app == "t"


async def test_an_unknown_schema_id_in_a_channel_is_a_dead_letter_and_a_gap(there: World) -> None:
    async with there.client() as client:
        sid = (await client.ask(op="subscribe", id="1", ch="t-bare"))["sid"]
        there.emit("t-bare", Note("before"))
        there.producer.send("t-bare", b"\x00\x00\x0f\x42\x40junk", key=b"k")
        there.producer.send("t-bare", b"\x00\x00")
        there.emit("t-bare", Note("after"))
        frames = [await client.frame() for _ in range(4)]
    assert [f["op"] for f in frames] == ["batch", "gap", "gap", "batch"]
    assert frames[1] == {"op": "gap", "sid": sid, "from_seq": 2, "to_seq": 2, "reason": "undecodable", "lost": 1}
    assert frames[3]["seq"] == 4
    letters = await there.dead(2)
    assert [(x.topic, x.partition, x.offset, x.reason) for x in letters] == [
        ("t-bare", 0, 1, "undecodable"),
        ("t-bare", 0, 2, "undecodable"),
    ]
    assert letters[0].value == b"\x00\x00\x0f\x42\x40junk"


async def test_clients_do_not_disturb_each_other(there: World) -> None:
    async with there.client() as good, there.client() as bad:
        await good.ask(op="subscribe", id="1", ch="t-bare")
        for _ in range(50):
            await bad.socket.send("garbage")
        await good.say(op="publish", id="n1", topic="t-notes", data={"text": "x"})
        assert set(await good.acks(1)) == {"n1"}
        bad.socket.transport.abort()
        there.emit("t-bare", Note("still here"))
        assert (await good.frame())["op"] == "batch"


async def test_a_thousand_events_go_round_and_none_is_lost_or_doubled(there: World) -> None:
    """The closed loop, with an echo in place of the worker."""
    async with there.client() as client:
        await client.ask(op="subscribe", id="s", ch="t-results")

        async def echo() -> None:
            tail = there.log.tail(["t-ticks"])
            done = 0
            async for batch in tail:
                for message in batch:
                    id = there._codecs["t-ticks"].decode(message.value).id
                    there.emit("t-results", Note("r", id), key=message.key, timestamp=message.timestamp)
                    done += 1
                if done == 1000:
                    break
            await tail.close()

        echoing = asyncio.create_task(echo())
        await asyncio.sleep(0)
        for n in range(1000):
            await client.say(op="publish", id=f"e{n}", topic="t-ticks", data=tick(f"e{n}", f"u{n % 7}"))
        caused: list[str] = []
        while len(caused) < 1000:
            caused += [m["cid"] for m in (await client.the("batch"))["msgs"]]
        await echoing
        acks = await client.acks(1000)
    assert sorted(caused) == sorted(f"e{n}" for n in range(1000))
    assert len(set(acks.values())) == 1000
    for key in range(7):
        mine = [id for id in caused if int(id[1:]) % 7 == key]
        assert mine == sorted(mine, key=lambda id: int(id[1:]))
    assert there.gateway.metrics.registry.get_sample_value("streamproc_gateway_end_to_end_seconds_count") == 1000
