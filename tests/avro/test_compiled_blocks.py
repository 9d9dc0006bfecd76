"""What the compiled way does with odd records: each costs itself, and the rows around it stay one batch."""

from __future__ import annotations

import struct
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest

from streamproc.avro import compiled_blocks
from streamproc.avro.blocks import BlockDecoder
from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.decoded import Decoded
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.log.batches import HEADER, RawRecord
from tests.avro.block_kit import BY_ROWS, agrees, codec_for, codec_of, rows_of
from tests.avro.kit import bound, field, schema_of_fields
from tests.log.wire import Row, batch, batch_bytes, changed, parsed, varint_bytes

pytest.importorskip("numba")
KINDS = {"s": "string", "n": "long", "d": ["null", "double"], "t": "boolean", "b": ["bytes", "null"], "i": "int"}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return codec_of(KINDS)


def things(codec: Codec, n: int) -> list[Any]:
    return [
        codec.record(f"é{i}", i, None if i % 3 else i / 7, i % 2 == 0, None if i % 5 else b"\xff" * (i % 9), -i)  # type: ignore[call-arg]
        for i in range(n)
    ]


def check(codec: Codec, parts: list[Any], columns: set[str] | None = None, first: int = 0) -> Decoded:
    wanted = None if columns is None else frozenset(columns)
    by_rows = BlockDecoder("t", codec, wanted, few=BY_ROWS).decode(0, parts, first)
    return agrees(codec, parts, by_rows, wanted, first, compiled=True)


def test_one_bad_record_among_very_many(codec: Codec) -> None:
    rows = rows_of(codec, things(codec, 20_000))
    rows[7_777] = (*rows[7_777][:3], b"poison", [("why", b"not")])
    found = check(codec, [batch(rows)])
    assert [bad.record for bad in found.bad] == [RawRecord(7_777, 8_777, b"key", b"poison", (("why", b"not"),))]
    assert [len(one) for one in found.batches] == [19_999]
    assert found.row_rows == 0


def test_keys_headers_and_tombstones_are_nothing_special(codec: Codec) -> None:
    rows = rows_of(codec, things(codec, 60))
    rows[3] = (*rows[3][:2], None, *rows[3][3:])
    rows[9] = (*rows[9][:3], None, [])
    rows[20] = (*rows[20][:4], [("a", b"1"), ("", None), ("a", b"x" * 200)])
    found = check(codec, [batch(rows)])
    assert (len(found.batches), found.block_rows, found.row_rows, found.tombstones) == (1, 59, 0, 1)


def test_nothing_but_tombstones(codec: Codec) -> None:
    rows: list[Row] = [(i, 0, b"k", None, []) for i in range(5)]
    found = check(codec, [batch(rows)])
    assert (found.batches, found.tombstones) == ([], 5)


def test_writers_of_two_schemas_in_turn_are_one_batch() -> None:
    registry = MemoryRegistry(compatibility="NONE")
    old = codec_of({"gone": "string", "a": "int", "f": "float"}, registry)
    new = codec_of({"a": "long", "f": "double"}, registry)
    rows: list[Row] = [
        (o, 0, b"k", old.encode(old.record("x", o, o / 4)) if o % 2 else new.encode(new.record(o, o / 4)), [])  # type: ignore[call-arg]
        for o in range(600)
    ]
    found = check(new, [batch(rows)])
    assert (len(found.batches), found.block_rows) == (1, 600)
    assert found.batches[0]["a"].to_list() == list(range(600))


def test_more_schemas_than_programs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_blocks, "_PROGRAMS", 2)
    registry = MemoryRegistry(compatibility="NONE")
    olds = [codec_of({"a": "int", f"gone{i}": "string"}, registry) for i in range(4)]
    new = codec_of({"a": "long"}, registry)
    rows: list[Row] = [(o, 0, b"k", olds[o % 4].encode(olds[o % 4].record(o, "x")), []) for o in range(40)]  # type: ignore[call-arg]
    found = check(new, [batch(rows)])
    assert (len(found.batches), found.block_rows, found.row_rows) == (1, 10, 30)


