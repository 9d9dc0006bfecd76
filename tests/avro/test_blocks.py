"""The block way gives what the row way gives, and it is taken where it may be."""

from __future__ import annotations

import io
import struct
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro import polars_blocks
from streamproc.avro.blocks import BlockDecoder
from streamproc.avro.codec import FRAME, Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.polars_blocks import fits_blocks
from streamproc.log.batches import HEADER, RawRecord
from tests.avro.block_kit import both, codec_of, rows_of
from tests.avro.kit import field, schema_of_fields
from tests.log.wire import CODECS, LOG_APPEND_TIME, Row, batch, batch_bytes, changed, parsed, varint_bytes

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
TRADE = {"symbol": "string", "ts": MILLIS, "price": "double", "size": ["null", "double"], "venue": "string", "n": "int"}

PLAIN = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-100, 100),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(max_size=80),
    "bytes": st.binary(max_size=80),
}


@pytest.fixture(scope="module")
def trade() -> Codec:
    return codec_of(TRADE)


def trades(codec: Codec, n: int) -> list[Any]:
    return [
        codec.record(
            f"S{i % 7}é", 1_700_000_000_000 + i * 10, 100 + i / 7, None if i % 3 else i / 2, "X" * (i % 90), -i
        )  # type: ignore[call-arg]
        for i in range(n)
    ]


# Any schema, any values, any codec: three readers agree.

NAMES = st.sampled_from([*"abcdefgh", "len", "key", "kafka", "offset", "partition", "topic", "frame", "self"])
KINDS = st.sampled_from(list(PLAIN)).flatmap(
    lambda kind: st.sampled_from(
        [kind, kind, ["null", kind], [kind, "null"]] + ([MILLIS, ["null", MILLIS]] if kind == "long" else [])
    )
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.none() | values_of(next(branch for branch in kind if branch != "null"))
    return PLAIN[kind if isinstance(kind, str) else kind["type"]]


@given(st.data(), st.dictionaries(NAMES, KINDS, min_size=1, max_size=6), st.sampled_from(list(CODECS.values())))
@settings(max_examples=150, deadline=None)
def test_three_readers_agree(data: st.DataObject, kinds: dict[str, Any], compression: int) -> None:
    codec = codec_of(kinds)
    one = st.tuples(*(values_of(kind) for kind in kinds.values()))
    records = [codec.record(*row) for row in data.draw(st.lists(one, min_size=1, max_size=12))]
    times = data.draw(st.lists(st.integers(0, 2**45), min_size=len(records), max_size=len(records)))
    gaps = data.draw(st.lists(st.integers(1, 200), min_size=len(records), max_size=len(records)))
    keys = data.draw(st.sampled_from([st.none(), st.binary(max_size=100)]))
    rows: list[Row] = []
    for record, time, gap in zip(records, times, gaps, strict=True):
        rows.append((rows[-1][0] + gap if rows else 0, time, data.draw(keys), codec.encode(record), []))
    columns = data.draw(st.none() | st.sets(st.sampled_from(list(kinds))).map(frozenset))
    found = both(
        codec, [batch(rows, codec=compression, base=data.draw(st.integers(0, 2**40)))], columns=columns, taken=True
    )
    schema = fastavro.parse_schema(
        schema_of_fields(*(field(n, "long" if k == MILLIS else k) for n, k in kinds.items()))
    )
    for name in kinds if columns is None else columns:
        mine = [v for part in found.batches for v in part[name].to_list()]
        theirs = [fastavro.schemaless_reader(io.BytesIO(row[3][5:]), _no_logical(schema), None)[name] for row in rows]  # type: ignore[index]
        assert repr(mine) == repr(theirs)


def _no_logical(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: _no_logical(v) for k, v in schema.items() if k != "logicalType"}
    return [_no_logical(branch) for branch in schema] if isinstance(schema, list) else schema


# Shapes that are blocks.


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("key", [None, b"", b"a key", b"k" * 300])
def test_keys_and_codecs(trade: Codec, compression: int, key: bytes | None) -> None:
    found = both(trade, [batch(rows_of(trade, trades(trade, 500), key=key), codec=compression, base=77)], taken=True)
    assert found.batches[0].offsets[[0, -1]].tolist() == [77, 576]
    assert found.batches[0].records() == trades(trade, 500)


@pytest.mark.parametrize("compression", [0, 3])
def test_keys_of_many_sizes(trade: Codec, compression: int) -> None:
    rows = [(o, t, b"k" * (o * 3 % 200), v, h) for o, t, _, v, h in rows_of(trade, trades(trade, 300))]
    both(trade, [batch(rows, codec=compression)], taken=True)


def test_like_batches_become_one(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 40))
    batches = [batch(rows, base=100 * i, codec=3 if i % 2 else 0, last_delta=99) for i in range(5)]
    found = both(trade, batches, taken=True)
    assert len(found.batches) == 1
    assert found.batches[0].offsets.tolist() == [100 * i + j for i in range(5) for j in range(40)]


