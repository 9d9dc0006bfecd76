"""Records of a block, as they came."""

from __future__ import annotations

from streamproc.log.batches import RawRecord
from streamproc.runtime.originals import record_at
from streamproc.runtime.transport.block import Block, Fetched
from tests.log.wire import Row, batch_bytes, parsed

SOME: list[Row] = [(0, 5, b"k0", b"v0", [("h", b"1")]), (1, 6, None, b"v1", []), (4, 7, b"k4", None, [])]


def block(*parts: object) -> Block:
    return Block("pings", 0, Fetched(0, parts, 100), 1, lambda: None)  # type: ignore[arg-type]


def test_by_offset() -> None:
    legacy = [RawRecord(50, 1, b"old", b"one", ())]
    of = block(parsed(batch_bytes(SOME, base=10)), legacy, parsed(batch_bytes(SOME, base=60, codec=3)))
    assert record_at(of, 10) == RawRecord(10, 5, b"k0", b"v0", (("h", b"1"),))
    assert record_at(of, 11) == RawRecord(11, 6, None, b"v1", ())
    assert record_at(of, 50) == legacy[0]
    assert record_at(of, 64) == RawRecord(64, 7, b"k4", None, ())
    for missing in (9, 12, 15, 51, 65):
        assert record_at(of, missing) is None


def test_a_batch_is_unpacked_once() -> None:
    of = block(parsed(batch_bytes(SOME, base=10)))
    assert record_at(of, 10) is not None
    of.fetched.parts = ()  # type: ignore[assignment]
    assert len(of.shared) == 1
    of.leave()
    assert of.shared == {}


def test_what_comes_before_a_fault_is_found() -> None:
    whole = parsed(batch_bytes(SOME, base=10))
    short = type(whole)(*(getattr(whole, name) for name in whole.__slots__[:-1]), memoryview(bytes(whole.data)[:-3]))
    of = block(short)
    assert record_at(of, 11) is not None
    assert record_at(of, 14) is None
