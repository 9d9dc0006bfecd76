"""A whole system: real processes, a real Kafka, real WebSockets. What goes in comes out, and what is bad goes aside."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from confluent_kafka import Producer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamproc.client import Disconnected, Refused
from streamproc.log.broker import EmbeddedBroker
from tests.e2e.kit import Collector, Place, collecting, events, metrics, page, publish, running, until
from tests.e2e.topology import BIG, SIZE_MS, STEP_MS, Event

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
START = 1_700_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with running(f"s{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("system"), broker.settings) as there:
        yield there


def windows(of: list[Event]) -> dict[tuple[str, int], dict[str, Any]]:
    """What the windows of events must hold, one by one."""
    cut: dict[tuple[str, int], list[float]] = {}
    for event in of:
        last = event.ts // STEP_MS * STEP_MS
        for start in range(last, event.ts - SIZE_MS, -STEP_MS):
            cut.setdefault((event.unit, start), []).append(event.x)
    return {
        at: {"n": len(xs), "sum": math.fsum(xs), "least": min(xs), "greatest": max(xs), "mean": math.fsum(xs) / len(xs)}
        for at, xs in cut.items()
    }


async def test_every_event_goes_round_exactly_once(place: Place) -> None:
    sent = list(events("round", 3000, start=START))
    # Far ahead, one per unit: their time closes the windows of all that came before.
    ends = [Event(f"end-{u}", f"u{u}", START + 3_600_000, 0.0, "") for u in range(7)]
    channels = [place.topic(short) for short in ("counted", "big", "survivors", "plain", "windows")]
    async with (
        place.client() as publisher,
        place.client() as other,
        collecting(publisher, *channels) as first,
        collecting(other, *channels) as second,
    ):
        acks = await publish(publisher, place.topic("events"), [*sent, *ends])
        ids = {event.id for event in (*sent, *ends)}
        expected = windows(sent)
        for counted, big, survivors, plain, bars in (first, second):
            for collector in (counted, survivors, plain):
                await collector.has(ids)
                assert collector.causes == dict.fromkeys(ids, 1)
            large = {event.id for event in sent if event.x > BIG}
            await big.has(large)
            assert big.causes == dict.fromkeys(large, 1)

            def before_the_ends(bars: Collector = bars) -> list[Any]:
                return [bar for bar in bars.data() if bar["start"] < START + 1_800_000]

            await until(lambda: len(before_the_ends()) >= len(expected))
            found = {(bar["unit"], bar["start"]): bar for bar in before_the_ends()}
            assert found.keys() == expected.keys()
            assert len(before_the_ends()) == len(expected)
            for at, want in expected.items():
                got = found[at]
                assert got["end"] == at[1] + SIZE_MS
                assert (got["n"], got["least"], got["greatest"]) == (want["n"], want["least"], want["greatest"])
                assert got["sum"] == pytest.approx(want["sum"], rel=1e-12)
                assert got["mean"] == pytest.approx(want["mean"], rel=1e-12)
        # Within a unit the order is that of sending, and the table has counted in it.
        for unit in range(7):
            nths = [score["nth"] for score in first[0].data() if score["unit"] == f"u{unit}"]
            assert all(b == a + 1 for a, b in pairwise(nths))
    codec = place.codec("events")
    there = {(raw.partition, raw.offset): codec.decode(raw.value or b"") for raw in place.raw("events")}
    for event in (*sent, *ends):
        assert there[acks[event.id].partition, acks[event.id].offset] == event


async def test_one_bad_record_costs_its_neighbours_nothing(place: Place) -> None:
    codec = place.codec("events")
    good = list(events("amid", 40, units=1, start=START + 7_200_000))
    encoded = [codec.encode(event) for event in good]
    wire = encoded[0]
    bad = {
        "schema": b"\0" + (987_654).to_bytes(4, "big") + wire[5:] + b"",
        "truncated": wire[:-9],
        "unframed": b'{"id": "amid-json"}',
        "trailing": wire + b"amid-tail",
        "magic": b"\7" + wire[1:],
        "empty": b"",
    }
    mixed: list[bytes] = []
    for n, value in enumerate(encoded):
        mixed.append(value)
        if n % 7 == 3 and bad_left(bad, mixed):
            mixed.append(next(b for b in bad.values() if b not in mixed))
    assert all(value in mixed for value in bad.values())
    async with (
        place.client() as client,
        collecting(client, place.topic("counted"), place.topic("plain")) as (counted, _),
    ):
        # One request to Kafka, so that good and bad lie in one record batch.
        producer = Producer(place.kafka.librdkafka() | {"linger.ms": 200, "acks": "all"})
        offsets: dict[bytes, int] = {}
        for value in mixed:
            producer.produce(
                place.topic("events"),
                value,
                b"u0",
                0,
                on_delivery=lambda error, record, value=value: offsets.setdefault(value, record.offset()),
            )
        await asyncio.to_thread(producer.flush, 20)
        await counted.has({event.id for event in good})
        assert all(counted.causes[event.id] == 1 for event in good)
        letters = []

        def all_there() -> bool:
            letters[:] = [x for x in place.letters() if x.stage == "decode" and x.offset in offsets.values()]
            return len(letters) >= len(bad)

        await until(all_there)
        by_value = {letter.value: letter for letter in letters}
        assert len(letters) == len(bad)
        assert by_value.keys() == set(bad.values())
        for value, letter in by_value.items():
            assert (letter.topic, letter.partition) == (place.topic("events"), 0)
            assert letter.offset == offsets[value or b""]
            assert (letter.reason, letter.key) == ("undecodable", b"u0")
            assert letter.app == place.name
        assert "987654" in by_value[bad["schema"]].error
        # The worker lives.
        await publish(client, place.topic("events"), [Event("amid-after", "u1", START + 7_300_000, 0.1, "")])
        await counted.has({"amid-after"})


def bad_left(bad: dict[str, bytes], mixed: list[bytes]) -> bool:
    return any(value not in mixed for value in bad.values())


async def test_an_event_that_its_agent_cannot_bear(place: Place) -> None:
    sent = [
        msgspec.structs.replace(event, text="boom" if n % 10 == 5 else "")
        for n, event in enumerate(events("bear", 50, start=START + 10_000_000))
    ]
    doomed = {event.id for event in sent if event.text}
    async with (
        place.client() as client,
        collecting(client, place.topic("survivors"), place.topic("counted")) as (survivors, counted),
    ):
        acks = await publish(client, place.topic("events"), sent)
        await counted.has({event.id for event in sent})
        await survivors.has({event.id for event in sent} - doomed)
        assert set(survivors.causes.values()) == {1}
        assert not doomed & survivors.causes.keys()
    letters = await place.letters_of({f"cannot bear {id}" for id in doomed}, len(doomed))
    assert len(letters) == len(doomed)
    codec = place.codec("events")
    for letter in letters:
        event = codec.decode(letter.value or b"")
        assert isinstance(event, Event)
        ack = acks[event.id]
        assert (letter.stage, letter.reason, letter.topic) == ("shaky", "agent_error", place.topic("events"))
        assert (letter.partition, letter.offset, letter.key) == (ack.partition, ack.offset, event.unit.encode())
        assert letter.error == f"ValueError: cannot bear {event.id}"
        assert "topology.py" in (letter.traceback or "")


async def test_bad_input_is_refused_kept_and_disturbs_nobody(place: Place) -> None:
    topic = place.topic("events")
    good = msgspec.to_builtins(Event("input-good", "u1", START + 20_000_000, 0.25, ""))
    async with place.client() as neighbour, collecting(neighbour, place.topic("counted")) as (counted,):
        async with connect(place.system.url, compression=None) as socket:

            async def ask(frame: bytes | dict[str, Any]) -> dict[str, Any]:
                await socket.send(frame if isinstance(frame, bytes) else json.dumps(frame))
                return json.loads(await socket.recv())  # type: ignore[no-any-return]

            def event(**changes: Any) -> dict[str, Any]:
                data = {**good, "id": "input-bad", **changes}
                return {"op": "publish", "id": "input-bad", "topic": topic, "data": data}

            malformed = await ask(b'{"op": "publish", "input-bad')
            assert (malformed["code"], malformed["temporary"]) == (107, False)
            unknown_field = await ask(event(colour="red"))
            assert (unknown_field["code"], unknown_field["field"], unknown_field["id"]) == (107, "colour", "input-bad")
            wrong_type = await ask(event(x="high"))
            assert (wrong_type["code"], wrong_type["field"]) == (107, "x")
            missing = event()
            del missing["data"]["text"]
            assert (await ask(missing))["field"] == "text"
            assert (await ask({**event(), "topic": "nowhere"}))["code"] == 102
            assert (await ask({"op": "subscribe", "id": "s", "ch": "nowhere"}))["code"] == 102
            ack = await ask({**event(id="input-good"), "id": "input-good"})
            assert ack["acks"][0][0] == "input-good"
            with pytest.raises(ConnectionClosed) as closed:
                await ask(event(text="input-bad" * 10_000))
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        await counted.has({"input-good"})
        assert (await neighbour.publish(topic, "input-after", {**good, "id": "input-after"})).id == "input-after"
        await counted.has({"input-after"})

    def reasons() -> list[tuple[str, str | None]]:
        return [(x.reason, x.topic) for x in place.letters() if x.stage == "ingest"]

    await until(lambda: "oversized" in [reason for reason, _ in reasons()])
    kept = [("invalid", topic)] * 3 + [("malformed", None), ("oversized", None)]
    assert Counter(at for at in reasons() if at[0] != "unknown_topic") == Counter(kept)
    for letter in (x for x in place.letters() if x.stage == "ingest"):
        assert letter.session
        assert letter.reason == "oversized" or b"input-bad" in (letter.value or b"")


async def test_an_event_for_an_unknown_topic_is_kept(place: Place) -> None:
    async with place.client() as client:
        with pytest.raises(Refused):
            await client.publish("nowhere", "lost-1", {"any": "thing"})
        # In order behind it: once this one is kept, the first would be, too.
        with pytest.raises(Refused):
            await client.publish(place.topic("events"), "lost-2", {"any": "thing"})
    second = (await place.letters_of({'"any":"thing"'}, 1))[-1]
    assert [x.reason for x in place.letters() if x.session == second.session] == ["unknown_topic", "invalid"]


async def test_what_is_published_again_is_another_event(place: Place) -> None:
    event = msgspec.to_builtins(Event("twice", "u1", START + 21_000_000, 0.25, ""))
    async with place.client() as client, collecting(client, place.topic("counted")) as (counted,):
        first = await client.publish(place.topic("events"), "twice", event)
        second = await client.publish(place.topic("events"), "twice", event)
        assert (second.partition, second.offset) == (first.partition, first.offset + 1)
        await until(lambda: counted.causes["twice"] == 2)
        with pytest.raises(Refused, match="id"):
            await client.publish(place.topic("events"), "another", event)


async def test_metrics_and_health(place: Place) -> None:
    gateway, worker = place.child("gateway"), place.child("worker")
    before = metrics(gateway) | metrics(worker)
    async with place.client() as client, collecting(client, place.topic("counted")) as (counted,):
        sent = list(events("metrics", 200, start=START + 30_000_000))
        await publish(client, place.topic("events"), sent)
        await counted.has({event.id for event in sent})
        assert metrics(gateway)["streamproc_gateway_connections"] == 1
    after = metrics(gateway) | metrics(worker)
    moved = {name: after[name] - before.get(name, 0.0) for name in after}
    assert moved["streamproc_gateway_events_total"] == 200
    assert moved["streamproc_gateway_acks_total"] == 200
    assert moved["streamproc_gateway_deliveries_total"] == 200
    assert moved["streamproc_gateway_end_to_end_seconds_count"] == 200
    assert moved["streamproc_gateway_produce_seconds_count"] == 200
    assert moved["streamproc_gateway_frames_total"] > 200
    assert moved["streamproc_gateway_bytes_total"] > 200 * 50
    assert moved["streamproc_worker_events_total"] == 4 * 200  # by window, rows, batches and shaky
    assert moved["streamproc_worker_rows_total"] == 200
    assert moved["streamproc_worker_bytes_total"] > 0
    assert moved["streamproc_worker_blocks_total"] > 0
    assert moved["streamproc_worker_decode_seconds_count"] == moved["streamproc_worker_blocks_total"]
    assert moved["streamproc_worker_processing_seconds_count"] > 0
    assert moved["streamproc_worker_latency_seconds_count"] > 0
    assert after["streamproc_worker_dead_letters_total"] > 0
    assert after["streamproc_gateway_dead_letters_total"] > 0
    assert after["streamproc_worker_tasks"] == 4 * 3
    await until(lambda: metrics(worker)["streamproc_worker_lag_records"] == 0)
    await until(lambda: sum(place.committed().values()) == len(place.raw("events")))
    for child in (gateway, worker):
        assert page(child, "/healthz") == (200, "ok\n")
        assert page(child, "/readyz") == (200, "ok\n")


async def test_killing_the_gateway_disconnects_and_loses_nothing_acknowledged(place: Place) -> None:
    acked: set[str] = set()
    async with place.client() as client:
        with pytest.raises(Disconnected):
            for n, event in enumerate(events("gate", 100_000, start=START + 40_000_000)):
                future = await client.send(place.topic("events"), event.id, msgspec.to_builtins(event))
                future.add_done_callback(
                    lambda f, id=event.id: acked.add(id) if not f.cancelled() and f.exception() is None else None
                )
                if n == 1500:
                    place.child("gateway").process.kill()
    assert len(acked) > 100
    codec = place.codec("events")
    there = {codec.decode(raw.value).id for raw in place.raw("events") if good_event(raw.value)}  # type: ignore[attr-defined,arg-type]
    assert acked <= there
    # Another one takes its place, and finds the worker at work.
    await place.system.ready(await place.system.spawn("gateway"))
    async with place.client() as client, collecting(client, place.topic("counted")) as (counted,):
        await publish(client, place.topic("events"), [Event("gate-after", "u1", START + 50_000_000, 0.1, "")])
        await counted.has({"gate-after"})


def good_event(value: bytes | None) -> bool:
    return bool(value) and b"gate-" in (value or b"")