def test_offsets_of_a_compacted_topic(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 90))[::7]
    found = both(trade, [batch(rows, base=10, last_delta=5_000), batch(rows, base=5_011)], taken=True)
    assert found.batches[0].offsets[:3].tolist() == [10, 17, 24]


@pytest.mark.parametrize("first", [0, 55, 149, 150, 151, 199, 200, 10_000])
def test_a_fetch_that_begins_inside(trade: Codec, first: int) -> None:
    rows = rows_of(trade, trades(trade, 50))
    found = both(trade, [batch(rows, base=100), batch(rows, base=150)], first=first, taken=True)
    got = [offset for part in found.batches for offset in part.offsets.tolist()]
    assert got == list(range(max(first, 100), 200))


def test_times_of_the_broker(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 50))
    stamped = batch(rows, base=50, flags=LOG_APPEND_TIME, max_time=42)
    found = both(trade, [batch(rows), stamped, batch(rows, base=100)], taken=True)
    assert found.batches[0].timestamps[[49, 50, 99, 100]].tolist() == [1_049, 42, 42, 1_000]


def test_times_that_go_back(trade: Codec) -> None:
    rows = [(o, 10_000 - t, k, v, h) for o, t, k, v, h in rows_of(trade, trades(trade, 100))]
    assert both(trade, [batch(rows)], taken=True).batches[0].timestamps[0] == 9_000


@pytest.mark.parametrize("columns", [{"price"}, {"venue", "n"}, {"ts"}, {"size"}, {"not there"}, set()])
def test_some_columns(trade: Codec, columns: set[str]) -> None:
    found = both(trade, [batch(rows_of(trade, trades(trade, 100)))], columns=frozenset(columns), taken=True)
    assert len(found.batches[0]) == 100
    assert set(found.batches[0].columns) >= columns & set(TRADE)
    assert len(found.batches[0].columns) <= max(1, len(columns))


def test_one_record_is_a_block_when_asked(trade: Codec) -> None:
    both(trade, [batch(rows_of(trade, trades(trade, 1)))], taken=True)


def test_few_records_are_read_one_by_one(trade: Codec) -> None:
    decoder = BlockDecoder("t", trade, compiled=False)
    few, many = batch(rows_of(trade, trades(trade, 20))), batch(rows_of(trade, trades(trade, 60)), base=20)
    assert decoder.decode(0, [few], 0).row_rows == 20
    assert decoder.decode(0, [few, many], 0).block_rows == 80


def test_nothing(trade: Codec) -> None:
    for batches in ([], [parsed(changed(batch_bytes(rows_of(trade, trades(trade, 1))), body=b"", count=0))]):
        assert both(trade, batches).batches == []


@pytest.mark.parametrize("compression", [0, 3])
@pytest.mark.parametrize("key", [None, b"key"])
@pytest.mark.parametrize("n", [1, 2, 16])
def test_as_many_headers_everywhere(trade: Codec, compression: int, key: bytes | None, n: int) -> None:
    rows = rows_of(trade, trades(trade, 60), key=key)
    traced = [(*row[:4], [(f"trace{j}", b"x" * (i % 70)) for j in range(n)]) for i, row in enumerate(rows)]
    bare = batch(rows, base=60, codec=compression)
    both(trade, [batch(traced, codec=compression), bare], taken=True)


def test_a_record_that_counts_another_number_of_headers(trade: Codec) -> None:
    rows = [(*row[:4], [("a", b"1")]) for row in rows_of(trade, trades(trade, 60))]
    whole = batch_bytes(rows)
    body = whole[HEADER.size :]
    assert body.endswith(b"\x02\x02a\x021")
    both(trade, [parsed(changed(whole, body=body[:-5] + b"\x04\x02a\x021"))], taken=False)


def test_headers_that_polars_is_not_asked_for(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 60))
    for headers in ([(f"h{j}", b"") for j in range(17)], [("null", None)]):
        for compression in (0, 3):
            both(trade, [batch([(*row[:4], headers) for row in rows], codec=compression)], taken=False)


