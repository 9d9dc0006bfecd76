"""Stores of tasks with tables on disk: what gets into them and when, what is read back, and how they fail."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamproc import App, Stream, Table
from streamproc.define.table import tables_of_task
from streamproc.errors import BrokerError, SettingsError, StateError
from streamproc.log.batches import RawRecord
from streamproc.process.disk_rows import Layout, MemoryStore
from streamproc.process.state import Changes, binary, items
from streamproc.process.tables import TableState
from streamproc.runtime import disk_stores
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.disk_stores import DiskChangelogs, DiskStores, TaskStore
from streamproc.state import stored_rows
from streamproc.state.head import FORMAT, Head, encode
from streamproc.state.restore import NOTHING, Restored, Rows
from streamproc.state.rocks import open_store, shared_cache
from streamproc.state.rows import HEAD, ROW
from streamproc.state.stored_rows import StoredRows, other_changes, other_rows
from streamproc.testing import TestDriver
from tests.runtime.kit import ListOutlet, Ping, agent, pings
from tests.runtime.test_keeper import System, flushes, run, until

rocks = pytest.mark.skipif(importlib.util.find_spec("rocksdict") is None, reason="rocksdict is not installed")
pack = msgspec.msgpack.encode


def tables() -> dict[str, Table[Any]]:
    """Two on disk, and others in the order of the store before, between and behind them."""
    app = App("disk")
    app.table("a", default=int, key=int)
    app.table("bb", default=int, key=int, store="disk")
    app.table("cc", default=int, key=int)
    app.table("dd", default=int, key=int, ttl="1s", store="disk")
    app.table("eee", default=int, key=int)
    return dict(app.tables)


def on_disk(all_tables: Mapping[str, Table[Any]]) -> list[Table[Any]]:
    return [table for table in all_tables.values() if table.store == "disk"]


def row(table: str, key: Any) -> bytes:
    return b"\x92" + pack(table) + pack(key)


# Rows into a store, and out of it.


def log_of(*rows: tuple[bytes, bytes | None]) -> list[RawRecord]:
    """A changelog's records; a head is the last of them."""
    records = [RawRecord(i, 0, ROW + key, value, ()) for i, (key, value) in enumerate(rows)]
    return [*records, RawRecord(len(rows), 0, HEAD, encode(Head(FORMAT, "v", {"events": 5}, {}, {})), ())]


@pytest.mark.parametrize("together", [1, 3, 20_000])
def test_a_changelog_goes_into_a_store_and_only_what_is_of_no_table_on_disk_into_memory(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_rows, "_TOGETHER", together)
    all_tables, store = tables(), MemoryStore()
    log: list[tuple[bytes, bytes | None]] = []
    for n in range(-3, 40):
        for name, table in all_tables.items():
            value = [n, n * n, 1000 + n] if table.ttl else [n, n * n]
            log.append((row(name, n % 20 - 1), pack(value)))
            if n % 3 == 0:
                log.append((row(name, n % 17 - 1), None))
    log += [(pack([name]), b"meaning") for name in all_tables]
    rows = Rows("log", 0, into=StoredRows(store, on_disk(all_tables)))
    half = len(log) // 2
    records = log_of(*log)
    rows.add([records[:half]])
    rows.add([records[half:]])
    found = rows.restored(len(records))
    want = {key: value for key, value in dict(log).items() if value is not None}
    assert found.head is not None
    assert found.head.positions == {"events": 5}
    got = dict(zip(items(found.keys), items(found.values), strict=True))
    own = tuple(Layout(table).rows for table in on_disk(all_tables))
    meant = {Layout(table).meant for table in on_disk(all_tables)}
    assert got == {key: value for key, value in want.items() if not key.startswith(own) and key not in meant}
    assert {key: value for key, value in store.rows.items() if key[0] > 1} == want
    for table in on_disk(all_tables):
        assert Layout(table).count(store) == sum(key.startswith(Layout(table).rows) for key in want)
    again = other_rows(store, on_disk(all_tables))
    assert dict(zip(items(again[0]), items(again[1]), strict=True)) == got


def test_rows_behind_what_a_store_has_are_taken_onto_it() -> None:
    all_tables, store = tables(), MemoryStore()
    rows = Rows("log", 0, into=StoredRows(store, on_disk(all_tables)))
    rows.add([log_of((row("bb", 1), pack([0, 1])), (row("a", 1), pack([0, 1])))])
    first = rows.restored(3)
    rows = Rows("log", 0, first, into=StoredRows(store, on_disk(all_tables)))
    assert rows.restored(3) == first
    records = log_of((row("x", 0), b""), (row("x", 0), b""), (row("x", 0), b""), (row("bb", 1), None))
    rows.add([records])  # the first three offsets are known
    found = rows.restored(5)
    assert items(found.keys) == [row("a", 1)]
    assert Layout(all_tables["bb"]).count(store) == 0


