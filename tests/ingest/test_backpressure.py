"""A publisher that outruns Kafka is read no more; it loses nothing, and costs a bounded amount of memory."""

from __future__ import annotations

import asyncio

from streamproc.edge.limits import Limits
from streamproc.log.memory import MemoryLog
from tests.edge.kit import PATIENCE, Client, World, make_app, specs, until, world

TEXT = "x" * 1000


async def publish(client: Client, count: int) -> None:
    for n in range(count):
        await client.say(op="publish", id=f"e{n}", topic="t-notes", data={"text": TEXT})


async def stalled(there: World) -> int:
    """How many events the gateway had taken when it took no more."""
    async with asyncio.timeout(PATIENCE):
        taken = -1
        while taken != there.gateway.metrics.events or taken == 0:
            taken = there.gateway.metrics.events
            await asyncio.sleep(0.1)
        return taken


async def test_a_connection_is_read_no_more_while_too_much_of_it_is_in_flight() -> None:
    async with world(limits=Limits(in_flight=20_000)) as there, there.client() as client, there.client() as other:
        there.log.down()
        publishing = asyncio.create_task(publish(client, 5000))
        assert await stalled(there) < 25
        assert there.gateway.metrics.in_flight_bytes <= 20_000
        assert (await other.ask(op="ping"))["op"] == "pong"
        there.log.up()
        assert len(await client.acks(5000)) == 5000
        await publishing
        assert there.gateway.metrics.in_flight_bytes == 0
    texts = [record.text for record in there.records("t-notes")]
    assert texts == [TEXT] * 5000


async def test_a_full_producer_holds_the_publishers_and_loses_nothing() -> None:
    app = make_app()
    log = MemoryLog(*specs(app), max_messages=10)
    async with world(log, app=app) as there, there.client() as one, there.client() as two:
        log.down()
        publishing = [asyncio.create_task(publish(client, 300)) for client in (one, two)]
        assert await stalled(there) == 10
        log.up()
        assert len(await one.acks(300)) == 300
        assert len(await two.acks(300)) == 300
        await asyncio.gather(*publishing)
        assert len(log.messages("t-notes")) == 600


async def test_a_batch_larger_than_the_room_goes_through_in_parts_and_in_order() -> None:
    async with world(limits=Limits(in_flight=5_000)) as there, there.client() as client:
        batch = [{"id": f"e{n}", "key": "k", "data": {"text": f"{n} {TEXT}"}} for n in range(40)]
        await client.say(op="publish", topic="t-notes", batch=batch)
        acks = await client.acks(40)
        assert [acks[f"e{n}"][1] for n in range(40)] == list(range(40))


async def test_a_log_that_refuses_is_a_temporary_error_and_never_an_acknowledgement() -> None:
    async with world() as there, there.client() as client:
        there.log.down()
        await publish(client, 3)
        assert await stalled(there) == 3
        there.log.expire()
        errors = [await client.the("error") for _ in range(3)]
        assert {(e["id"], e["code"], e["temporary"]) for e in errors} == {(f"e{n}", 200, True) for n in range(3)}
        assert all(e["retry_after"] > 0 for e in errors)
        there.log.up()
        await client.say(op="publish", id="again", topic="t-notes", data={"text": "x"})
        assert set(await client.acks(1)) == {"again"}
        assert len(there.log.messages("t-notes")) == 1


async def test_a_topic_that_kafka_lacks_is_a_final_error() -> None:
    app = make_app()
    log = MemoryLog(*[spec for spec in specs(app) if spec.name != "t-notes"])
    async with world(log, app=app) as there, there.client() as client:
        await publish(client, 1)
        error = await client.frame()
        assert (error["id"], error["code"], error["temporary"]) == ("e0", 201, False)


async def test_a_publisher_that_leaves_while_it_is_held_frees_its_place() -> None:
    async with world(limits=Limits(in_flight=2_000)) as there:
        async with there.client() as client:
            there.log.down()
            publishing = asyncio.create_task(publish(client, 50))
            assert await stalled(there) < 5
            client.socket.transport.abort()
            await asyncio.gather(publishing, return_exceptions=True)
        there.log.up()  # while it is not read, nobody notices that it is gone
        await until(lambda: there.gateway.metrics.connections == 0)
        assert there.gateway.metrics.in_flight_bytes == 0
