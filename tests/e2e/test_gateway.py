"""The gateway on a real Kafka: what it acknowledges is there, whatever the broker does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from websockets.exceptions import ConnectionClosed

from streamproc.avro.codec import Codec
from streamproc.define.app import App
from streamproc.edge.limits import Limits
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.kafka import KafkaLog
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import Message
from streamproc.settings import KafkaSettings
from tests.edge.kit import Client, Note, Tick, World, make_app, specs, tick, until, world

pytestmark = pytest.mark.e2e


async def topics(app: App, settings: KafkaSettings) -> None:
    admin = KafkaAdmin(settings)
    await admin.ensure(specs(app))
    await admin.close()


def everything(settings: KafkaSettings, topic: str) -> list[Message]:
    """All that lies in a topic, by a client that has nothing to do with the gateway."""
    consumer = Consumer(settings.librdkafka() | {"group.id": "all", "enable.auto.commit": False})
    found: list[Message] = []
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        consumer.assign([TopicPartition(topic, partition, low)])
        at = low
        while at < high:
            for raw in consumer.consume(500, 1.0):
                assert raw.error() is None
                found.append(Message(topic, partition, raw.offset(), raw.timestamp()[1], raw.key(), raw.value()))  # type: ignore[arg-type]
                at = found[-1].offset + 1
    consumer.close()
    return found


@contextlib.asynccontextmanager
async def on_kafka(settings: KafkaSettings, name: str, *, timeout: float = 30.0, **more: Any) -> AsyncIterator[World]:
    app = make_app(name)
    await topics(app, settings)
    async with world(KafkaLog(settings, delivery_timeout=timeout), app=app, **more) as there:
        yield there


class Publisher:
    """Publishes ticks until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, client: Client, topic: str) -> None:
        self.client = client
        self.topic = topic
        self.acked: dict[str, tuple[int, int]] = {}
        self.failed: list[dict[str, Any]] = []
        self.sent = 0
        self.stop = False

    async def publish(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while not self.stop:
                id = f"e{self.sent}"
                await self.client.say(op="publish", id=id, topic=self.topic, data=tick(id, f"u{self.sent % 5}"))
                self.sent += 1
                await asyncio.sleep(0.001)

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self.client.frame()
                if frame["op"] == "ack":
                    for id, partition, offset in frame["acks"]:
                        assert id not in self.acked
                        self.acked[id] = (partition, offset)
                elif frame["op"] == "error":
                    self.failed.append(frame)

    @property
    def settled(self) -> int:
        return len(self.acked) + len(self.failed)


def check(publisher: Publisher, there: World, settings: KafkaSettings) -> None:
    """Everything acknowledged lies where the acknowledgement says, in each key's order, and nothing twice."""
    codec = Codec.of(there.app.topics[publisher.topic], there.registry)
    places: dict[str, tuple[int, int]] = {}
    for message in everything(settings, publisher.topic):
        record = codec.decode(message.value or b"")
        assert isinstance(record, Tick)
        assert record.id not in places
        places[record.id] = (message.partition, message.offset)
    assert publisher.acked.items() <= places.items()
    by_key: dict[int, list[int]] = {}
    for id in sorted(publisher.acked, key=lambda id: publisher.acked[id]):
        by_key.setdefault(int(id[1:]) % 5, []).append(int(id[1:]))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_the_closed_loop(kafka: KafkaSettings, name: str) -> None:
    async with on_kafka(kafka, name) as there, there.client() as client:
        echo = there.log.tail([f"{name}-ticks"])
        await echo.ready()
        codec = Codec.of(there.app.topics[f"{name}-ticks"], there.registry)

        async def echoing() -> None:
            async for batch in echo:
                for m in batch:
                    there.emit(f"{name}-results", Note("r", codec.decode(m.value).id), timestamp=m.timestamp)  # type: ignore[attr-defined]

        task = asyncio.create_task(echoing())
        await client.ask(op="subscribe", id="s", ch=f"{name}-results")
        for n in range(300):
            await client.say(op="publish", id=f"e{n}", topic=f"{name}-ticks", data=tick(f"e{n}"))
        caused: list[str] = []
        while len(caused) < 300:
            caused += [m["cid"] for m in (await client.the("batch"))["msgs"]]
        assert sorted(caused) == sorted(f"e{n}" for n in range(300))
        assert len(await client.acks(300)) == 300
        await echo.close()
        await task


async def test_bad_input_is_a_dead_letter_in_kafka(kafka: KafkaSettings, name: str) -> None:
    async with on_kafka(kafka, name) as there, there.client() as client:
        await client.ask(op="subscribe", id="s", ch=f"{name}-bare")
        await client.socket.send(b'{"op": nope')
        await client.say(op="publish", id="w", topic=f"{name}-ticks", data=tick("w", x="high"))
        there.producer.send(f"{name}-bare", b"\x00\x00\x00\x99\x99whatever", key=b"k")
        there.producer.send(f"{name}-bare", b"\x00\x00\x00\x00\x01\x90", key=b"k")
        there.emit(f"{name}-bare", Note("after"))
        assert [(await client.the("error"))["code"] for _ in range(2)] == [107, 107]
        assert [(await client.the("gap"))["reason"] for _ in range(2)] == ["undecodable"] * 2
        assert (await client.the("batch"))["msgs"][0]["d"]["text"] == "after"
        await client.say(op="publish", id="g", topic=f"{name}-ticks", data=tick("g"))
        assert set(await client.acks(1)) == {"g"}
        app, registry = there.app, there.registry
    codec = Codec.of(app.dead_letters, registry)
    letters: list[Any] = [codec.decode(m.value or b"") for m in everything(kafka, app.dead_letters.name)]
    assert sorted(f"{x.stage} {x.reason} {x.topic} {x.offset}" for x in letters) == [
        f"egress undecodable {name}-bare 0",
        f"egress undecodable {name}-bare 1",
        f"ingest invalid {name}-ticks None",
        "ingest malformed None None",
    ]
    assert {x.value for x in letters if x.stage == "egress"} == {
        b"\x00\x00\x00\x99\x99whatever",
        b"\x00\x00\x00\x00\x01\x90",
    }


async def test_stopping_while_clients_publish_loses_nothing_acknowledged(kafka: KafkaSettings, name: str) -> None:
    async with on_kafka(kafka, name) as there:
        async with there.client() as client:
            publisher = Publisher(client, f"{name}-ticks")
            tasks = [asyncio.create_task(publisher.publish()), asyncio.create_task(publisher.listen())]
            await until(lambda: len(publisher.acked) >= 100)
            await there.gateway.stop()
            publisher.stop = True
            await asyncio.gather(*tasks)
            assert client.socket.close_code == 3001
        assert {error["code"] for error in publisher.failed} <= {202}
        # Every event that the gateway took was answered; what it never read is not there.
        assert len(everything(kafka, publisher.topic)) == len(publisher.acked)
        check(publisher, there, kafka)


async def test_a_broker_that_is_not_there_holds_nobody_else_up(name: str, unused_tcp_port: int) -> None:
    settings = KafkaSettings(bootstrap=f"127.0.0.1:{unused_tcp_port}")
    app = make_app(name)
    log = KafkaLog(settings, delivery_timeout=1)
    async with world(log, app=app, limits=Limits(drain=0.1)) as there, there.client() as client:
        assert set(there.gateway.problems()) == {"producer", "tail"}
        refused = await client.ask(op="subscribe", id="s", ch=f"{name}-bare")
        assert (refused["code"], refused["temporary"]) == (200, True)
        await client.say(op="publish", id="e", topic=f"{name}-ticks", data=tick("e"))
        assert (await client.ask(op="ping"))["op"] == "pong"
        error = await client.the("error")
        assert (error["id"], error["code"], error["temporary"]) == ("e", 200, True)


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


async def test_a_broker_that_goes_away_and_comes_back_loses_nothing_acknowledged(
    own_broker: EmbeddedBroker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = own_broker.settings
    async with on_kafka(settings, name, timeout=60) as there, there.client() as client, there.client() as subscriber:
        await subscriber.ask(op="subscribe", id="s", ch=f"{name}-bare")
        publisher = Publisher(client, f"{name}-ticks")
        tasks = [asyncio.create_task(publisher.publish()), asyncio.create_task(publisher.listen())]
        await until(lambda: len(publisher.acked) >= 200)
        await asyncio.to_thread(own_broker.restart)
        before = len(publisher.acked)
        await until(lambda: len(publisher.acked) >= before + 200)
        publisher.stop = True
        await tasks[0]
        await until(lambda: publisher.settled == publisher.sent)
        there.emit(f"{name}-bare", Note("after the outage"))
        assert (await subscriber.the("batch"))["msgs"][0]["d"]["text"] == "after the outage"
        assert there.gateway.problems() == {}
        tasks[1].cancel()
        check(publisher, there, settings)
        assert publisher.failed == []
    said = [record.getMessage() for record in caplog.records if record.name == "streamproc.log.kafka"]
    assert len([line for line in said if "does not answer" in line]) <= 3  # the gateway's two clients, and this test's
    assert len(said) < 20
