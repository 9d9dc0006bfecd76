"""What must hold for a case."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import LegacyBatch, RawRecord, RecordBatch, next_batch
from streamproc.runtime.transport.fetch import BlockRecords
from tests.fuzz.agreeing import agree, records, world
from tests.fuzz.cases import Case

_TP = TopicPartition("t", 0)


def check(case: Case) -> Counter[str]:
    """Raises AssertionError where ways differ, or whatever else was raised by mistake. What ``agree`` counts."""
    if case.fetch is not None:
        return _fetch(case)
    parts = [found for data in case.data if (found := _parsed(data)) is not None]
    return agree(world(case.reader, case.writers), parts, case.columns, case.first)


def _parsed(data: bytes) -> RecordBatch | None:
    try:
        found = next_batch(memoryview(data), 0)
    except (UndecodableRecord, LegacyBatch):
        return None
    return found and found[0]


def _fetch(case: Case) -> Counter[str]:
    assert case.fetch is not None
    (data,), (aborted, committed, alike) = case.data, case.fetch
    level = READ_COMMITTED if committed else READ_UNCOMMITTED
    fetched = BlockRecords(_TP, data, list(aborted), case.first, True, level)
    at, rows, seen = case.first, Counter[str](), list[RawRecord]()
    try:
        for item in fetched:
            assert at <= item.first_offset <= item.next_offset == fetched.next_fetch_offset
            at = item.next_offset
            found = [record for record in records(item.parts) if record.offset >= item.first_offset]
            assert all(record.offset < at for record in found)
            seen += found
            rows += agree(world(case.reader, case.writers), item.parts, case.columns, item.first_offset)
    except CorruptRecordException:
        assert not seen, "what was read is not told of again"
    assert fetched.next_fetch_offset >= at
    if alike and (theirs := _theirs(data, aborted, case.first, level)) is not None:
        assert [(r.offset, r.timestamp, r.key, r.value) for r in seen] == theirs[: len(seen)]
    return rows


def _theirs(data: bytes, aborted: Any, first: int, level: int) -> list[tuple[Any, ...]] | None:
    """By aiokafka; None if it cannot read all."""
    try:
        found = PartitionRecords(_TP, MemoryRecords(data), list(aborted), first, None, None, True, level)
        return [(r.offset, r.timestamp, r.key, r.value) for r in found if r.offset >= first]
    except Exception:  # it raises many types on damage
        return None
