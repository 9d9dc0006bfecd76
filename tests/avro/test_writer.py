"""Columns to record bodies: the kernel's bytes are the codec's, row by row, and so is what it refuses."""

from __future__ import annotations

import functools
import math
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro import writer as module
from streamproc.avro.agree import schema_of
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.avro.writer import Misfits, RecordWriter
from streamproc.batch import column_types, records_of
from streamproc.columns import Columns, Texts
from streamproc.errors import InvalidRecord
from streamproc.log.batch_builder import Body, build
from streamproc.log.partition import partition_of
from streamproc.record import Record
from tests.avro.kit import bound, field, schema_of_fields
from tests.log.wire import parsed

FIXED = {"type": "fixed", "name": "Four", "size": 4}
LIST = {"type": "array", "items": "long"}
KINDS = ["boolean", "int", "long", "float", "double", "string", "bytes", FIXED]
_FLOATS = st.floats(width=32, allow_subnormal=True)
VALUES: dict[str, Any] = {
    "boolean": st.booleans(),
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "float": _FLOATS,
    "double": st.floats(),
    "string": st.text(max_size=80),
    "bytes": st.binary(max_size=80),
    str(FIXED): st.binary(min_size=4, max_size=4),
}


HINTS = {"boolean": bool, "int": int, "long": int, "float": float, "double": float, "string": str}


def codec_of(kinds: dict[str, Any]) -> Codec:
    """A codec of a type with fields of these schemas."""
    return Codec(_record(repr(kinds)), MemoryRegistry(), "t-value")


@functools.cache
def _record(kinds: str) -> Any:
    def hint(kind: Any) -> Any:
        if isinstance(kind, list):
            return functools.reduce(lambda a, b: a | b, map(hint, kind))
        return type(None) if kind == "null" else HINTS.get(str(kind), bytes) if kind != LIST else list[int]

    plain = eval(kinds)
    with tempfile.TemporaryDirectory(prefix="streamproc-test-") as folder:
        schema = schema_of_fields(*(field(name, kind) for name, kind in plain.items()))
        record = bound(Path(folder), schema, {name: hint(kind) for name, kind in plain.items()})
        schema_of(record)  # kept from now on
    return record


@pytest.fixture(autouse=True)
def _from_the_first_row_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 0)


@dataclass(frozen=True)
class Sink:
    """A topic, as far as a writer looks at it."""

    record: type[Record]
    key: str | None = None
    partitions: int = 4
    name: str = "t"

    def key_of(self, record: Any) -> bytes | None:
        return None if self.key is None else str(getattr(record, self.key)).encode()


def columns_of(record: type[Record], rows: list[dict[str, Any]]) -> Columns:
    types = column_types(record)
    return Columns.of(pl.DataFrame({n: pl.Series([row[n] for row in rows], dtype=types[n]) for n in types}))


def texts_of(column: pl.Series) -> Texts:
    """Out of order in their buffer, and apart."""
    binary = column.dtype == pl.Binary
    parts = [None if v is None else v if binary else v.encode() for v in column.to_list()]
    data, starts = b"", [0] * len(parts)
    for i in reversed(range(len(parts))):
        starts[i] = len(data)
        data += (parts[i] or b"") + b"\xff"
    sizes = [-1 if part is None else len(part) for part in parts]
    return Texts(np.frombuffer(data, np.uint8), np.array(starts, np.int64), np.array(sizes, np.int64), binary=binary)


def as_they_lie(columns: Columns) -> Columns:
    """The same as arrays and texts, where there are no nulls."""
    found: dict[str, Any] = {}
    for name in columns:
        column = columns.series(name)
        if column.dtype in (pl.String, pl.Binary):
            found[name] = texts_of(column)
        else:
            found[name] = column if column.null_count() else column.to_numpy()
    return Columns(found, len(columns))


def written(codec: Codec, sink: Sink, columns: Columns, *, kernels: bool, limit: int = 1 << 19) -> list[Any]:
    times = np.arange(len(columns), dtype=np.int64) * 7 % 50 + 1_700_000_000_000
    return list(RecordWriter(codec, sink, limit=limit, use_kernels=kernels).write(columns, times))


@st.composite
def tables(draw: Any) -> tuple[Codec, list[dict[str, Any]]]:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5, unique_by=str))
    nulls = draw(st.lists(st.sampled_from((None, 0, 1)), min_size=len(kinds), max_size=len(kinds)))
    fields = {}
    values = {}
    for i, (kind, null) in enumerate(zip(kinds, nulls, strict=True)):
        branches = kind if null is None else ["null", kind] if null == 0 else [kind, "null"]
        fields[f"f{i}"] = branches
        each = VALUES[str(kind)]
        values[f"f{i}"] = each if null is None else st.none() | each
    return codec_of(fields), draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=30))


