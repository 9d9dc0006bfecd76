"""How much of a fetch is one block: cut to what an agent can do soon, and nothing lost between the pieces."""

from __future__ import annotations

import pytest

from streamproc.log.batches import RawRecord
from streamproc.runtime.transport.block import Block, Fetched
from streamproc.runtime.transport.pace import Pace, pieces
from tests.log.wire import batch


def fetched(*counts: int, first: int | None = None, gap: int = 1) -> Fetched:
    """Record batches of so many records, with offsets ``gap`` apart."""
    parts, base = [], 100
    for count in counts:
        parts.append(batch([(i * gap, 0, b"k", b"v", []) for i in range(count)], base=base))
        base += count * gap
    return Fetched(100 if first is None else first, parts, parts[-1].next_offset)


def spans(whole: Fetched, rows: int) -> list[tuple[int, int, int]]:
    return [(one.first_offset, one.next_offset, one.rows) for one in pieces(whole, lambda: rows)]


def test_a_fetch_that_is_small_enough_stays_whole():
    whole = fetched(5, 5)
    assert list(pieces(whole, lambda: 10)) == [whole]
    assert not whole.is_piece


def test_cuts_lie_within_batches_and_across_them():
    assert spans(fetched(5, 5, 5), 7) == [(100, 107, 7), (107, 114, 7), (114, 115, 1)]
    assert spans(fetched(3), 1) == [(100, 101, 1), (101, 102, 1), (102, 103, 1)]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("gap", [1, 3, 1000])
def test_pieces_cover_everything_once(rows: int, gap: int):
    whole = fetched(7, 1, 20, 4, first=102, gap=gap)
    found = list(pieces(whole, lambda: rows))
    ends = [piece.next_offset for piece in found]
    assert [piece.first_offset for piece in found] == [102, *ends[:-1]]
    assert ends[-1] == whole.next_offset
    assert len(found) <= 32 + 4  # a gap of offsets makes no pieces
    assert all(piece.begin == 102 and piece.parts is whole.parts for piece in found)


def test_records_of_older_formats_are_cut_too():
    records = [RawRecord(offset, 0, None, b"v", ()) for offset in range(10, 20)]
    assert spans(Fetched(10, [records], 20), 4) == [(10, 14, 4), (14, 18, 4), (18, 20, 2)]


def test_pieces_share_what_was_decoded_until_the_last_is_done():
    first, second = (Block("t", 0, one, 1, lambda: None) for one in pieces(fetched(4), lambda: 2))
    first.shared["columns"] = 1
    first.leave()
    assert first.shared == {}
    assert second.shared == {"columns": 1}


def test_only_the_first_piece_tells_of_a_new_log():
    whole = fetched(4)
    whole.restarted = True
    assert [one.restarted for one in pieces(whole, lambda: 2)] == [True, False]


def test_the_pace_is_that_of_the_readers():
    pace = Pace()
    before = pace.rows
    pace.took(before, 5.0)  # ten times too long
    assert pace.rows == before // 10
    pace.took(pace.rows, 0.001)
    assert pace.rows == before // 10 * 4  # it grows step by step
    for _ in range(20):
        pace.took(pace.rows, pace.rows * 1e-6)
    assert pace.rows == 500_000
    pace.took(3, 0.0005)  # few rows, as there were no more, say nothing
    assert pace.rows == 500_000
    pace.took(3, 6.0)  # but that they take long does
    assert pace.rows == 1


async def test_a_block_tells_how_long_its_readers_took():
    told = []
    block = Block("t", 0, fetched(4), 2, lambda: None, lambda rows, seconds: told.append((rows, seconds)))
    block.leave(0.5)
    assert told == []
    block.leave(0.25)
    assert told == [(4, 0.75)]
