"""Tables on disk under a worker that is stopped, killed, and started with its folder, without it, or with a bad one.

Its results, its changelog and its store are those of the oracle.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from streamproc.define.table import Table
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.kafka_producer import KafkaProducer
from streamproc.log.partition import partition_of
from streamproc.process.disk_rows import Layout
from streamproc.runtime.table_reader import TableReader
from streamproc.runtime.topics import topic_specs
from streamproc.settings import KafkaSettings
from streamproc.state.rocks import RocksStore, marked, shared_cache
from streamproc.state.table_rows import tables_in
from tests.e2e import disk_topology
from tests.e2e.disk_topology import TTL_MS, Hit, Oracle, Tally, build, hits
from tests.e2e.kit import everything, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(importlib.util.find_spec("rocksdict") is None, reason="rocksdict is not installed"),
]
EVENTS = 12_000
GOES_ON, READ_WHOLE = "goes on from offset", "is not used"


class Worker:
    """A worker's process and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.said = process, ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.said += line.decode()

    async def ended(self) -> int:
        """Its exit code."""
        code = await asyncio.wait_for(self.process.wait(), 60)
        await self._reading
        return code

    async def kill(self) -> None:
        self.process.kill()
        await self.ended()

    async def stop(self) -> None:
        self.process.terminate()
        assert await self.ended() == 0


class Place:
    """A topology on a broker, and a folder."""

    def __init__(self, name: str, kafka: KafkaSettings, folder: Path) -> None:
        self.name, self.kafka, self.folder = name, kafka, folder / "state"
        self.app = build(name)
        registry = f"file:{folder / 'registry.json'}"
        self.codecs = {t.name: Codec.of(t, open_registry(registry)) for t in self.app.topics.values()}
        self._environ = {**os.environ, **kafka.environ(), disk_topology.NAME: name, "STREAMPROC_REGISTRY": registry}

    @asynccontextmanager
    async def worker(self, *options: str) -> AsyncIterator[Worker]:
        """Killed at the end, where it still lives."""
        topology = f"{Path(disk_topology.__file__)}:app"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamproc", "worker", topology, *options),
            env=self._environ,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        worker = Worker(process)
        try:
            yield worker
        finally:
            if process.returncode is None:
                await worker.kill()
            print(worker.said)

    def with_folder(self) -> Any:
        return self.worker("--state-dir", str(self.folder))

    async def publish(self, some: list[Hit]) -> None:
        producer, topic = KafkaProducer(self.kafka), self.app.topics[f"{self.name}-hits"]
        for number, hit in enumerate(some):
            producer.send(topic.name, self.codecs[topic.name].encode(hit), key=topic.key_of(hit))
            if number % 50 == 49:
                await asyncio.sleep(0.05)
        await producer.flush()
        await producer.close()

    def tallies(self) -> list[Tally]:
        topic = f"{self.name}-tallies"
        return [self.codecs[topic].decode(raw.value or b"") for raw in everything(self.kafka, topic)]  # type: ignore[misc]

    async def has(self, count: int) -> None:
        await until(lambda: len(everything(self.kafka, f"{self.name}-tallies")) >= count)

    def stores(self) -> list[Path]:
        return sorted(self.folder.glob("*.rocks"))

    async def in_changelog(self) -> dict[str, dict[Any, Any]]:
        reader, found = TableReader(self.app, self.kafka), dict[str, dict[Any, Any]]()
        async for _, _, state in reader.states(await reader.changelogs()):
            for table, rows in tables_in(state.head, state.keys, state.values).items():
                found.setdefault(table, {}).update({row.key: row.value for row in rows.in_order()})
        return found

    def in_stores(self) -> dict[str, dict[Any, Any]]:
        """Of the tables on disk; their counts are looked at, too."""
        found: dict[str, dict[Any, Any]] = {}
        for path in self.stores():
            store = RocksStore(path, shared_cache())
            for name, table in self.app.tables.items():
                if table.store == "disk":
                    rows = dict(_rows(store, table))
                    assert Layout(table).count(store) == len(rows)
                    found.setdefault(name, {}).update(rows)
            store.close()
        return found


