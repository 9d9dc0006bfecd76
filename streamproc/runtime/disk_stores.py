"""The stores of a worker's tasks, where the app has tables on disk.

They are opened where their changelogs are read, written with what the changelogs have committed, and closed when their
partitions have gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from streamproc.define.agent import Agent
from streamproc.define.app import App
from streamproc.errors import SettingsError, StateError
from streamproc.process.state import Changes, State
from streamproc.process.tables import TableState
from streamproc.runtime.keeper import Changelogs, Copy
from streamproc.runtime.reader import ChangelogReader
from streamproc.state import head as heads
from streamproc.state import rocks
from streamproc.state.head import Head
from streamproc.state.restore import NOTHING, Restored
from streamproc.state.rocks import Mark, RocksStore, marked
from streamproc.state.stored_rows import StoredRows, other_changes, other_rows
from streamproc.state.topics import TOMBSTONES, name

_PATIENCE = 5.0  # seconds for another worker on this machine to let go of what was its own until now
_MOST = 8  # folders of one changelog partition
_log = logging.getLogger("streamproc.state")

Partition = tuple[str, int]  # of a changelog


class TaskStore:
    """One task's store: there from when its changelog is being read until it is closed."""

    def __init__(self) -> None:
        self._inner: RocksStore | None = None
        self._lock = threading.Lock()  # what goes on in a thread may outlive who wanted it
        self._closed = False

    @property
    def inner(self) -> RocksStore:
        if self._inner is None:
            raise RuntimeError("the store is not open")
        return self._inner

    @property
    def failure(self) -> StateError | None:
        return None if self._inner is None else self._inner.failure

    @failure.setter
    def failure(self, failure: StateError | None) -> None:
        self.inner.failure = failure

    def get(self, key: bytes) -> bytes | None:
        return self.inner.get(key)

    def scan(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self.inner.scan(prefix, begin)

    def write(self, puts: Mapping[bytes, bytes], gone: Iterable[bytes]) -> None:
        with self._lock:
            self.inner.write(puts, gone)

    def keep(self, mark: Mark) -> None:
        """Notes what it stands for, and brings it to the disk."""
        with self._lock:
            self.inner.write(marked({}, mark), [])
            self.inner.flush()

    def take(self, opened: Callable[[], RocksStore | None]) -> bool:
        """Lets go of what it has, and takes what this opens. False where that is nothing."""
        with self._lock:
            if self._closed:
                raise StateError("the task's partition has gone")
            if self._inner is not None:
                self._inner.close()
            self._inner = opened()
            return self._inner is not None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._inner is not None:
                self._inner.close()


class DiskStores:
    """The stores of a worker's tasks; none where its app has no tables on disk.

    Args:
        folder: in which each changelog partition has one of its own.

    Raises:
        SettingsError: there are such tables, and no folder for them, or no RocksDB.
    """

    def __init__(self, app: App, folder: Path | None) -> None:
        self.tables = [table for table in app.tables.values() if table.store == "disk"]
        agents = [stage for stage in app.agents.values() if isinstance(stage, Agent)] if self.tables else []
        self._changelogs = {name(app.name, agent.name) for agent in agents}
        self._stores: dict[Partition, TaskStore] = {}
        self.ids: Mapping[str, str] = MappingProxyType({})  # Kafka's of the changelogs, by name
        if not self._changelogs:
            return
        what = f"table {self.tables[0].name!r} is on disk"
        if folder is None:
            said = "the worker needs a folder for its rows: give it --state-dir DIR, or STREAMPROC_STATE_DIR"
            raise SettingsError(f"{what}: {said}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{what}, and the folder for its rows cannot be made: {error}") from None
        self.folder, self.cache = folder, rocks.shared_cache()

    def made(self, changelog: str, partition: int) -> TaskStore | None:
        """The store of a task that begins; None where it has none."""
        if changelog not in self._changelogs:
            return None
        store = self._stores[changelog, partition] = TaskStore()
        return store

    def get(self, changelog: str, partition: int) -> TaskStore | None:
        """That of a task."""
        return self._stores.get((changelog, partition))

    def copy(self, changelog: str, partition: int, state: State) -> Copy | None:
        """What brings a task's commits into its store; None where it has none."""
        store = self.get(changelog, partition)
        if store is None:
            return None
        assert isinstance(state, TableState)
        return _Following(self, store, state, (changelog, partition))

    def mark(self, at: Partition, version: str, head: Head, next_offset: int) -> Mark:
        """What a store stands for that has all before an offset. Which tables are on disk belongs to its version."""
        topic, partition = at
        now = int(time.time() * 1000)
        return Mark(topic, self.ids[topic], partition, self.version(version), next_offset, now, heads.encode(head))

    def version(self, version: str) -> str:
        """What a store's rows mean, where those of the changelog have this version."""
        return f"{version}; on disk: {', '.join(sorted(f'{t.name!r} {t.ttl is not None}' for t in self.tables))}"

    async def keep(self, changelogs: set[Partition]) -> None:
        """Closes the stores of others than these: their tasks are elsewhere."""
        gone = [self._stores.pop(at) for at in set(self._stores) - changelogs]
        await asyncio.gather(*(asyncio.to_thread(store.close) for store in gone))

    async def close(self) -> None:
        """Closes all. No task may use them any more."""
        await self.keep(set())


class _Following:
    """Brings what the changelog has committed into a task's store."""

    def __init__(self, stores: DiskStores, store: TaskStore, state: TableState, at: Partition) -> None:
        self._stores, self._store, self._state, self._at = stores, store, state, at

    async def follow(self, changes: Changes, head: Head, next_offset: int) -> None:
        puts, gone = self._state.kept()
        others, lost = other_changes(changes, self._stores.tables)
        mark = self._stores.mark(self._at, head.version, head, next_offset)
        await asyncio.to_thread(self._store.write, marked({**puts, **others}, mark), [*gone, *lost])
        self._state.stored()


class DiskChangelogs:
    """Reads changelogs for keepers: those of tasks with stores into these, from where they end.

    Args:
        others: reads all other changelogs.
    """

    def __init__(self, stores: DiskStores, reader: ChangelogReader, others: Changelogs) -> None:
        self._stores, self._reader, self._others = stores, reader, others

    async def read(self, topic: str, partition: int, version: str) -> Restored:
        """The rows that are to be in memory; raises what :meth:`ChangelogReader.read` does. ``version``: what they must
        mean.
        """
        store = self._stores.get(topic, partition)
        if store is None:
            return await self._others.read(topic, partition, version)
        await self._open(store, topic, partition, self._stores.version(version))
        begin, end = await self._reader.bounds(topic, partition)
        mark = store.inner.mark
        if mark is not None and not begin <= mark.next_offset <= end:
            said = "%s[%d]: the store goes up to offset %d, and the changelog from %d to %d: it is read whole"
            _log.warning(said, topic, partition, mark.next_offset, begin, end)
            await self._empty(store)
            mark = None
        try:
            return await self._read(store, topic, partition, mark)
        except StateError as error:
            if mark is None:
                raise
            _log.warning("%s[%d] is read whole: %s", topic, partition, error)
            await self._empty(store)
            return await self._read(store, topic, partition, None)

    async def _read(self, store: TaskStore, topic: str, partition: int, mark: Mark | None) -> Restored:
        onto, tables = NOTHING, self._stores.tables
        if mark is not None:
            rows = await asyncio.to_thread(other_rows, store, tables)
            onto = Restored(heads.decode(mark.head), *rows, mark.next_offset)
            _log.info("%s[%d]: its store goes on from offset %d", topic, partition, mark.next_offset)
        found = await self._reader.read(topic, partition, onto, StoredRows(store, tables))
        if found.head is not None and found.next_offset > onto.next_offset:
            now = self._stores.mark((topic, partition), found.head.version, found.head, found.next_offset)
            await asyncio.to_thread(store.keep, now)
        return found

    async def _open(self, store: TaskStore, topic: str, partition: int, version: str) -> None:
        """Opens the folder; another one where another worker on this machine does not let go of it, as one that is
        halted does not.
        """
        folder, cache, until, number = self._stores.folder, self._stores.cache, time.monotonic() + _PATIENCE, 0
        like = (topic, self._stores.ids[topic], partition, version, int(time.time() * 1000) - TOMBSTONES // 2)
        while not await asyncio.to_thread(store.take, partial(rocks.open_store, folder, cache, *like, number)):
            if time.monotonic() < until:
                await asyncio.sleep(0.1)
            elif (number := number + 1) == _MOST:
                raise StateError(f"{topic}[{partition}]: other workers have all its folders in {folder} open")
        if number:
            _log.warning(
                "%s[%d]: another worker has its folder open: it is in %s", topic, partition, store.inner.folder
            )
        await asyncio.to_thread(rocks.clear_others, folder, topic, partition, number)

    async def _empty(self, store: TaskStore) -> None:
        await asyncio.to_thread(store.take, partial(rocks.emptied, store.inner.folder, self._stores.cache))