@settings(deadline=None, max_examples=200)
@given(tables(), st.sampled_from((1 << 19, 100, 0)), st.integers(1, 9))
def test_the_kernel_writes_what_the_codec_does(table, limit, partitions):
    pytest.importorskip("numba")
    codec, rows = table
    columns = columns_of(codec.record, rows)
    keys = [None, *(name for name in columns if isinstance(rows[0][name], str | int))]
    for key in keys:
        if key is not None and any(row[key] is None for row in rows):
            continue
        sink = Sink(codec.record, key, partitions)
        wanted = written(codec, sink, columns, kernels=False, limit=limit)
        assert written(codec, sink, columns, kernels=True, limit=limit) == wanted
        assert written(codec, sink, as_they_lie(columns), kernels=True, limit=limit) == wanted


def test_the_kernel_is_what_writes_plain_columns(monkeypatch):
    """The tests here would prove nothing if all went by rows."""
    pytest.importorskip("numba")
    monkeypatch.setattr(RecordWriter, "_write_rows", None)
    names = {f"f{i}": ["null", kind] if i % 2 else kind for i, kind in enumerate(KINDS)}
    codec = codec_of(names)
    row = {"f0": True, "f1": None, "f2": 1, "f3": 0.5, "f4": 0.25, "f5": "é", "f6": b"b", "f7": None}
    written(codec, Sink(codec.record, "f2"), columns_of(codec.record, [row] * 3), kernels=True)


@pytest.mark.parametrize("kernels", [True, False])
def test_records_have_their_topics_keys_and_partitions(kernels):
    if kernels:
        pytest.importorskip("numba")
    codec = codec_of({"k": "string", "n": "long"})
    rows = [{"k": f"key-{i % 17}", "n": i} for i in range(500)]
    columns = columns_of(codec.record, rows)
    found = written(codec, Sink(codec.record, "k", 5), columns, kernels=kernels, limit=1000)
    assert len({partition for partition, _ in found}) == 5
    seen = []
    for partition, body in found:
        assert len(body.data) <= 1000
        for raw in parsed(build(body)).records():
            assert partition_of(raw.key or b"", 5) == partition
            record: Any = codec.decode(raw.value or b"")
            assert raw.timestamp == record.n * 7 % 50 + 1_700_000_000_000
            assert raw.key == record.k.encode()
            seen.append((partition, record.n))
    assert sorted(n for _, n in seen) == list(range(500))
    for partition in range(5):
        own = [n for p, n in seen if p == partition]
        assert own == sorted(own)


@pytest.mark.parametrize("kernels", [True, False])
def test_partitions_that_are_known_are_taken(kernels):
    codec = codec_of({"k": "string"})
    columns = columns_of(codec.record, [{"k": "same"}] * 4)
    out = RecordWriter(codec, Sink(codec.record, "k"), use_kernels=kernels).write(
        columns, np.zeros(4, np.int64), np.array([3, 1, 3, 0])
    )
    assert [(p, body.records) for p, body in out] == [(0, 1), (1, 1), (3, 2)]


@pytest.mark.parametrize("kernels", [True, False])
def test_rows_without_a_key_go_round_in_runs(kernels, monkeypatch):
    monkeypatch.setattr(module, "_RUN", 10)
    codec = codec_of({"n": "long"})
    writer = RecordWriter(codec, Sink(codec.record, None, 3), use_kernels=kernels)
    found = []
    for n in (25, 1, 1):
        columns = columns_of(codec.record, [{"n": i} for i in range(n)])
        found.append([(p, body.records) for p, body in writer.write(columns, np.zeros(n, np.int64))])
    assert found == [[(0, 10), (1, 10), (2, 5)], [(0, 1)], [(1, 1)]]
    (_, body), *_ = writer.write(columns, np.zeros(1, np.int64))
    assert next(parsed(build(body)).records()).key is None


