"""What a whole system survives: workers killed and leaving, a broker that goes away."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from streamproc.client import Ack, Client, Refused
from streamproc.log.broker import EmbeddedBroker
from tests.e2e.kit import Place, collecting, events, metrics, page, publish, running, until
from tests.e2e.topology import Event

pytestmark = [pytest.mark.e2e]


@pytest.fixture
async def place(broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Place]:
    async with running(f"f{uuid.uuid4().hex[:8]}", tmp_path, broker.settings) as there:
        yield there


class Stream:
    """Publishes without end, at a rate that the machine can bear, and keeps what was acknowledged."""

    def __init__(self, client: Client, topic: str, prefix: str) -> None:
        self.acked: dict[str, Ack] = {}
        self._client, self._topic, self._prefix = client, topic, prefix
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        pending = []
        for event in events(self._prefix, 1_000_000):
            if self._stop.is_set():
                break
            future = await self._client.send(self._topic, event.id, msgspec.to_builtins(event))
            future.add_done_callback(self._answered)
            pending.append(future)
            await asyncio.sleep(0.003)
        await asyncio.gather(*pending, return_exceptions=True)

    def _answered(self, future: asyncio.Future[Ack]) -> None:
        if not isinstance(future.exception(), Refused):
            self.acked[future.result().id] = future.result()

    async def reaches(self, count: int) -> None:
        """Returns when so many are acknowledged."""
        while len(self.acked) < count:
            assert not self._task.done(), self._task.exception()
            await asyncio.sleep(0.02)

    async def stop(self) -> set[str]:
        """Ends it when everything has its answer; the ids that are acknowledged."""
        self._stop.set()
        await self._task
        return set(self.acked)


async def test_workers_that_join_leave_and_die(place: Place) -> None:
    system, first = place.system, place.child("worker")
    async with (
        place.client() as client,
        collecting(client, place.topic("counted"), place.topic("plain")) as (counted, _),
    ):
        # Two share the partitions.
        second = await system.spawn("worker")
        await system.ready(second)
        await until(
            lambda: (
                all(0 < metrics(worker)["streamproc_worker_tasks"] < 4 * 3 for worker in (first, second))
                or touch(place)
            )
        )
        stream = Stream(client, place.topic("events"), "shared")
        await stream.reaches(300)
        # One leaves: the other takes over all of them.
        first.process.send_signal(signal.SIGTERM)
        assert await first.process.wait() == 0
        before = len(stream.acked)
        await stream.reaches(before + 200)
        shared = await stream.stop()
        await counted.has(shared)
        await until(lambda: sum(place.committed().values()) == len(place.raw("events")))

        # The other is killed in the middle, and a new one goes on from what was committed, not from the beginning.
        stream = Stream(client, place.topic("events"), "killed")
        await stream.reaches(300)
        second.process.kill()
        await second.process.wait()
        committed = place.committed()
        third = await system.spawn("worker")
        await stream.reaches(600)
        killed = await stream.stop()
        await counted.has(killed)
        await until(lambda: sum(place.committed().values()) == len(place.raw("events")))
        assert sum(committed.values()) >= len(shared)
        read = metrics(third)["streamproc_worker_rows_total"]
        assert read == len(place.raw("events")) - sum(committed.values())
        again = {cause for cause, count in counted.causes.items() if count > 1}
        assert not again & shared  # what was finished before the kill was not done again
        system.children.remove(first)
        system.children.remove(second)


async def test_a_worker_that_was_held_up_calls_nobody_late(place: Place) -> None:
    sent = list(events("held", 600))
    worker = place.child("worker")
    async with place.client() as client, collecting(client, place.topic("counted")) as (counted,):
        await publish(client, place.topic("events"), sent[:300])
        await counted.has({event.id for event in sent[:300]})
        worker.process.send_signal(signal.SIGSTOP)
        try:
            await publish(client, place.topic("events"), sent[300:])
            await asyncio.sleep(6)  # longer than the topology's windows wait for a quiet partition
        finally:
            worker.process.send_signal(signal.SIGCONT)
        await counted.has({event.id for event in sent})
        await until(lambda: metrics(worker)["streamproc_worker_lag_records"] == 0)
    assert place.raw("windows-late") == []


def touch(place: Place) -> bool:
    """Tasks come with their first events: sends some."""

    async def some() -> None:
        async with place.client() as client:
            await publish(client, place.topic("events"), events(f"touch-{uuid.uuid4().hex[:4]}", 20))

    asyncio.run(some())
    return False


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as started:
        yield started


async def test_a_broker_that_goes_away_and_comes_back(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with running("outage", tmp_path, own_broker.settings) as place:
        async with (
            place.client() as client,
            collecting(client, place.topic("counted"), place.topic("plain")) as (
                counted,
                plain,
            ),
        ):
            stream = Stream(client, place.topic("events"), "outage")
            await stream.reaches(300)
            own_broker.kill()
            for noun in ("gateway", "worker"):
                await until(lambda noun=noun: page(place.child(noun), "/readyz")[0] == 503)
                status, text = page(place.child(noun), "/readyz")
                assert status == 503
                assert "brokers are down" in text
                assert page(place.child(noun), "/healthz") == (200, "ok\n")
            await asyncio.to_thread(own_broker.start)
            before = len(stream.acked)
            await stream.reaches(before + 300)
            acked = await stream.stop()
            await counted.has(acked)
            await plain.has(acked)
            for child in place.system.children:
                assert child.process.returncode is None
                await until(lambda child=child: page(child, "/readyz") == (200, "ok\n"))
        codec = place.codec("events")
        there = {(raw.partition, raw.offset): codec.decode(raw.value or b"") for raw in place.raw("events")}
        for id, ack in stream.acked.items():
            event = there[ack.partition, ack.offset]
            assert isinstance(event, Event)
            assert event.id == id
        await until(lambda: metrics(place.child("worker"))["streamproc_worker_lag_records"] == 0)