def _rows(store: RocksStore, table: Table[Any]) -> Any:
    prefix = Layout(table).rows
    for key, value in store.scan(prefix):
        yield msgspec.msgpack.decode(key[len(prefix) :]), msgspec.msgpack.decode(value)[1]


@pytest.fixture
async def place(name: str, kafka: KafkaSettings, tmp_path: Path) -> Place:
    admin = KafkaAdmin(kafka)
    there = Place(name, kafka, tmp_path)
    await admin.ensure(topic_specs(there.app))
    await admin.close()
    return there


def as_it_is(place: Place) -> None:
    """The folder is left alone."""


def deleted(place: Place) -> None:
    shutil.rmtree(place.folder)


def damaged(place: Place) -> None:
    files = [path for store in place.stores() for path in store.glob("*.sst")]
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = bytes(255 - byte for byte in data[: len(data) // 2])
        path.write_bytes(data)


def of_another_topic(place: Place) -> None:
    """Of one with the same name and other rows."""
    for path in place.stores():
        store = RocksStore(path, shared_cache())
        mark = store.mark
        assert mark is not None
        wrong = {
            key: msgspec.msgpack.encode([0, 77_777]) for key, _ in store.scan(Layout(place.app.tables["totals"]).rows)
        }
        assert wrong
        store.write(marked(wrong, msgspec.structs.replace(mark, topic_id="another")), [])
        store.close()


@pytest.mark.parametrize(
    ("folder", "said"),
    [(as_it_is, GOES_ON), (deleted, None), (damaged, READ_WHOLE), (of_another_topic, READ_WHOLE)],
)
async def test_a_worker_that_is_killed_changes_nothing(
    place: Place, folder: Callable[[Place], None], said: str | None
) -> None:
    all_hits, third = hits(EVENTS), EVENTS // 3
    async with place.with_folder() as first:
        await place.publish(all_hits[:third])
        await place.has(third)
        await first.stop()
    async with place.with_folder() as second:
        publishing = asyncio.create_task(place.publish(all_hits[third : 2 * third]))
        await place.has(third + 1)
        await second.kill()
    assert second.said.count(GOES_ON) == 2
    folder(place)
    async with place.with_folder() as last:
        await publishing
        await place.publish(all_hits[2 * third :])
        await place.has(EVENTS)
        await until(lambda: "is up" in last.said)
        await last.stop()
    assert last.said.count(said or GOES_ON) == (2 if said else 0)
    oracle = Oracle()
    assert sorted(place.tallies(), key=lambda tally: tally.id) == list(oracle.tallies(all_hits))
    ends = [max(hit.at for hit in all_hits if partition_of(hit.key.encode(), 2) == p) for p in range(2)]
    recent = {
        key: ids
        for key, (ids, written) in oracle.recent.items()
        if written > ends[partition_of(key.encode(), 2)] - TTL_MS
    }
    on_disk = {"totals": oracle.totals, "recent": recent}
    assert await place.in_changelog() == on_disk | {"kinds": oracle.kinds}
    assert place.in_stores() == on_disk


async def test_a_partition_that_goes_takes_its_store_with_it(place: Place) -> None:
    """Two workers with one folder: what one lets go of, the other has."""
    all_hits, half = hits(EVENTS // 2), EVENTS // 4
    async with place.with_folder() as first:
        await place.publish(all_hits[:half])
        await place.has(half)
        async with place.with_folder() as second:
            await until(lambda: GOES_ON in second.said)
            await place.publish(all_hits[half:])
            await place.has(len(all_hits))
            await second.stop()
        await first.stop()
    assert sorted(place.tallies(), key=lambda tally: tally.id) == list(Oracle().tallies(all_hits))
    assert len(place.stores()) == 2


async def test_without_a_folder_a_worker_does_not_start(place: Place) -> None:
    async with place.worker() as worker:
        assert await worker.ended() == 2
    assert "table 'totals' is on disk: the worker needs a folder for its rows: give it --state-dir DIR" in worker.said