def test_many_rows_come_chunk_by_chunk(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(module, "_CHUNK", 64)
    codec = codec_of({"k": "string"})
    columns = columns_of(codec.record, [{"k": str(i)} for i in range(300)])
    sink = Sink(codec.record, "k", 2)
    assert written(codec, sink, columns, kernels=True) == written(codec, sink, columns, kernels=False)
    assert sum(body.records for _, body in written(codec, sink, columns, kernels=True)) == 300


def bits(value: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", value))[0])


ODD = [math.nan, bits(0x7FF8000000000123), bits(0xFFF8000000000001), bits(0x7FF0000000000001), math.inf, -math.inf,
       -0.0, 5e-324, 2.0**127, 2.0**128 - 2.0**104]  # fmt: skip


@pytest.mark.parametrize("kind", ["float", "double"])
def test_odd_numbers_keep_their_bits(kind):
    pytest.importorskip("numba")
    codec = codec_of({"x": kind})
    columns = Columns({"x": np.array(ODD)}, len(ODD))
    assert written(codec, Sink(codec.record), columns, kernels=True) == written(
        codec, Sink(codec.record), columns, kernels=False
    )


# Columns that are not of the field's own type, and rows that do not fit: refused, or written, as the codec does.
CASES: list[tuple[Any, Any]] = [
    ("int", pl.Series([1, 2**31, 3, -(2**31) - 1, -(2**31)])),
    ("int", pl.Series([1, 2], dtype=pl.Int8)),
    ("int", pl.Series([1, 2**32 - 1], dtype=pl.UInt32)),
    ("long", pl.Series([1, 2**63, 2**64 - 1], dtype=pl.UInt64)),
    ("long", pl.Series([1.0, 2.5])),
    ("long", pl.Series([True, False])),
    ("long", pl.Series(["1", "2"])),
    ("long", pl.Series([1, None, 3])),
    ("long", pl.Series([None, None])),
    ("long", pl.Series([1, 2]).cast(pl.Datetime("ms"))),
    ("long", np.array([1, 2], np.uint16)),
    ("long", np.array([1, 2], object)),
    ("long", np.array([2**63, 1], np.uint64)),
    (["null", "int"], pl.Series([None, 2**31, 5])),
    ("boolean", pl.Series([0, 1])),
    ("boolean", pl.Series([True, None])),
    ("double", pl.Series([1, 2**53, -(2**53)])),
    ("double", pl.Series([1, 2**53 + 1, 2**60])),
    ("double", pl.Series([1.5, 2.5], dtype=pl.Float32)),
    ("double", pl.Series([True, False])),
    ("double", pl.Series([1.5, None])),
    ("float", pl.Series([1.0, 3.5e38, -3.5e38, 1e300, 2.0**128 - 2.0**103, 2.0**128 - 2.0**104])),
    ("float", np.array([1, 2**24 + 1], np.int64)),
    ("float", np.array([0.1], np.float32)),
    ("string", pl.Series(["a", None])),
    ("string", pl.Series(["a", "b", "a"]).cast(pl.Categorical)),
    ("string", pl.Series(["a", "b"]).cast(pl.Enum(["a", "b"]))),
    ("string", pl.Series([b"a", b"b"])),
    ("string", pl.Series([1, 2])),
    ("string", pl.Series(["", ""])),
    ("bytes", pl.Series(["a"])),
    ("bytes", pl.Series([b"a", None, b""])),
    (FIXED, pl.Series([b"four", b"fo", b"", b"1234"])),
    (["null", FIXED], pl.Series([None, b"123", b"1234"])),
    ("long", texts_of(pl.Series(["a"]))),
    ("bytes", texts_of(pl.Series(["a"]))),
    ("string", texts_of(pl.Series([b"a"]))),
    ("string", texts_of(pl.Series(["a", None]))),
]


@pytest.mark.parametrize(("kind", "column"), CASES, ids=lambda case: None)
def test_what_does_not_fit_is_refused_as_the_codec_does(kind, column):
    pytest.importorskip("numba")
    codec = codec_of({"x": kind})
    columns = Columns({"x": column}, len(column))
    outcomes = []
    for kernels in (True, False):
        try:
            outcomes.append(written(codec, Sink(codec.record), columns, kernels=kernels))
        except Misfits as error:
            outcomes.append([str(error), error.field, error.rows.tolist()])
    assert outcomes[0] == outcomes[1]
    bad = []
    for row, record in enumerate(records_of(columns, codec.record)):
        try:
            codec.encode(record)
        except InvalidRecord:
            bad.append(row)
    if bad:
        assert outcomes[0][-1] == bad
    else:
        assert isinstance(outcomes[0][0][1], Body)


@pytest.mark.parametrize("kernels", [True, False])
def test_the_first_row_that_does_not_fit_is_told(kernels):
    codec = codec_of({"a": "int", "b": "int"})
    columns = Columns.of(pl.DataFrame({"a": [1, 2, 2**40, 4], "b": [1, 2**50, 3, 4]}))
    with pytest.raises(Misfits, match=r"b: 1125899906842624 does not fit") as error:
        written(codec, Sink(codec.record), columns, kernels=kernels)
    assert error.value.rows.tolist() == [1, 2]
    assert error.value.field == "b"


@pytest.mark.parametrize("kernels", [True, False])
def test_columns_must_be_the_records_fields(kernels):
    codec = codec_of({"a": "int", "b": "int"})
    for frame, said in (({"a": [1, 2]}, "no column b"), ({"a": [1], "b": [1], "c": [1]}, "has no field c")):
        with pytest.raises(InvalidRecord, match=said):
            written(codec, Sink(codec.record), Columns.of(pl.DataFrame(frame)), kernels=kernels)


def test_nothing_gives_nothing():
    codec = codec_of({"a": "int"})
    assert written(codec, Sink(codec.record), Columns({"a": np.empty(0, np.int64)}, 0), kernels=True) == []


def test_fields_that_are_plain_or_not():
    plain = module.plain_fields(codec_of({"a": ["string", "null"], "b": FIXED}))
    assert plain == [module.Field("a", "string", 0, 1), module.Field("b", "fixed", 4, -1)]
    for kind in (LIST, ["null", "int", "string"]):
        assert module.plain_fields(codec_of({"a": kind})) is None


def test_what_is_not_plain_goes_by_rows():
    codec = codec_of({"k": "string", "a": LIST})
    columns = Columns.of(pl.DataFrame({"k": ["x", "y"], "a": [[1, 2], []]}))
    out = written(codec, Sink(codec.record, "k", 1), columns, kernels=True)
    values = [raw.value for _, body in out for raw in parsed(build(body)).records()]
    assert values == [codec.encode(record) for record in records_of(columns, codec.record)]
