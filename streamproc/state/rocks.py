"""Stores on disk, by RocksDB: what a task's tables have beside memory, and up to where in its changelog.

Writes are not logged beforehand: a crash loses the last ones, and the changelog has them.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamproc.errors import SettingsError, StateError

CACHE = 64 << 20  # bytes of blocks in memory, of all stores of a worker together
_WRITTEN = 8 << 20  # bytes of writes that a store holds in memory, at most twice
_MARK = b"\x00"
_log = logging.getLogger("streamproc.state")


class Mark(msgspec.Struct, frozen=True):
    """What a store stands for: the rows of a changelog partition before ``next_offset``.

    Args:
        topic_id: Kafka's own: a topic that is made anew gets another one.
        version: what the rows mean.
        taken: when it was that, in milliseconds since the epoch.
        head: of the state then, as it stands in the changelog.
    """

    topic: str
    topic_id: str
    partition: int
    version: str
    next_offset: int
    taken: int
    head: bytes


class RocksStore:
    """A folder's store. One process at a time may have it open.

    Args:
        cache: of :func:`shared_cache`.
    """

    def __init__(self, folder: Path, cache: Any) -> None:
        rocks = _rocks()
        self.folder = folder
        self.failure: StateError | None = None
        options = rocks.Options(raw_mode=True)
        options.create_if_missing(True)
        blocks = rocks.BlockBasedOptions()
        blocks.set_block_cache(cache)
        blocks.set_cache_index_and_filter_blocks(True)  # else they lie beside the cache, however many
        # In parts: of a file of small rows they are larger than a shard of the cache (1 MiB) takes, and would be read,
        # and their checksums computed, with every row: 380 us instead of 9, of 4 million rows.
        blocks.set_index_type(rocks.BlockBasedIndexType.two_level_index_search())
        blocks.set_partition_filters(True)
        blocks.set_pin_top_level_index_and_filter(True)
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(_WRITTEN)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(256)
        options.set_keep_log_file_num(1)
        options.set_compression_type(rocks.DBCompressionType.lz4())
        self._db = rocks.Rdict(str(folder), options)
        self._batch = rocks.WriteBatch
        self._unlogged = rocks.WriteOptions()
        self._unlogged.disable_wal = True

    def get(self, key: bytes) -> bytes | None:
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed("cannot be read", error) from None
        return found

    def scan(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        try:
            found = self._db.iter()
            found.seek(prefix + begin)
        except Exception as error:
            raise self._failed("cannot be read", error) from None

        def rows() -> Iterator[tuple[bytes, bytes]]:
            while found.valid() and (key := found.key()).startswith(prefix):
                yield key, found.value()
                found.next()
            try:
                found.status()
            except Exception as error:
                raise self._failed("cannot be read", error) from None

        return rows()

    def write(self, puts: Mapping[bytes, bytes], gone: Iterable[bytes]) -> None:
        batch = self._batch(raw_mode=True)
        for key in gone:
            batch.delete(key)
        for key, value in puts.items():
            batch.put(key, value)
        try:
            self._db.write(batch, self._unlogged)
        except Exception as error:
            raise self._failed("cannot be written", error) from None

    def flush(self) -> None:
        """Brings all writes to the disk."""
        try:
            self._db.flush()
        except Exception as error:
            raise self._failed("cannot be written", error) from None

    def close(self) -> None:
        """Lets go of the folder. One that has failed is deleted: the changelog has what was in it."""
        try:
            if self.failure is None:
                self.flush()
        except StateError as error:
            _log.warning("%s; it is made anew from the changelog", error)
        self._db.close()
        if self.failure is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _failed(self, what: str, error: Exception) -> StateError:
        """rocksdict has one type for all: damage, a full disk, a store that is closed."""
        failure = StateError(f"the store {self.folder} {what}: {error}")
        if self.failure is None:
            self.failure = failure
        return failure

    @property
    def mark(self) -> Mark | None:
        """What it stands for; None: nothing yet."""
        found = self.get(_MARK)
        return None if found is None else msgspec.msgpack.decode(found, type=Mark)


def marked(puts: Mapping[bytes, bytes], mark: Mark) -> dict[bytes, bytes]:
    """What is to be put, and the mark that goes with it."""
    return {**puts, _MARK: msgspec.msgpack.encode(mark)}


def open_store(
    folder: Path, cache: Any, topic: str, topic_id: str, partition: int, version: str, not_before: int, number: int = 0
) -> RocksStore | None:
    """The store of a changelog partition; an empty one, without a mark, where there is none that fits. None: somebody
    has it open.

    Args:
        version: what the rows must mean.
        not_before: milliseconds since the epoch. One that was written last before is not used: the changelog may have
            forgotten since that rows are gone (see :data:`streamproc.state.topics.TOMBSTONES`).
        number: of the folder, where there are several.

    Raises:
        StateError: the folder cannot be used.
    """
    path = folder / _name(topic, partition, number)
    problem = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = RocksStore(path, cache)
        mark = store.mark
        if mark is None or (mark.topic, mark.topic_id, mark.partition) != (topic, topic_id, partition):
            problem = "it is of another changelog, or was not finished"
        elif mark.version != version:
            problem = f"its rows are of version {mark.version!r}; expected {version!r}"
        elif mark.taken < not_before:
            problem = "it is too old: the changelog may have forgotten which rows are gone since"
        else:
            return store
        if next(store.scan(b""), None) is None:
            return store
        store.close()
    except SettingsError:
        raise
    except Exception as error:  # rocksdict has one type for all: damage, a lock that another holds, a full disk
        if "/LOCK: " in str(error):
            return None
        problem = str(error)
    _log.warning("the store %s is not used, and the changelog is read instead: %s", path, problem)
    return emptied(path, cache)


def clear_others(folder: Path, topic: str, partition: int, number: int) -> None:
    """Deletes the stores of a changelog partition that nobody has open, but one."""
    for path in folder.glob(f"{topic}-{partition}.*rocks"):
        if path.name != _name(topic, partition, number):
            try:
                _rocks().Rdict.destroy(str(path))
            except Exception:  # somebody has it open
                continue
            shutil.rmtree(path, ignore_errors=True)


def _name(topic: str, partition: int, number: int) -> str:
    return f"{topic}-{partition}.{f'{number}.' if number else ''}rocks"


def emptied(path: Path, cache: Any) -> RocksStore:
    """A new store in the place of what is there. Raises StateError where it cannot be."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        return RocksStore(path, cache)
    except Exception as error:
        raise StateError(f"no store can be made in {path}: {error}") from None


def shared_cache(size: int = CACHE) -> Any:
    """A cache of so many bytes, for all stores of a worker."""
    return _rocks().Cache(size)


def _rocks() -> Any:
    try:
        import rocksdict
    except ImportError:
        raise SettingsError("tables on disk need the package rocksdict: pip install 'streamproc[disk]'") from None
    return rocksdict