# Shapes that are none, or only in part.


def test_other_headers_take_the_row_way_and_nobody_with_them(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 60))
    with_header = [*rows[:30], (*rows[30][:4], [("trace", b"1")]), *rows[31:]]
    both(trade, [batch(with_header)], taken=False)
    found = both(trade, [batch(rows), batch(with_header, base=60), batch(rows, base=120)])
    assert (found.block_rows, found.row_rows) == (120, 60)
    assert [part.offsets[0] for part in found.batches] == [0, 60, 120]


@pytest.mark.parametrize("at", [0, 1, 59])
def test_null_keys_among_others(trade: Codec, at: int) -> None:
    for usual, odd in ((b"key", None), (None, b"key")):
        rows = rows_of(trade, trades(trade, 60), key=usual)
        both(trade, [batch([*rows[:at], (*rows[at][:2], odd, *rows[at][3:]), *rows[at + 1 :]])], taken=False)


def test_null_keys_in_some_batches(trade: Codec) -> None:
    keyed, bare = rows_of(trade, trades(trade, 60)), rows_of(trade, trades(trade, 60), key=None)
    for compression in (0, 4):
        batches = [batch(rows, base=60 * i, codec=compression) for i, rows in enumerate((keyed, bare, bare, keyed))]
        both(trade, batches, taken=True)


@pytest.mark.parametrize("at", [0, 30, 59])
def test_tombstones(trade: Codec, at: int) -> None:
    rows = rows_of(trade, trades(trade, 60))
    found = both(trade, [batch([*rows[:at], (*rows[at][:3], None, []), *rows[at + 1 :]])], taken=False)
    assert (found.tombstones, sum(map(len, found.batches))) == (1, 59)


def test_a_writers_other_schema() -> None:
    registry = MemoryRegistry(compatibility="NONE")
    old = codec_of({"a": "int", "gone": "string"}, registry)
    new = codec_of({"a": "long"}, registry)
    mixed = [
        (o, 0, b"k", (old.encode(old.record(o, "x")) if o % 5 == 0 else new.encode(new.record(o))), [])  # type: ignore[call-arg]
        for o in range(60)
    ]
    found = both(new, [batch(mixed)], taken=False)
    assert [r.a for r in found.batches[0].records()] == list(range(60))  # type: ignore[attr-defined]


def test_records_of_older_formats(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 60))
    legacy = [RawRecord(o, t, k, v, ()) for o, t, k, v, _ in rows]
    found = both(trade, [legacy, batch(rows, base=60)], first=10)
    assert (found.block_rows, found.row_rows) == (60, 50)


# Bad records: each costs only itself, and both ways name it alike.