def test_unknown_schemas_are_asked_for_again_later(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MemoryRegistry(compatibility="NONE")
    new = codec_of({"a": "long"}, registry)
    later = FRAME.pack(0, new.schema_id + 1) + b"\x04"
    decoder = BlockDecoder("t", new, few=0, compiled=True)
    parts = [batch([(0, 0, b"k", new.encode(new.record(1)), []), (1, 0, b"k", later, [])])]  # type: ignore[call-arg]
    assert [str(bad.error) for bad in decoder.decode(0, parts, 0).bad] == [
        f"schema id {new.schema_id + 1} is not in the registry"
    ]
    assert registry.register("other", schema_of_fields(field("a", "int"))) == new.schema_id + 1
    monkeypatch.setattr(new, "_unknown", {})
    found = decoder.decode(0, parts, 0)
    assert (found.batches[0]["a"].to_list(), found.block_rows) == ([1, 2], 2)


@pytest.mark.parametrize("columns", [None, {"s"}, {"d", "b"}, {"n", "t"}])
def test_what_only_the_row_way_reads_is_put_where_it_belongs(codec: Codec, columns: set[str] | None) -> None:
    rows = rows_of(codec, things(codec, 60))
    frame = FRAME.pack(0, codec.schema_id)
    for at, (text, flag) in {0: (b"zero", b"\x07"), 31: (b"", b"\x02"), 59: ("ö".encode(), b"\xff")}.items():
        odd = frame + varint_bytes(len(text)) + text + b"\x02" + b"\x00" + flag + b"\x00\x04\xff\xfe" + b"\x00"
        rows[at] = (*rows[at][:3], odd, [])
    found = check(codec, [batch(rows)], columns)
    assert (len(found.batches), found.row_rows, found.block_rows) == (1, 3, 57)


def test_the_order_of_what_is_bad(codec: Codec) -> None:
    rows = rows_of(codec, things(codec, 10))
    poisoned = [(*rows[0][:3], b"poison", []), *rows[1:4], (*rows[4][:3], b"poison", []), *rows[5:]]
    cut = batch_bytes(poisoned, base=10)
    parts = [
        batch(poisoned),
        parsed(changed(cut, body=cut[HEADER.size : -20])),
        batch(poisoned, base=20),
        parsed(changed(batch_bytes(rows, base=30), codec=4)),
        batch(poisoned, base=40),
    ]
    found = check(codec, parts)
    assert [bad.record.offset for bad in found.bad] == [0, 4, 10, 14, 10, 20, 24, 30, 40, 44]
    check(codec, parts, first=15)


def test_blocks_are_bounded(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [batch(rows_of(codec, things(codec, 50)), base=50 * i, codec=3) for i in range(6)]
    assert len(check(codec, parts).batches) == 1
    monkeypatch.setattr(compiled_blocks, "_TOGETHER", 2 * len(parts[0].body()))
    assert [len(one) for one in check(codec, parts).batches] == [100, 100, 100]


def test_older_formats_between(codec: Codec) -> None:
    rows = rows_of(codec, things(codec, 50))
    legacy = [RawRecord(50 + o, t, k, v, ()) for o, t, k, v, _ in rows]
    found = check(codec, [batch(rows), legacy, batch(rows, base=100)], first=10)
    assert [len(one) for one in found.batches] == [40, 50, 50]
    assert (found.block_rows, found.row_rows) == (90, 50)


def test_columns_lie_where_they_were_read(codec: Codec) -> None:
    """Of what is read nothing is copied but the join."""
    found = check(codec, [batch(rows_of(codec, things(codec, 50)))])
    held = found.batches[0].held()
    assert isinstance(held["n"], np.ndarray)
    assert held["n"].base is held["i"].base
    assert held["s"].data is held["b"].data  # type: ignore[union-attr]


# Which types go which way.


def test_a_type_that_may_refuse_is_read_by_rows(tmp_path: Any) -> None:
    positive = Annotated[int, msgspec.Meta(ge=0)]
    schema = schema_of_fields(field("a", "long"), field("n", "long"))
    codec = Codec(bound(tmp_path, schema, {"a": positive, "n": int}), MemoryRegistry(), "t-value")
    rows: list[Row] = [
        (i, 0, b"k", FRAME.pack(0, codec.schema_id) + varint_bytes(i - 1) + b"\x02", []) for i in range(3)
    ]
    for columns in (None, {"n"}):
        found = check(codec, [batch(rows)], columns)
        assert (found.block_rows, len(found.bad)) == (0, 1)


def test_a_field_of_any_value_is_read_by_rows() -> None:
    schema = schema_of_fields(field("a", "long"), field("any", {"type": "array", "items": "long"}))
    codec = codec_for(schema, MemoryRegistry())
    rows: list[Row] = [(i, 0, b"k", FRAME.pack(0, codec.schema_id) + b"\x02\x02\x06\x00", []) for i in range(3)]
    assert check(codec, [batch(rows)]).block_rows == 0
    assert check(codec, [batch(rows)], {"a"}).block_rows == 3


def test_few_records_are_read_as_they_are_wanted(codec: Codec) -> None:
    few = [batch(rows_of(codec, things(codec, 3)))]
    assert BlockDecoder("t", codec, compiled=True).decode(0, few, 0).row_rows == 3
    assert BlockDecoder("t", codec, frozenset({"n"}), compiled=True).decode(0, few, 0).block_rows == 3
    assert BlockDecoder("t", codec, frozenset({"n"}), compiled=False).decode(0, few, 0).row_rows == 3


# Values that would kill a reader.

DEEP = schema_of_fields(field("n", "long"), field("next", ["null", "test.Thing"]))


def deep(codec: Codec, levels: int) -> bytes:
    return FRAME.pack(0, codec.schema_id) + b"\x02\x02" * levels + b"\x02\x00"


def test_a_value_as_deep_as_the_stack_is_refused() -> None:
    codec = codec_for(DEEP, MemoryRegistry())
    rows: list[Row] = [
        (i, 0, b"k", deep(codec, levels), []) for i, levels in enumerate([0, 1, 62, 63, 64, 65, 299, 300, 301, 100_000])
    ]
    found = check(codec, [batch(rows)], {"n"})
    assert [bad.record.offset for bad in found.bad] == [8, 9]
    assert str(found.bad[1].error) == "schema 1: more than 300 levels in one another"
    assert (found.block_rows, len(found.batches)) == (5, 1)


@pytest.mark.parametrize("items", ["null", {"type": "fixed", "name": "F", "size": 0}])
def test_items_that_take_no_bytes_are_counted(items: Any) -> None:
    codec = codec_for(
        schema_of_fields(field("n", "long"), field("a", {"type": "array", "items": items})), MemoryRegistry()
    )
    wires = [b"\x0a\x00", varint_bytes(500_000) * 2 + b"\x00", varint_bytes(500_000) * 2 + b"\x02\x00"]
    wires += [varint_bytes(2**60) + b"\x00", varint_bytes(-(2**63)) + b"\x02\x00", varint_bytes(-5) + b"\x00\x00"]
    rows: list[Row] = [
        (i, 0, b"k", FRAME.pack(0, codec.schema_id) + b"\x02" + wire, []) for i, wire in enumerate(wires)
    ]
    found = check(codec, [batch(rows)], {"n"})
    assert [bad.record.offset for bad in found.bad] == [2, 3, 4]
    assert found.block_rows == 3


def test_counts_that_no_bytes_follow(codec: Codec) -> None:
    arrays = codec_for(
        schema_of_fields(
            field("n", "long"),
            field("a", {"type": "array", "items": {"type": "array", "items": "long"}}),
            field("m", {"type": "map", "values": ["null", "long"]}),
        ),
        MemoryRegistry(),
    )
    tails = [
        b"\x00\x00",
        varint_bytes(2**62),
        b"\x02" + varint_bytes(-(2**63)) + b"\x02",
        b"\x02" * 9,
        b"\x04\x00\x00\x00\x00",
    ]
    rows: list[Row] = [
        (i, 0, b"k", FRAME.pack(0, arrays.schema_id) + b"\x02" + tail, []) for i, tail in enumerate(tails)
    ]
    assert [bad.record.offset for bad in check(arrays, [batch(rows)], {"n"}).bad] == [1, 2, 3]


def test_floats_keep_their_bits() -> None:
    codec = codec_of({"f": "float", "d": "double", "g": ["null", "double"]})
    frame = FRAME.pack(0, codec.schema_id)
    floats = [0x7FC00001, 0xFFC12345, 0x80000000, 1, 0x7F800000]
    rows: list[Row] = [
        (i, 0, b"k", frame + struct.pack("<Iq", bits, bits << 29) + b"\x02" + struct.pack("<q", bits << 29), [])
        for i, bits in enumerate(floats)
    ]
    found = check(codec, [batch(rows)])
    expected = [struct.unpack("<f", struct.pack("<I", bits))[0] for bits in floats]
    assert [struct.pack("<d", v) for v in found.batches[0]["f"]] == [struct.pack("<d", v) for v in expected]
    for name in "dg":
        assert [struct.unpack("<q", struct.pack("<d", v))[0] for v in found.batches[0][name]] == [
            bits << 29 for bits in floats
        ]
