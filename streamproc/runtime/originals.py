"""Finds the bytes of single records in the blocks that they came in: for dead letters, which keep them as they came."""

from __future__ import annotations

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import Part, RawRecord, RecordBatch
from streamproc.runtime.transport.block import Block


def record_at(block: Block, offset: int) -> RawRecord | None:
    """The record at an offset, or None where the block has none there. What of the block was unpacked for it is kept
    with what its readers share: many letters of one block cost its reading once.
    """
    for part in block.fetched.parts:
        first, end = _range(part)
        if first <= offset < end:
            at = (record_at, first)
            records = block.shared.get(at)
            if records is None:
                records = block.shared[at] = _by_offset(part)
            assert isinstance(records, dict)
            found: RawRecord | None = records.get(offset)
            return found
    return None


def _range(part: Part) -> tuple[int, int]:
    if isinstance(part, RecordBatch):
        return part.base_offset, part.next_offset
    return (part[0].offset, part[-1].offset + 1) if part else (0, 0)


def _by_offset(part: Part) -> dict[int, RawRecord]:
    found = {}
    try:
        for record in part.records() if isinstance(part, RecordBatch) else part:
            found[record.offset] = record
    except UndecodableRecord:
        pass  # what came before the fault was yielded
    return found
