"""What one fetch response becomes, on buffers made by hand; aiokafka's own reader is the yardstick."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamproc.errors import UndecodableRecord
from streamproc.log import compression
from streamproc.log.batches import CorruptBatch, RawRecord, RecordBatch, next_batch
from streamproc.runtime.transport.block import Block, Fetched
from streamproc.runtime.transport.damage import Damage, GivenUp
from streamproc.runtime.transport.driver import records_of
from streamproc.runtime.transport.fetch import BlockRecords, RawRecords
from tests.log.wire import TRANSACTIONAL, batch_bytes, changed, control_bytes, legacy_bytes, rows

TP = TopicPartition("t", 3)


def values(n: int) -> list[bytes | None]:
    return [b"v%d" % i for i in range(n)]


def fetch(
    data: bytes, offset: int = 0, *, aborted: Any = None, committed: bool = False, crc: bool = True
) -> BlockRecords:
    return BlockRecords(TP, data, aborted, offset, crc, READ_COMMITTED if committed else READ_UNCOMMITTED)


def theirs(data: bytes, offset: int, aborted: Any, committed: bool) -> tuple[list[tuple[int, Any]], int]:
    """Offsets and values by aiokafka, and the position afterwards."""
    level = READ_COMMITTED if committed else READ_UNCOMMITTED
    records = PartitionRecords(TP, MemoryRecords(data), aborted, offset, None, None, True, level)
    return [(r.offset, r.value) for r in records], records.next_fetch_offset


def ours(data: bytes, offset: int, aborted: Any, committed: bool) -> tuple[list[tuple[int, Any]], int]:
    records = fetch(data, offset, aborted=aborted, committed=committed)
    return [(r.offset, r.value) for fetched in records for r in records_of(fetched)], records.next_fetch_offset


def alike(data: bytes, offset: int = 0, aborted: Any = None, committed: bool = False) -> list[int]:
    expected = theirs(data, offset, list(aborted or ()), committed)
    assert ours(data, offset, list(aborted or ()), committed) == expected
    return [at for at, _ in expected[0]]


def test_a_fetch_is_one_item_and_the_position_is_behind_it() -> None:
    data = b"".join(batch_bytes(rows(values(3)), base=base) for base in (10, 13, 20))
    records = fetch(data, 11)
    assert records.next_fetch_offset == 11
    (fetched,) = list(records)
    assert (fetched.first_offset, fetched.next_offset, records.next_fetch_offset) == (11, 23, 23)
    assert [part.base_offset for part in fetched.parts if isinstance(part, RecordBatch)] == [10, 13, 20]
    assert [r.offset for r in records_of(fetched)] == [11, 12, 13, 14, 15, 20, 21, 22]
    assert next(records, None) is None
    block = Block("t", 3, fetched, 1, lambda: None)
    assert (block.rows, block.size) == (9, len(data))


def test_a_cut_at_the_end_is_left_for_the_next_fetch() -> None:
    whole, cut = batch_bytes(rows(values(3))), batch_bytes(rows(values(3)), base=3)
    for size in range(len(cut)):
        assert alike(whole + cut[:size]) == [0, 1, 2]
        assert RawRecords(whole + cut[:size]).has_next()
    for size in range(len(whole)):
        assert RawRecords(whole[:size]).has_next() is (size > 0)
        assert list(fetch(whole[:size])) == []  # and is fetched again: no broker sends less than a whole batch


def test_a_batch_emptied_by_compaction_moves_the_position() -> None:
    empty = changed(batch_bytes(rows(values(1)), base=5), body=b"", count=0, last_delta=4)
    records = fetch(empty, 5)
    assert list(records) == []
    assert records.next_fetch_offset == 10
    assert alike(batch_bytes(rows(values(5))) + empty, 0) == [0, 1, 2, 3, 4]
    assert alike(empty + batch_bytes(rows(values(2)), base=10), 5) == [10, 11]


def test_a_batch_whose_last_records_were_compacted_away() -> None:
    assert alike(batch_bytes(rows(values(3)), base=7, last_delta=50), 8) == [8, 9]
    assert fetch(batch_bytes(rows(values(3)), base=7, last_delta=50), 8).next_fetch_offset == 8


# Transactions.


def transaction(base: int, producer: int, n: int = 2) -> bytes:
    return batch_bytes(rows(values(n)), base=base, producer=producer, flags=TRANSACTIONAL)


def test_markers_are_skipped_and_move_the_position() -> None:
    data = transaction(0, 7) + control_bytes(2, 7, commit=True)
    for committed in (False, True):
        assert alike(data, committed=committed) == [0, 1]
    assert alike(control_bytes(2, 7, commit=True), 2) == []


def test_aborted_records_are_skipped_only_when_reading_committed() -> None:
    data = (
        transaction(0, 7)
        + batch_bytes(rows(values(2)), base=2)
        + transaction(4, 8)
        + control_bytes(6, 7, commit=False)
        + transaction(7, 7)
        + control_bytes(9, 8, commit=True)
        + control_bytes(10, 7, commit=True)
    )
    assert alike(data, aborted=[(7, 0)], committed=True) == [2, 3, 4, 5, 7, 8]
    assert alike(data, 1, aborted=[(7, 0)], committed=True) == [2, 3, 4, 5, 7, 8]
    assert alike(data) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert alike(data, 1) == [1, 2, 3, 4, 5, 7, 8]


def test_a_fetch_of_nothing_but_aborted_records_moves_the_position() -> None:
    data = transaction(0, 7) + control_bytes(2, 7, commit=False)
    records = fetch(data, aborted=[(7, 0)], committed=True)
    assert list(records) == []
    assert records.next_fetch_offset == 3
    assert alike(data, aborted=[(7, 0)], committed=True) == []


def test_any_transactions_as_aiokafka_reads_them() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        parts, at, open_, aborted = list[bytes](), 0, dict[int, int](), list[tuple[int, int]]()
        for _ in range(chance.randrange(1, 12)):
            producer = chance.choice([1, 2, 3])
            if producer in open_ and chance.random() < 0.4:
                commit = chance.random() < 0.5
                if not commit:
                    aborted.append((producer, open_[producer]))
                parts.append(control_bytes(at, producer, commit=commit))
                del open_[producer]
                at += 1
            elif chance.random() < 0.7:
                open_.setdefault(producer, at)
                parts.append(transaction(at, producer, 2))
                at += 2
            else:
                parts.append(batch_bytes(rows(values(3)), base=at))
                at += 3
        chance.shuffle(aborted)
        begin = chance.randrange(len(parts))  # a fetch begins with the batch that its offset is in
        batch, _ = next_batch(memoryview(parts[begin]), 0) or pytest.fail("no batch")
        for committed in (False, True):
            alike(b"".join(parts[begin:]), chance.randrange(batch.base_offset, batch.next_offset), aborted, committed)


# Damage.


def damaged(data: bytes, at: int = -1) -> bytes:
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def three_times(data: bytes, offset: int, *, end: int = 1_000) -> list[Fetched]:
    """What comes of a fetch that always brings the same; the first two bring nothing."""
    damage = Damage()
    for _ in range(2):
        records = BlockRecords(TP, data, None, offset, True, READ_COMMITTED, damage, end)
        assert list(records) == []
        assert records.next_fetch_offset == offset
    return list(BlockRecords(TP, data, None, offset, True, READ_COMMITTED, damage, end))


def corrupt(fetched: Fetched) -> list[tuple[int, int, bytes]]:
    return [(p.base_offset, p.next_offset, bytes(p.data)) for p in fetched.parts if isinstance(p, CorruptBatch)]


GOOD, BAD, AFTER = (
    batch_bytes(rows(values(3))),
    damaged(batch_bytes(rows(values(3)), base=3)),
    batch_bytes(rows(values(3)), base=6),
)


def test_damage_in_the_second_batch_gives_the_first_and_is_fetched_again(caplog: pytest.LogCaptureFixture) -> None:
    records = fetch(GOOD + BAD + AFTER)
    (fetched,) = list(records)
    assert (fetched.next_offset, records.next_fetch_offset) == (3, 3)
    again = fetch(BAD + AFTER, 3)  # as aiokafka fetches next
    assert list(again) == []
    assert again.next_fetch_offset == 3
    assert "t[3]: batch at offset 3: its checksum is wrong; it is fetched again" in caplog.text
    (unchecked,) = fetch(GOOD + BAD + AFTER, crc=False)
    assert unchecked.next_offset == 9


def test_damage_that_stays_becomes_one_corrupt_batch_and_what_is_behind_is_read() -> None:
    (fetched,) = three_times(BAD + AFTER, 3)
    assert (fetched.first_offset, fetched.next_offset) == (3, 9)
    assert corrupt(fetched) == [(3, 6, BAD)]
    assert [r.offset for r in records_of(fetched)] == [6, 7, 8]
    with pytest.raises(UndecodableRecord, match=r"checksum is wrong, however often .* offsets 3 to 5 are given up"):
        fetched.parts[0].body()  # type: ignore[union-attr]
    assert Block("t", 3, fetched, 1, lambda: None).rows == 4


def test_damage_that_was_mended_meanwhile_is_forgotten() -> None:
    damage = Damage()
    for _ in range(5):
        for data in (BAD, BAD, batch_bytes(rows(values(3)), base=3)):
            items = list(BlockRecords(TP, data, None, 3, True, READ_COMMITTED, damage))
            assert [corrupt(fetched) for fetched in items] == ([] if data is BAD else [[]])


def test_of_damage_alone_its_header_tells_where_it_ends() -> None:
    assert [corrupt(f) for f in three_times(BAD, 4)] == [[(4, 6, BAD)]]  # the offset was in the middle of it
    assert [corrupt(f) for f in three_times(BAD, 4, end=5)] == [[(4, 5, BAD)]]  # what it tells cannot be


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 7, 2**31 - 1])
def test_a_length_that_is_nonsense(length: int) -> None:
    bad = bytearray(BAD)
    struct.pack_into(">i", bad, 8, length)
    (fetched,) = three_times(bytes(bad) + AFTER, 3)
    assert corrupt(fetched) == [(3, 6, bytes(bad))]
    assert fetched.next_offset == 9


def test_where_nothing_can_be_trusted_ever_more_is_left_out_up_to_the_end() -> None:
    junk, damage, at, seen = b"\x07" * 90, Damage(), 10, []
    while at < 60:
        for fetched in BlockRecords(TP, junk, None, at, True, READ_COMMITTED, damage, 60):
            seen.append((fetched.first_offset, fetched.next_offset))
            at = fetched.next_offset
    assert seen == [(10, 11), (11, 13), (13, 17), (17, 25), (25, 41), (41, 60)]


def test_a_base_offset_beyond_the_end_is_damage() -> None:
    """It is not under the checksum; believed, it would send the reader to the start of the log."""
    far = changed(GOOD, base=1 << 60)
    (fetched,) = three_times(far + AFTER, 3, end=9)
    assert corrupt(fetched) == [(3, 6, far)]
    (fetched,) = BlockRecords(TP, GOOD + changed(AFTER, base=1), None, 0, True, READ_COMMITTED, Damage(), 9)
    assert fetched.next_offset == 3  # offsets that do not rise are damage, too


def test_what_was_written_while_the_broker_answered_is_read() -> None:
    """Its answer tells of an end that is before the data that it brings."""
    for end in range(10):
        (fetched,) = BlockRecords(TP, GOOD + changed(AFTER, base=3), None, 0, True, READ_COMMITTED, Damage(), end)
        assert (corrupt(fetched), fetched.next_offset) == ([], 6)


def test_what_the_broker_cannot_read_comes_as_one_corrupt_batch() -> None:
    gap = CorruptBatch.of(5, 9, memoryview(b""), UndecodableRecord("gone"))
    records = fetch(GivenUp.of(gap), 5)
    (fetched,) = list(records)
    assert (list(fetched.parts), records.next_fetch_offset) == ([gap], 9)


def test_the_first_fetch_of_a_log_that_began_anew_says_so() -> None:
    for lost, expected in ((50, [True, False]), (2, [False, False])):
        damage = Damage()
        damage.lost(lost)
        fetches = [BlockRecords(TP, GOOD + AFTER, None, 2, True, READ_COMMITTED, damage) for _ in range(2)]
        assert [fetched.restarted for records in fetches for fetched in records] == expected
    (known,) = BlockRecords(TP, GOOD, None, 2, True, READ_COMMITTED, restarted=True)
    assert known.restarted


def test_any_damage_ends_and_moves_on() -> None:
    for seed in range(120):
        chance = random.Random(seed)
        data = bytearray(GOOD + BAD + AFTER)
        for _ in range(chance.randrange(1, 9)):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        damage, at = Damage(), 0
        for _ in range(30):
            for fetched in BlockRecords(TP, bytes(data), None, at, True, READ_COMMITTED, damage, 9):
                assert fetched.next_offset > at
                at = fetched.next_offset
                list(records_of(fetched))
        assert at >= 9


def test_a_marker_that_is_none_is_damage_or_skipped() -> None:
    marker = control_bytes(0, 7, commit=False)
    for body in (b"", b"\x00" * 5, batch_bytes([(0, 0, None, b"", [])])[61:]):
        assert list(fetch(changed(marker, body=body), aborted=[(7, 0)], committed=True)) == []


# Older formats.


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_older_formats_come_as_records(magic: int, codec: int) -> None:
    old = legacy_bytes(magic, rows([b"a", None, b"c"]), codec=codec)
    if codec:
        old = (2).to_bytes(8, "big") + old[8:]  # as a broker writes it: the set has its last record's offset
    for offset in range(3):
        expected = [(i, v) for i, v in enumerate([b"a", None, b"c"]) if i >= offset]
        assert ours(old, offset, [], False) == (expected, 3)
    data = old + batch_bytes(rows(values(2)), base=3)  # aiokafka cannot do this: a log goes on in another format
    records = fetch(data, 1)
    assert [r.offset for fetched in records for r in records_of(fetched)] == [1, 2, 3, 4]
    assert records.next_fetch_offset == 5
    (fetched,) = fetch(data)
    block = Block("t", 3, fetched, 1, lambda: None)
    assert (block.rows, block.size) == (5, 2 + len(data) - len(old))
    first = next(records_of(fetched))
    assert first == RawRecord(0, 1_000 if magic else 0, b"k", b"a", ())


def test_damage_in_an_older_format() -> None:
    old = damaged(legacy_bytes(1, rows([b"a" * 50])))
    (fetched,) = three_times(old + batch_bytes(rows(values(2)), base=1), 0)
    assert corrupt(fetched) == [(0, 1, old)]
    assert [r.offset for r in records_of(fetched)] == [1, 2]


@pytest.mark.parametrize("magic", [0, 1])
def test_an_older_set_that_unpacks_to_too_much_is_damage(magic: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "limit", lambda size: 100)
    monkeypatch.setattr(compression._scratch, "room", bytearray(100))
    old = legacy_bytes(magic, rows([bytes(10_000)]), codec=1)
    (fetched,) = three_times(old, 0)
    assert corrupt(fetched) == [(0, 1, old)]
    with pytest.raises(UndecodableRecord, match="it unpacks to more than 100 bytes"):
        fetched.parts[0].body()  # type: ignore[union-attr]


# Readers of single records.


def test_a_batch_that_does_not_unpack_costs_single_readers_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    bad = changed(batch_bytes(rows(values(3)), base=3), codec=4)
    (fetched,) = fetch(batch_bytes(rows(values(3))) + bad + batch_bytes(rows(values(3)), base=6))
    assert isinstance(fetched, Fetched)
    assert [r.offset for r in records_of(fetched)] == [0, 1, 2, 6, 7, 8]
    assert "batch at offset 3: cannot decompress" in caplog.text
