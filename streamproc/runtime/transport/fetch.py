"""aiokafka's fetcher, giving whole record batches for the topics that want blocks, and records for all others.

aiokafka builds a ``PartitionRecords`` for every partition of a fetch response; its iterator is the only place that
makes an object per record. Here that class gets a twin that yields one :class:`Fetched` in its stead. Checksums,
aborted transactions, control batches and positions are treated as there.
"""

from __future__ import annotations

import logging
import struct
import types
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import (
    CorruptBatch,
    LegacyBatch,
    Part,
    RawRecord,
    RecordBatch,
    find_batch,
    next_batch,
    said_next_offset,
)
from streamproc.log.compression import decompress
from streamproc.runtime.transport.block import Fetched
from streamproc.runtime.transport.damage import TRIES, Damage, GivenUp, WatchedClient

_LAST = (1 << 63) - 1
_log = logging.getLogger("streamproc.transport")


class RawRecords:
    """In the place of aiokafka's ``MemoryRecords``: keeps the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """Whether anything is there. aiokafka takes a first batch that is not whole for one that is too large to be
        fetched; since Kafka 0.10.1 no batch is, and :class:`BlockRecords` has an eye on it.
        """
        return bool(self.data)

    def size_in_bytes(self) -> int:
        return len(self.data)


class BlockRecords:
    """In the place of aiokafka's ``PartitionRecords``: one item, all that the fetch brought.

    ``next_fetch_offset`` is part of aiokafka's contract: the position after what has been yielded.
    """

    def __init__(
        self,
        tp: TopicPartition,
        data: bytes,
        aborted: list[tuple[int, int]] | None,
        fetch_offset: int,
        check_crcs: bool,
        isolation_level: int,
        damage: Damage | None = None,
        end_offset: int = _LAST,
        *,
        restarted: bool = False,
    ) -> None:
        damage = damage or Damage()
        self._tp = tp
        self._data = memoryview(data)
        self._unreadable = data.batch if isinstance(data, GivenUp) else None
        self._aborted = sorted(aborted or [], key=lambda transaction: transaction[1])
        self._check_crcs = check_crcs
        self._committed_only = isolation_level == aiokafka_fetcher.READ_COMMITTED
        self.next_fetch_offset = self._asked = fetch_offset
        self._damage = damage
        self._end_offset = end_offset
        self._restarted = restarted  # known already
        self._aborted_producers = set[int]()
        self._at = 0  # how far the data has been read
        self._least = 0  # the least offset that the next batch can have
        self._items = self._unpack()

    def __iter__(self) -> BlockRecords:
        return self

    def __next__(self) -> Fetched:
        return next(self._items)

    def _unpack(self) -> Iterator[Fetched]:
        first = offset = self.next_fetch_offset
        parts: list[Part] = []
        if self._unreadable is not None:
            self.next_fetch_offset = self._unreadable.next_offset
            yield self._fetched(offset, [self._unreadable])
            return
        while True:
            fault = self._take_good(parts, first)
            if self.next_fetch_offset > first:
                self._damage.passed()
                break  # what lies behind a fault is fetched again, beginning with the fault
            if fault is None:
                break
            corrupt = self._given_up(fault)
            if corrupt is None:
                break
            parts.append(corrupt)
            self.next_fetch_offset = self._least = first = corrupt.next_offset
        if parts:
            yield self._fetched(offset, parts)

    def _fetched(self, offset: int, parts: list[Part]) -> Fetched:
        restarted = self._restarted or self._damage.restarted(offset)
        return Fetched(offset, parts, self.next_fetch_offset, restarted=restarted)

    def _take_good(self, parts: list[Part], first: int) -> UndecodableRecord | None:
        """Adds all that is good from here on, and returns the fault that is met, if any."""
        try:
            for batch in self._batches():
                if isinstance(batch, RecordBatch):
                    if batch.next_offset > first:
                        parts.append(batch)
                        self.next_fetch_offset = batch.next_offset
                elif records := [r for r in batch if r.offset >= first]:
                    parts.append(records)
                    self.next_fetch_offset = records[-1].offset + 1
        except UndecodableRecord as error:
            return error
        if self._at and self.next_fetch_offset == first == self._asked:
            return UndecodableRecord(f"nothing from offset {first} on in what was fetched from there")
        return None

    def _given_up(self, fault: UndecodableRecord) -> CorruptBatch | None:
        """What the fetch begins with, if it has come damaged often enough; None if it is to be fetched again."""
        offset = self.next_fetch_offset
        where = f"{self._tp.topic}[{self._tp.partition}]"
        tries = self._damage.seen(offset)
        if tries < TRIES:
            _log.warning("%s: %s; it is fetched again", where, fault)
            return None
        end, behind = self._behind_damage(offset)
        said = f"{fault}, however often it is fetched ({tries} times); offsets {offset} to {behind - 1} are given up"
        _log.error("%s: %s", where, said)
        start, self._at = self._at, end
        return CorruptBatch.of(offset, behind, self._data[start:end], UndecodableRecord(said))

    def _behind_damage(self, offset: int) -> tuple[int, int]:
        """Where the next good batch may begin, in the data and as an offset.

        Best known is a good batch behind in the same fetch. Else the header tells: it decides for the broker, too,
        what it sends next. If that cannot be, offsets are tried that lie ever further ahead, as far as the log goes.
        """
        found = find_batch(self._data, self._at + 1, offset)
        if found is not None:
            return found[1], found[0].base_offset
        behind = said_next_offset(self._data, self._at)
        if behind is None or not offset < behind <= self._end_offset:
            behind = min(offset + self._damage.step(), max(self._end_offset, offset + 1))
        return len(self._data), behind

    def _batches(self) -> Iterator[RecordBatch | list[RawRecord]]:
        """The batches to be processed; skipping one moves the position past it."""
        while True:
            try:
                found = next_batch(self._data, self._at, check_crc=self._check_crcs)
            except LegacyBatch as legacy:
                yield _legacy_records(legacy.args[0], self._check_crcs)
                self._at += len(legacy.args[0])
                continue
            if found is None:
                if self._data and not self._at:  # nothing whole at all
                    # A broker sends at least one whole batch, however long it is.
                    raise UndecodableRecord(f"{len(self._data)} bytes that are no whole batch")
                return
            batch, end = found
            # A base offset is not under the checksum, and one far ahead would send the reader to the log's start. What
            # was written while the broker answered may lie behind the end that it tells, but leaves no gap.
            if not self._least <= batch.base_offset <= max(self.next_fetch_offset, self._end_offset):
                span = f"{batch.base_offset} to {batch.next_offset - 1}"
                raise UndecodableRecord(
                    f"a batch of offsets {span} in a log of {self._least} to {self._end_offset - 1}"
                )
            self._least = batch.next_offset
            if self._skipped(batch) or batch.count == 0:
                self.next_fetch_offset = max(batch.next_offset, self.next_fetch_offset)
            else:
                yield batch
            self._at = end

    def _skipped(self, batch: RecordBatch) -> bool:
        """Whether a batch is a control batch, or of an aborted transaction under read-committed."""
        if self._committed_only and batch.producer_id >= 0:
            while self._aborted and self._aborted[0][1] <= batch.base_offset:
                self._aborted_producers.add(self._aborted.pop(0)[0])
            if batch.is_control and _is_abort(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return batch.is_control


def _is_abort(batch: RecordBatch) -> bool:
    record = next(batch.records(), None)
    return record is not None and len(record.key or b"") >= 4 and ControlRecord.parse(record.key) == ABORT_MARKER


def _legacy_records(data: bytes, check_crc: bool) -> list[RawRecord]:
    """The records of a v0 or v1 message set, by aiokafka's own reader."""
    records = []
    try:
        _check_legacy_size(memoryview(data))
        memory = MemoryRecords(data)
        while memory.has_next():
            batch = memory.next_batch()
            if check_crc and not batch.validate_crc():
                raise UndecodableRecord("its checksum is wrong")
            records += [RawRecord(r.offset, r.timestamp or 0, r.key, r.value, tuple(r.headers)) for r in batch]
    except Exception as error:  # whatever its reader stumbles over
        raise UndecodableRecord(f"a message of format v0 or v1: {error}") from error
    return records


