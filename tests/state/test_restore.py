"""Record batches of a changelog back to rows."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.errors import StateError, UndecodableRecord
from streamproc.log.batch_builder import packed
from streamproc.log.batches import CorruptBatch, RawRecord
from streamproc.process.state import binary
from streamproc.state.head import encode
from streamproc.state.restore import NOTHING, Restored, Rows
from streamproc.state.rows import bodies
from tests.log.wire import CODECS, changed, parsed
from tests.log.wire import batch as wire_batch
from tests.log.wire import batch_bytes as wire_bytes
from tests.log.wire import rows as wire_rows
from tests.state.kit import WAYS, batch, batches, changes, head, rows

KEYS = st.sampled_from([b"", b"a", b"b", b"ab", b"long" * 9, *[b"%d" % i for i in range(9)]])
VALUES = st.binary(max_size=30)
FLUSH = st.tuples(st.dictionaries(KEYS, VALUES, max_size=6), st.sets(KEYS, max_size=6))


def play(flushes: Any, known: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
    """What the rows are after these flushes."""
    now = dict(known or {})
    for put, gone in flushes:
        now.update(put)
        for key in gone - put.keys():
            now.pop(key, None)
    return now


def written(flushes: Any, limit: int, base: int = 0, codec: str = "none") -> list[Any]:
    found: list[Any] = []
    for i, (put, gone) in enumerate(flushes):
        made = bodies(changes(put, sorted(gone - put.keys())), head(i), 5, limit, topic="t")
        found += batches(made, found[-1].next_offset + 1 if found else base, codec)  # a marker lies between
    return found


@pytest.mark.parametrize("use_kernels", WAYS)
@given(st.lists(FLUSH, max_size=6), st.integers(1, 300), st.sampled_from(list(CODECS)), st.data())
@settings(deadline=None)  # kernels may have to be compiled first
def test_the_last_value_of_each_key_is_left(use_kernels, flushes, limit, codec, data):
    parts = written(flushes, limit, codec=codec)
    collected = Rows("t", 0, use_kernels=use_kernels)
    at = 0
    while at < len(parts):  # in any cuts
        end = data.draw(st.integers(at + 1, len(parts)))
        collected.add(parts[at:end])
        at = end
    restored = collected.restored(99)
    assert rows(restored) == play(flushes)
    assert len(collected) == len(restored.keys)
    assert restored.head == (head(len(flushes) - 1) if flushes else None)
    assert restored.next_offset == 99


@pytest.mark.parametrize("use_kernels", WAYS)
@given(st.dictionaries(KEYS, VALUES, max_size=6), st.lists(FLUSH, max_size=3))
@settings(deadline=None)
def test_what_comes_behind_a_snapshot(use_kernels, known, flushes):
    onto = Restored(head(77), binary(list(known)), binary(list(known.values())), 40)
    collected = Rows("t", 0, onto, use_kernels=use_kernels)
    # The batch that the snapshot ends in comes whole. What it has before was replaced long ago.
    across = batch(next(packed([5] * 2, [b"\x01a", b"\x01b"], [b"old", b"new"])), 39)
    collected.add([across, *written(flushes, 100, 41)])
    assert rows(collected.restored(99)) == play(flushes, known | {b"b": b"new"})
    assert collected.restored(99).head == (head(len(flushes) - 1) if flushes else head(77))


@pytest.mark.parametrize("use_kernels", WAYS)
def test_records_before_the_snapshot_are_left_out(use_kernels):
    onto = Restored(head(7), binary([b"a"]), binary([b"new"]), 3)
    collected = Rows("t", 0, onto, use_kernels=use_kernels)
    old = wire_batch(wire_rows([b"old"] * 3, key=b"\x01a") + wire_rows([b"1"], key=b"\x01b", first=3))
    collected.add([old])
    assert rows(collected.restored(4)) == {b"a": b"new", b"b": b"1"}


@pytest.mark.parametrize("use_kernels", WAYS)
def test_a_snapshot_with_nothing_behind_it_is_given_as_it_is(use_kernels):
    onto = Restored(head(7), binary([b"a"]), binary([b"1"]), 3)
    collected = Rows("t", 0, onto, use_kernels=use_kernels)
    collected.add([])
    assert len(collected) == 1
    assert collected.restored(4) == onto._replace(next_offset=4)
    assert Rows("t", 0, use_kernels=use_kernels).restored(8) == NOTHING._replace(next_offset=8)


@pytest.mark.parametrize("use_kernels", WAYS)
def test_records_of_old_formats_are_read_too(use_kernels):
    collected = Rows("t", 0, use_kernels=use_kernels)
    collected.add(
        [
            batch(next(packed([5] * 3, [b"\x01a", b"\x01b", b"\x01c"], [b"1", b"1", b"1"]))),
            [RawRecord(3, 5, b"\x01a", b"2", ()), RawRecord(4, 5, b"\x01b", None, ())],
            [RawRecord(5, 5, b"\x01b", b"3", ()), RawRecord(6, 5, b"\x00", encode(head(9)), ())],
            batch(next(packed([5], [b"\x01c"], [None])), 7),
        ]
    )
    assert rows(collected.restored(8)) == {b"a": b"2", b"b": b"3"}
    assert collected.restored(8).head == head(9)


@pytest.mark.parametrize("use_kernels", WAYS)
def test_memory_is_of_the_rows_that_there_are(use_kernels):
    """Keys that come and go, and values that grow."""
    collected = Rows("t", 0, use_kernels=use_kernels)
    live: dict[bytes, bytes] = {}
    chance = random.Random(1)
    for step in range(60):
        put = {b"%d-%d" % (step, i): chance.randbytes(chance.randrange(90)) for i in range(4_000)}
        gone = set(live)
        put |= {b"stays-%d" % i: bytes([step]) * (step * 3) for i in range(20)}
        collected.add(written([(put, gone)], 900 << 10))
        live = play([(put, gone)], live)
    assert rows(collected.restored(1)) == live
    if use_kernels:
        table = collected._store._table  # type: ignore[union-attr]
        assert len(table._lengths) < 200_000  # of 240,000 keys that there were
        assert len(table._keys) <= 2 * len(live) + (1 << 16)
        assert len(table._arena) < 8 * sum(map(len, live.values())) + (1 << 17)


# What is not of a state.


def refused(use_kernels: bool, *parts: Any) -> str:
    collected = Rows("t", 3, use_kernels=use_kernels)
    with pytest.raises(StateError) as error:
        collected.add(parts)
    return str(error.value)


@pytest.mark.parametrize("use_kernels", WAYS)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (None, b"1", "a record without a key; expected a row of a state"),
        (b"", b"1", r"a record with the key b''; expected a row"),
        (b"\x02a", b"1", r"a record with the key b'\x02a'; expected a row"),
        (b"user-1", None, "a record with the key b'user-1'; expected a row"),
        (b"\x00\x00", b"1", r"a record with the key b'\x00\x00'; expected"),
        (b"\x00", None, "a head without a value; expected"),
        (b"\x00", b"{}", "not the head of a state"),
        (b"\x00", msgspec.msgpack.encode({"format": 3}), "a head of format 3; expected 2"),
    ],
)
def test_foreign_records_are_named(use_kernels, key, value, said):
    records = [b"\x01a", b"\x00", key], [b"1", encode(head()), value]
    first = batch(next(packed([5] * 3, [b"\x01a", b"\x01b", b"\x00"], [b"1", None, encode(head())])), 10)
    told = refused(use_kernels, first, batch(next(packed([5] * 3, *records)), 20))
    assert told.startswith("t[3] offset 22: ")
    assert said in told
    assert "delete the topic" in told
    legacy = [RawRecord(i, 5, k, v, ()) for i, (k, v) in enumerate(zip(*records, strict=True), 20)]
    assert refused(use_kernels, first, legacy) == told


@pytest.mark.parametrize("use_kernels", WAYS)
def test_rows_without_a_head_are_refused(use_kernels):
    collected = Rows("t", 3, use_kernels=use_kernels)
    collected.add([batch(next(packed([5], [b"\x01a"], [b"1"])))])
    with pytest.raises(StateError, match=r"t\[3\]: records, but no head of a state among them; nobody but the worker"):
        collected.restored(1)


@pytest.mark.parametrize("use_kernels", WAYS)
def test_damage_is_told_with_its_place(use_kernels):
    good = wire_bytes(wire_rows([b"1"] * 5, key=b"\x01a"), base=40)
    assert "t[3]: batch at offset 40: malformed near byte" in refused(use_kernels, parsed(changed(good, count=6)))
    assert "batch at offset 40: 10 bytes left" in refused(use_kernels, parsed(changed(good, count=4)))
    assert "batch at offset 40: cannot decompress" in refused(use_kernels, parsed(changed(good, codec=3)))
    given_up = CorruptBatch.of(7, 9, memoryview(b""), UndecodableRecord("offsets 7 to 8 are given up"))
    told = refused(use_kernels, given_up)
    assert told.startswith("t[3]: offsets 7 to 8 are given up; to begin without")


@pytest.mark.skipif(not compiled.available(), reason="no kernels")
@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300)
def test_mutated_batches_are_refused_or_read_alike(chance):
    """Whatever a body has that passed its checksum. Where it has a foreign record and damage behind that, one way meets
    this first and the other that.
    """
    body = next(packed([5] * 4, [b"\x01a", b"\x01bc", b"\x01a", b"\x00"], [b"1", b"22", None, encode(head())]))
    data = bytearray(body.data)
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.choice([0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    bad = batch(body._replace(data=bytes(data)))
    said: list[Any] = []
    for way in (True, False):
        collected = Rows("t", 3, use_kernels=way)
        try:
            collected.add([bad])
            restored = collected.restored(4)
            said.append((rows(restored), msgspec.msgpack.encode(restored.head)))
        except StateError as error:
            said.append(str(error))
    assert said[0] == said[1] or all(isinstance(one, str) for one in said)
