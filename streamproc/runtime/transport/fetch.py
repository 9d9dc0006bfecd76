"""aiokafka's fetcher, giving whole record batches for the topics that want blocks, and records for all others.

aiokafka builds a ``PartitionRecords`` for every partition of a fetch response; its iterator is the only place that
makes an object per record. Here that class gets a twin that yields one :class:`Fetched` in its stead. Checksums,
aborted transactions, control batches and positions are treated as there.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import LegacyBatch, Part, RawRecord, RecordBatch, next_batch
from streamproc.runtime.transport.block import Fetched


class RawRecords:
    """In the place of aiokafka's ``MemoryRecords``: keeps the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """Whether at least one whole batch is there."""
        return bool(MemoryRecords(self.data).has_next())

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
    ) -> None:
        self._tp = tp
        self._data = memoryview(data)
        self._aborted = sorted(aborted or [], key=lambda transaction: transaction[1])
        self._check_crcs = check_crcs
        self._committed_only = isolation_level == aiokafka_fetcher.READ_COMMITTED
        self.next_fetch_offset = fetch_offset
        self._items = self._unpack()

    def __iter__(self) -> BlockRecords:
        return self

    def __next__(self) -> Fetched:
        return next(self._items)

    def _unpack(self) -> Iterator[Fetched]:
        first = self.next_fetch_offset
        parts: list[Part] = []
        fault: str | None = None
        try:
            for batch in self._batches():
                if isinstance(batch, RecordBatch):
                    parts.append(batch)
                    self.next_fetch_offset = max(batch.next_offset, self.next_fetch_offset)
                elif records := [r for r in batch if r.offset >= first]:
                    parts.append(records)
                    self.next_fetch_offset = records[-1].offset + 1
        except UndecodableRecord as error:
            fault = str(error)
        if parts:
            yield Fetched(first, parts, self.next_fetch_offset)
        if fault is not None and not parts:  # else it is fetched again, then first in its fetch
            raise CorruptRecordException(f"{self._tp.topic}[{self._tp.partition}]: {fault}")

    def _batches(self) -> Iterator[RecordBatch | list[RawRecord]]:
        """The batches to be processed; skipping one moves the position past it."""
        at, aborted_producers = 0, set[int]()
        while True:
            try:
                found = next_batch(self._data, at, check_crc=self._check_crcs)
            except LegacyBatch as legacy:
                yield _legacy_records(legacy.args[0], self._check_crcs)
                at += len(legacy.args[0])
                continue
            if found is None:
                return
            batch, at = found
            if self._skipped(batch, aborted_producers) or batch.count == 0:
                self.next_fetch_offset = max(batch.next_offset, self.next_fetch_offset)
            else:
                yield batch

    def _skipped(self, batch: RecordBatch, aborted_producers: set[int]) -> bool:
        """Whether a batch is a control batch, or of an aborted transaction under read-committed."""
        if self._committed_only and batch.producer_id >= 0:
            while self._aborted and self._aborted[0][1] <= batch.base_offset:
                aborted_producers.add(self._aborted.pop(0)[0])
            if batch.is_control and _is_abort(batch):
                aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in aborted_producers:
                return True
        return batch.is_control


def _is_abort(batch: RecordBatch) -> bool:
    record = next(batch.records(), None)
    return record is not None and len(record.key or b"") >= 4 and ControlRecord.parse(record.key) == ABORT_MARKER


def _legacy_records(data: bytes, check_crc: bool) -> list[RawRecord]:
    """The records of a v0 or v1 message set, by aiokafka's own reader."""
    records = []
    memory = MemoryRecords(data)
    while memory.has_next():
        batch = memory.next_batch()
        if check_crc and not batch.validate_crc():
            raise UndecodableRecord("a message of format v0 or v1: its checksum is wrong")
        records += [RawRecord(r.offset, r.timestamp or 0, r.key, r.value, tuple(r.headers)) for r in batch]
    return records


class BlockFetcher(aiokafka_fetcher.Fetcher):  # type: ignore[misc]
    """A fetcher that yields one :class:`Fetched` per fetch for the topics in ``block_topics``."""

    block_topics: Callable[[], frozenset[str]]

    def _records_of(self, tp: TopicPartition, records: RawRecords, aborted: Any, offset: int, *rest: Any) -> Any:
        _, _, check_crcs, isolation_level = rest
        if tp.topic in self.block_topics():
            return BlockRecords(tp, records.data, aborted, offset, check_crcs, isolation_level)
        return aiokafka_fetcher.PartitionRecords(tp, MemoryRecords(records.data), aborted, offset, *rest)

    def _proc_fetch_request(self, *args: Any) -> Any:
        # The same code as aiokafka's, seeing our two classes where it names its own: nobody else's fetcher changes.
        original = aiokafka_fetcher.Fetcher._proc_fetch_request
        names = {**original.__globals__, "MemoryRecords": RawRecords, "PartitionRecords": self._records_of}
        return types.FunctionType(original.__code__, names, original.__name__, None, original.__closure__)(self, *args)


def give_blocks(consumer: Any, block_topics: Callable[[], frozenset[str]]) -> None:
    """Makes a started ``AIOKafkaConsumer``, not subscribed yet, yield blocks for these topics."""
    fetcher = consumer._fetcher
    assert type(fetcher) is aiokafka_fetcher.Fetcher, "the consumer was not started, or has blocks already"
    fetcher.__class__ = BlockFetcher
    fetcher.block_topics = block_topics