def test_what_a_flush_brings_of_other_tables() -> None:
    keys = [row("a", 1), row("bb", 1), row("dd", 2), pack(["a"])]
    changes = Changes(binary(keys), binary([b"1", b"2", b"3", b"4"]), binary([row("bb", 7), row("eee", 7)]))
    puts, gone = other_changes(changes, on_disk(tables()))
    assert (puts, gone) == ({row("a", 1): b"1", pack(["a"]): b"4"}, [row("eee", 7)])


def test_rows_of_a_table_that_went_to_the_disk_since_are_put_there() -> None:
    table = App("disk").table("bb", default=int, key=int, store="disk")
    store = MemoryStore()
    state = TableState({"bb": table}, store, ["bb"])
    meaning = pack({"key": "int", "value": "int", "timed": False})
    state.restore({"made bb": 5}, binary([pack(["bb"]), row("bb", 3)]), binary([meaning, pack([4, 9])]))
    assert list(state.rows(table).keys()) == [3]
    assert state.header()["made bb"] == 5


# The keeper.


class Copy:
    """Remembers what it is told; a gate can hold it up."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def follow(self, changes: Changes, head: Head, next_offset: int) -> None:
        await self.gate.wait()
        self.ends.append(next_offset)


def test_a_copy_gets_what_is_committed_with_the_changelogs_offset_and_before_anything_more_is_taken() -> None:
    async def test() -> None:
        system, copy = System(), Copy()
        system.one.copy = copy
        system.two.state.put(b"x", b"")  # type: ignore[attr-defined]
        copy.gate.clear()
        first = await system.see(system.one, 1)
        await until(lambda: len(flushes(system.producer)) == 1)
        second = await system.see(system.one, 2, b"other")
        await asyncio.sleep(0.02)
        assert len(flushes(system.producer)) == 1
        assert not first.finished
        copy.gate.set()
        await until(lambda: second.finished)
        assert copy.ends == [102, 104]  # a row and a head each
        await system.keeper.close(flush=True)

    run(test)


def test_a_copy_gets_nothing_that_is_not_committed() -> None:
    async def test() -> None:
        system, copy = System(), Copy()
        system.one.copy = copy
        system.producer.error = BrokerError("aborted")
        await system.see(system.one, 1)
        await until(lambda: bool(system.failures))
        assert copy.ends == []
        await system.keeper.close(flush=False)

    run(test)


# A store that fails.


class Failing(MemoryStore):
    def get(self, key: bytes) -> bytes | None:
        if self.rows:
            self.failure = StateError("damaged")
            raise self.failure
        return None


@pytest.mark.parametrize("swallows", [False, True])
async def test_what_cannot_be_read_costs_no_event_but_stops_the_task(swallows: bool) -> None:
    app = App("test")
    table = app.table("t", default=int, store="disk")

    async def play(stream: Stream) -> Any:
        async for ping in stream:
            try:
                table[ping.key] += 1
            except StateError:
                if not swallows:
                    raise
            yield ping

    store = Failing()
    definition = agent(play, app=app)
    outlet = ListOutlet()
    task = AgentTask(definition, outlet, store)
    store.rows[b"x"] = b""
    with pytest.raises(StateError, match="damaged"):
        await task.take(pings(1, 2, 3))
    assert (outlet.sends, outlet.letters) == ([], [])
    await task.stop()


@rocks
def test_a_store_that_has_failed_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared_cache(), "log", "id", 0, "v", 0)
    assert store is not None
    store.write({b"x": b"1"}, [])
    store.flush()
    for path in store.folder.glob("*.sst"):
        path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(StateError, match="cannot be read"):
        store.get(b"x")
    assert isinstance(store.failure, StateError)
    store.close()
    assert list(tmp_path.iterdir()) == []


# The stores of a worker.


def app_with(store: Any = "disk") -> App:
    app = App("shop")
    table = app.table("t", default=int, store=store)
    source = app.topic("pings", Ping, key="key")

    @app.agent(source, name="play")
    async def play(stream: Stream) -> None:
        async for ping in stream:
            table[ping.key] += ping.n

    return app


LOG = "shop-play-changelog"


class Reader:
    """A changelog's bounds; remembers from where it was read."""

    def __init__(self, end: int = 0) -> None:
        self.end, self.read_from = end, list[int]()
        self.head: Head | None = Head(FORMAT, "tables 1", {"pings": 5}, {}, {})

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.end

    async def read(self, topic: str, partition: int, onto: Restored, into: StoredRows) -> Restored:
        self.read_from.append(onto.next_offset)
        return Restored(self.head, *into.rows(), self.end)


class Others:
    async def read(self, topic: str, partition: int, version: str) -> Restored:
        return NOTHING


