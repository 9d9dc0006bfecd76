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

from streamproc.errors import SettingsError

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
        options = rocks.Options(raw_mode=True)
        options.create_if_missing(True)
        blocks = rocks.BlockBasedOptions()
        blocks.set_block_cache(cache)
        blocks.set_cache_index_and_filter_blocks(True)  # else they lie beside the cache, however many
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
        found: bytes | None = self._db.get(key)
        return found

    def scan(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        found = self._db.iter()
        found.seek(prefix + begin)

        def rows() -> Iterator[tuple[bytes, bytes]]:
            while found.valid() and (key := found.key()).startswith(prefix):
                yield key, found.value()
                found.next()

        return rows()

    def write(self, puts: Mapping[bytes, bytes], gone: Iterable[bytes]) -> None:
        batch = self._batch(raw_mode=True)
        for key in gone:
            batch.delete(key)
        for key, value in puts.items():
            batch.put(key, value)
        self._db.write(batch, self._unlogged)

    def flush(self) -> None:
        """Brings all writes to the disk."""
        self._db.flush()

    def close(self) -> None:
        self.flush()
        self._db.close()

    @property
    def mark(self) -> Mark | None:
        """What it stands for; None: nothing yet."""
        found = self.get(_MARK)
        return None if found is None else msgspec.msgpack.decode(found, type=Mark)


def marked(puts: Mapping[bytes, bytes], mark: Mark) -> dict[bytes, bytes]:
    """What is to be put, and the mark that goes with it."""
    return {**puts, _MARK: msgspec.msgpack.encode(mark)}


def open_store(
    folder: Path, cache: Any, topic: str, topic_id: str, partition: int, version: str, not_before: int
) -> RocksStore:
    """The store of a changelog partition; an empty one, without a mark, where there is none that fits.

    Args:
        version: what the rows must mean.
        not_before: milliseconds since the epoch. One that was written last before is not used: the changelog may have
            forgotten since that rows are gone (see :data:`streamproc.state.topics.TOMBSTONES`).
    """
    path = folder / f"{topic}-{partition}.rocks"
    folder.mkdir(parents=True, exist_ok=True)
    problem = ""
    try:
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
        if "lock" in str(error).lower():
            raise
        problem = str(error)
    _log.warning("the store %s is not used, and the changelog is read instead: %s", path, problem)
    shutil.rmtree(path, ignore_errors=True)
    return RocksStore(path, cache)


def shared_cache(size: int = CACHE) -> Any:
    """A cache of so many bytes, for all stores of a worker."""
    return _rocks().Cache(size)


def _rocks() -> Any:
    try:
        import rocksdict
    except ImportError:
        raise SettingsError("tables on disk need the package rocksdict: pip install 'streamproc[disk]'") from None
    return rocksdict