BAD = {
    "empty": b"",
    "short frame": b"\x00\x00\x00",
    "no frame": b'{"symbol": "S1"}' * 3,
    "unknown schema": FRAME.pack(0, 4_000) + b"\x02a\x02",
    "garbage": FRAME.pack(0, 1) + b"\xff" * 20,
    "cut": None,
    "a byte too many": None,
    "another record behind": None,
    "text that is none": None,
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("columns", [None, frozenset({"price"}), frozenset({"symbol", "n"})])
def test_one_bad_record_among_many(trade: Codec, kind: str, columns: frozenset[str] | None) -> None:
    rows = rows_of(trade, trades(trade, 60))
    good = rows[30][3]
    assert good is not None
    bad = BAD[kind]
    if kind == "cut":
        bad = good[:-1]
    elif kind == "a byte too many":
        bad = good + b"\x00"
    elif kind == "another record behind":
        bad = good * 2
    elif kind == "text that is none":
        bad = good.replace("é".encode(), b"\xff\xfe")
    found = both(trade, [batch([*rows[:30], (*rows[30][:3], bad, []), *rows[31:]])], columns=columns, taken=False)
    assert [b.record.offset for b in found.bad] == [30]
    assert sum(map(len, found.batches)) == 59


def test_a_bad_record_costs_only_its_batch_the_block_way(trade: Codec) -> None:
    rows = rows_of(trade, trades(trade, 60))
    poisoned = batch([*rows[:5], (*rows[5][:3], b"poison", []), *rows[6:]], base=60)
    found = both(trade, [batch(rows), poisoned, batch(rows, base=120)])
    assert (found.block_rows, found.row_rows, len(found.bad)) == (120, 59, 1)


def test_a_batch_that_does_not_unpack(trade: Codec) -> None:
    whole = batch_bytes(rows_of(trade, trades(trade, 60)), base=60)
    broken = parsed(changed(whole, codec=4))
    found = both(trade, [batch(rows_of(trade, trades(trade, 60))), broken])
    assert found.block_rows == 60
    assert [b.record.offset for b in found.bad] == [60]
    cut = parsed(changed(whole, body=whole[HEADER.size : -20]))
    found = both(trade, [cut])
    assert (found.row_rows, len(found.bad)) == (59, 1)


# Crafted: an Avro reader that goes on from wrong places finds what looks right there.


def hand_made(key: bytes | None, value: bytes, offset: int, headers: bytes = b"\x00") -> bytes:
    inner = b"\x00" + varint_bytes(0) + varint_bytes(offset)
    inner += varint_bytes(-1) if key is None else varint_bytes(len(key)) + key
    inner += varint_bytes(len(value)) + value + headers
    return varint_bytes(len(inner)) + inner


def test_a_value_that_hides_another_record() -> None:
    codec = codec_of({"a": "long", "s": "string"})
    fake = codec.encode(codec.record(666, "fake"))  # type: ignore[call-arg]
    true = codec.encode(codec.record(1, "true"))  # type: ignore[call-arg]
    # Read as Avro, the first record ends early and the fake one follows, which swallows the true one as its text.
    for swallow in range(200):
        tail = hand_made(b"k", true, 1)
        bait = FRAME.pack(0, codec.schema_id) + varint_bytes(666) + varint_bytes(swallow)
        fake = b"\x00" + b"\x00" + varint_bytes(1) + varint_bytes(1) + b"k" + varint_bytes(len(bait)) + bait
        first = hand_made(b"k", true + b"\x00" + varint_bytes(len(tail) - 1) + fake, 0)
        body = first + tail
        rows = batch_bytes([(0, 0, b"k", true, []), (1, 0, b"k", true, [])])
        found = both(codec, [parsed(changed(rows, body=body))])
        assert found.block_rows == 0
        assert len(found.bad) == 1


def test_a_key_that_hides_another_record() -> None:
    """Where the first key is null, a reader that believes it reads the second key's inside as its record."""
    codec = codec_of({"a": "long"})
    true, fake = (codec.encode(codec.record(n)) for n in (1, 2))  # type: ignore[call-arg]
    inside = varint_bytes(len(fake)) + fake + b"\x00"
    third = hand_made(None, true, 2)
    inside += third[:-1] + b"\x00"
    body = hand_made(None, true, 0) + hand_made(inside, true, 1) + third
    rows = batch_bytes([(i, 0, None, true, []) for i in range(3)])
    found = both(codec, [parsed(changed(rows, body=body))], taken=False)
    assert found.batches[0]["a"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("last", [True, False])
def test_records_that_are_longer_than_what_is_in_them(last: bool) -> None:
    codec = codec_of({"a": "long"})
    value = codec.encode(codec.record(1))  # type: ignore[call-arg]
    plain, longer = (hand_made(b"k", value, int(last), headers) for headers in (b"\x00", b"\x00\x00"))
    body = hand_made(b"k", value, 0) + longer if last else hand_made(b"k", value, 0, b"\x00\x00") + plain
    rows = batch_bytes([(i, 0, b"k", value, []) for i in range(2)])
    found = both(codec, [parsed(changed(rows, body=body))], taken=False)
    assert (found.row_rows, len(found.bad)) == (int(last), 1)


def test_a_key_of_a_length_that_cannot_be() -> None:
    codec = codec_of({"a": "long"})
    value = codec.encode(codec.record(1))  # type: ignore[call-arg]
    odd = hand_made(None, value, 1).replace(b"\x00\x00\x02\x01", b"\x00\x00\x02\x03")
    rows = batch_bytes([(i, 0, None, value, []) for i in range(2)])
    found = both(codec, [parsed(changed(rows, body=hand_made(None, value, 0) + odd))], taken=False)
    assert (found.row_rows, len(found.bad)) == (1, 1)


def test_a_number_longer_than_it_need_be_is_the_number_that_it_is() -> None:
    codec = codec_of({"a": "long", "b": "boolean"})
    frame = FRAME.pack(0, codec.schema_id)
    for size in range(1, 11):
        value = frame + varint_bytes(5, size=size) + b"\x01"
        both(codec, [batch([(0, 0, b"k", value, []), (1, 0, b"k", value, [])])], taken=True)


@pytest.mark.parametrize(
    ("kind", "datum"),
    [
        ("long", b"\xff" * 9 + b"\x7f"),  # past 64 bits
        ("long", b"\xff" * 11 + b"\x01"),
        ("int", varint_bytes(2**31)),
        ("int", varint_bytes(-(2**40))),
        ("boolean", b"\x02"),
        ("boolean", b"\xff"),
        (["null", "long"], b"\x04\x02"),  # no such branch
        (["null", "long"], b"\x01\x02"),  # branch -1
        (["null", "long"], b"\x82\x00\x02"),  # branch 1 in two bytes
        ("string", b"\x01abc"),  # a length of -1
        ("string", varint_bytes(2**40) + b"abc"),
        ("bytes", varint_bytes(-(2**62)) + b"abc"),
        ("string", b"\x06\xed\xa0\x80"),  # half a surrogate pair
    ],
)
@pytest.mark.parametrize("wanted", ["a", "z"])
def test_what_readers_differ_on_is_left_to_the_row_way(kind: Any, datum: bytes, wanted: str) -> None:
    codec = codec_of({"a": kind, "z": "long"})
    good = codec.encode(
        codec.record(
            *{"long": (1, 1), "int": (1, 1), "boolean": (True, 1), "string": ("", 1), "bytes": (b"", 1)}.get(
                str(kind), (None, 1)
            )
        )
    )
    odd = FRAME.pack(0, codec.schema_id) + datum + b"\x02"
    for columns in (None, frozenset({wanted})):
        both(codec, [batch([(0, 0, b"k", good, []), (1, 0, b"k", odd, [])])], columns=columns, taken=False)


def test_a_count_that_no_body_holds_reserves_nothing(trade: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polars_blocks, "_read", lambda *_: pytest.fail("a reader may reserve room for so many"))
    whole = batch_bytes(rows_of(trade, trades(trade, 60)))
    found = both(trade, [parsed(changed(whole, count=2**31 - 1, last_delta=2**31 - 1))], taken=False)
    assert len(found.bad) == 1


def test_times_at_the_ends_of_time(trade: Codec) -> None:
    whole = batch_bytes(rows_of(trade, trades(trade, 60)))
    for first in (2**63 - 1, 2**63 - 30, -(2**63), 0):
        both(trade, [parsed(changed(whole, first_time=first))])


# Which schemas fit.


def test_which_schemas_fit() -> None:
    def fits(kind: Any) -> bool:
        return fits_blocks(schema_of_fields(field("a", kind)))

    for kind in PLAIN:
        assert fits(kind)
        assert fits(["null", kind])
        assert fits([kind, "null"])
    for logical in ("timestamp-micros", "date", "anything"):
        assert fits({"type": "long", "logicalType": logical})
    assert not fits(["null", "null"])
    assert not fits(["null"])
    assert not fits(["int", "long"])
    assert not fits(["null", "int", "long"])
    assert not fits("null")
    assert not fits({"type": "array", "items": "long"})
    assert not fits(["null", {"type": "map", "values": "long"}])
    assert not fits({"type": "enum", "name": "E", "symbols": ["A"]})
    assert not fits({"type": "fixed", "name": "F", "size": 4})
    assert not fits(schema_of_fields(field("b", "long"), name="Inner"))
    assert not fits_blocks(schema_of_fields())
    assert not fits_blocks("string")
    assert not fits_blocks(schema_of_fields(field("kafka__len", "long")))


def test_a_field_named_like_ours_is_read_by_rows() -> None:
    codec = codec_of({"kafka__off": "long", "kafka__key": "string", "a": "long"})
    both(codec, [batch(rows_of(codec, [codec.record(i, "k", -i) for i in range(60)]))], taken=False)  # type: ignore[call-arg]


def test_floats_keep_their_bits() -> None:
    codec = codec_of({"f": "float", "d": "double"})
    odd = [struct.unpack(">f", bits)[0] for bits in (b"\x00\x00\x00\x01", b"\x80\x00\x00\x00", b"\x7f\x7f\xff\xff")]
    found = both(codec, [batch(rows_of(codec, [codec.record(f, -0.0) for f in odd]))], taken=True)  # type: ignore[call-arg]
    assert [struct.pack(">f", f) for f in found.batches[0]["f"]] == [struct.pack(">f", f) for f in odd]
    assert str(found.batches[0]["d"][0]) == "-0.0"