class Machine:
    """A worker on a folder."""

    def __init__(self, folder: Path | None, reader: Any, topic_id: str = "id", app: App | None = None) -> None:
        self.stores = DiskStores(app or app_with(), folder)
        self.stores.ids = {LOG: topic_id}
        self.changelogs = DiskChangelogs(self.stores, reader, Others())

    async def begin(self) -> TaskStore:
        store = self.stores.made(LOG, 0)
        assert store is not None
        await self.changelogs.read(LOG, 0, "tables 1")
        return store


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def aio(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@rocks
def test_a_store_goes_on_where_it_ended_unless_it_does_not_fit(tmp_path: Path) -> None:
    async def test() -> None:
        reader = Reader(7)
        for topic_id, end, want in (
            ("id", 7, 0),
            ("id", 9, 7),
            ("id", 9, 9),
            ("id", 4, 0),  # the changelog has less than the store
            ("id", 8, 4),
            ("another", 8, 0),
        ):
            reader.end = end
            machine = Machine(tmp_path, reader, topic_id)
            store = await machine.begin()
            assert reader.read_from[-1] == want
            assert (store.get(b"\x92row") is not None) == (want > 0)
            store.write({b"\x92row": b""}, [])
            await machine.stores.close()
        assert files(tmp_path) == [f"{LOG}-0.rocks"]

    aio(test)


@rocks
def test_what_another_worker_has_open_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk_stores, "_PATIENCE", 0.2)

    async def test() -> None:
        one, two, three = (Machine(tmp_path, Reader(7)) for _ in range(3))
        first = await one.begin()
        await two.begin()
        assert "another worker has its folder open" in caplog.text
        assert first.get(b"none") is None
        assert files(tmp_path) == [f"{LOG}-0.1.rocks", f"{LOG}-0.rocks"]
        await one.stores.keep(set())
        await two.stores.keep(set())
        await three.begin()
        assert files(tmp_path) == [f"{LOG}-0.rocks"]
        await three.stores.close()

    aio(test)


@rocks
def test_a_store_is_closed_when_its_partition_has_gone_and_not_opened_after_that(tmp_path: Path) -> None:
    async def test() -> None:
        machine = Machine(tmp_path, Reader(7))
        store = await machine.begin()
        await machine.stores.keep({(LOG, 0)})
        assert store.get(b"x") is None
        await machine.stores.keep(set())
        with pytest.raises(StateError):
            store.get(b"x")
        with pytest.raises(StateError, match="has gone"):
            store.take(lambda: None)

    aio(test)


@rocks
def test_other_tables_on_disk_are_another_store(tmp_path: Path) -> None:
    async def test() -> None:
        reader, app = Reader(7), app_with()
        machine = Machine(tmp_path, reader)
        await machine.begin()
        await machine.stores.close()
        app.table("more", default=int, store="disk")
        machine = Machine(tmp_path, reader, app=app)
        await machine.begin()
        await machine.stores.close()
        assert reader.read_from == [0, 0]

    aio(test)


@rocks
async def test_a_task_follows_its_flushes(tmp_path: Path) -> None:
    app = app_with()
    machine = Machine(tmp_path, Reader(0), app=app)
    machine.changelogs._reader.head = None  # type: ignore[attr-defined]
    store = await machine.begin()
    task = AgentTask(app.agents["play"], ListOutlet(), store)  # type: ignore[arg-type]
    copy = machine.stores.copy(LOG, 0, task.tables)
    assert copy is not None
    await task.take(pings(1, 2, 3))
    await copy.follow(task.tables.changes(), Head(FORMAT, "tables 1", {"pings": 3}, task.tables.header(), {}), 12)
    await task.stop()
    mark = store.inner.mark
    assert mark is not None
    assert (mark.next_offset, mark.topic_id) == (12, "id")
    assert store.get(row("t", "2")) == pack([1, 2])
    await machine.stores.close()


def test_tables_on_disk_need_a_folder_and_others_do_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"table 't' is on disk: .*--state-dir DIR, or STREAMPROC_STATE_DIR"):
        DiskStores(app_with(), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        DiskStores(app_with(), tmp_path / "file")
    stores = DiskStores(app_with("memory"), None)
    assert stores.made(LOG, 0) is None
    assert stores.get(LOG, 0) is None


def test_without_rocksdb_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(SettingsError, match=r"pip install 'streamproc\[disk\]'"):
        DiskStores(app_with(), tmp_path)


def test_the_driver_has_them_in_memory() -> None:
    app = app_with()
    seen: list[tuple[str, int]] = []
    table, source = app.tables["t"], app.topics["pings"]

    @app.agent(source, name="look")
    async def look(stream: Stream) -> None:
        async for ping in stream:
            table[ping.key] += ping.n
            seen[:] = list(table.items())

    with TestDriver(app) as driver:
        driver.publish(source, Ping("b", 1), Ping("a", 2), Ping("b", 3), partition=0)
    assert seen == [("a", 2), ("b", 4)]  # by key


def test_a_row_that_was_deleted_before_it_was_stored_is_not_met_by_who_looks_meanwhile() -> None:
    table = App("disk").table("t", default=int, key=int, store="disk")
    store = MemoryStore()
    state = TableState({"t": table}, store, ["t"])
    token = tables_of_task.set(state)
    for key in (1, 2, 3):
        table[key] = key
    state.commit()
    _flush(state, store)
    del table[2]
    state.commit()
    state.changes()
    looking = iter(table)
    assert next(looking) == 1
    store.write(*state.kept())
    state.stored()
    assert list(looking) == [3]
    tables_of_task.reset(token)


def _flush(state: TableState, store: MemoryStore) -> None:
    state.changes()
    store.write(*state.kept())
    state.stored()