def _check_legacy_size(data: memoryview) -> None:
    """Unpacks a compressed set once with a limit: aiokafka knows none.

    Raises:
        Exception: its compression is at fault, or it is too large.
    """
    magic, attributes = data[16:18]
    at = 18 + 8 * magic  # v1 has a timestamp
    if codec := attributes & 7:
        for _ in ("key", "value"):
            (size,) = struct.unpack_from(">i", data, at)
            start, at = at + 4, at + 4 + max(size, 0)
        decompress(codec, data[start:at])


class BlockFetcher(aiokafka_fetcher.Fetcher):  # type: ignore[misc]
    """A fetcher that yields one :class:`Fetched` per fetch for the topics in ``block_topics``."""

    block_topics: Callable[[], frozenset[str]]
    arrived: Callable[[], Awaitable[None]] | None = None
    _proc_for_blocks: Callable[..., Awaitable[Any]]
    _damages: defaultdict[TopicPartition, Damage]

    def _for_blocks(self) -> Callable[..., Awaitable[Any]]:
        """aiokafka's own code, seeing our two classes where it names its own: nobody else's fetcher changes."""
        original = aiokafka_fetcher.Fetcher._proc_fetch_request
        names = {**original.__globals__, "MemoryRecords": RawRecords, "PartitionRecords": self._records_of}
        return types.FunctionType(original.__code__, names, original.__name__, None, original.__closure__)

    def _records_of(self, tp: TopicPartition, records: RawRecords, aborted: Any, offset: int, *rest: Any) -> Any:
        _, _, check_crcs, isolation_level = rest
        damage, restarted = self._damages[tp], False
        if tp.topic not in self.block_topics() and type(records.data) is bytes:
            memory = MemoryRecords(records.data)
            if memory.has_next():
                restarted = damage.restarted(offset)  # aiokafka's records could not say so
                if not restarted:
                    return aiokafka_fetcher.PartitionRecords(tp, memory, aborted, offset, *rest)
        end = self._subscriptions.subscription.assignment.state_value(tp).highwater
        data = records.data
        return BlockRecords(tp, data, aborted, offset, check_crcs, isolation_level, damage, end, restarted=restarted)

    async def _proc_fetch_request(self, *args: Any) -> Any:
        came = await self._proc_for_blocks(self, *args)
        if came and self.arrived is not None:
            await self.arrived()
        return came


def give_blocks(
    consumer: Any, block_topics: Callable[[], frozenset[str]], arrived: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Makes a started ``AIOKafkaConsumer``, not subscribed yet, yield blocks for these topics.

    Args:
        arrived: awaited when a fetch has brought something, before aiokafka goes on to tell those who wait for it.
    """
    fetcher = consumer._fetcher
    assert type(fetcher) is aiokafka_fetcher.Fetcher, "the consumer was not started, or has blocks already"
    fetcher.__class__ = BlockFetcher
    fetcher.block_topics, fetcher.arrived = block_topics, arrived
    fetcher._proc_for_blocks = fetcher._for_blocks()
    fetcher._damages = defaultdict(Damage)
    fetcher._client = WatchedClient(fetcher._client, fetcher)
