"""The interpreter's limits: nothing is read past a value's end, and every byte is."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.avro.codec import FRAME, parsed
from streamproc.avro.layout import Layout
from streamproc.avro.program import program_of
from streamproc.compiled.ops import BAD, GOOD, OTHER, TOMBSTONE
from tests.avro.kit import field, schema_of_fields
from tests.avro.strategies import encode, records, values
from tests.log.wire import varint_bytes

Values = pytest.importorskip("streamproc.compiled.values").Values
ID = 7


def read(schema: Any, wires: list[bytes | None], wanted: set[str] | None = None) -> Any:
    """The values, each of which has others before and behind it in the buffer."""
    layout = Layout(parsed(schema), wanted or set())
    data, places, sizes = b"", [], []
    for wire in wires:
        data += b"\x02\x02"
        places.append(len(data))
        sizes.append(-1 if wire is None else len(wire))
        data += (wire or b"") + b"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02"
    columns = np.array(places, np.int64), np.array(sizes, np.int64)
    found = Values(np.frombuffer(data, np.uint8), *columns, layout.words, layout.flags)
    code = program_of(parsed(schema), None, layout)
    return found, found.run(np.array([ID]), np.array([0]), code)


def one(kind: Any, datum: bytes) -> int:
    found, _ = read(schema_of_fields(field("a", kind)), [FRAME.pack(0, ID) + datum])
    return int(found.status[0])


@given(st.data(), records())
@settings(max_examples=60, deadline=None)
def test_every_cut_and_every_byte_more(data: st.DataObject, schema: Any) -> None:
    value = data.draw(values(schema))
    wire = FRAME.pack(0, ID) + encode(schema, value, random.Random(1), odd=True)
    found, odd = read(schema, [wire, wire + b"\x00", *(wire[:end] for end in range(len(wire)))])
    assert found.status.tolist() == [GOOD] + [BAD] * (len(wire) + 1)
    assert odd == len(wire) + 1


def test_rows_of_every_kind() -> None:
    good = FRAME.pack(0, ID) + b"\x04"
    found, odd = read(
        schema_of_fields(field("a", "long")),
        [good, None, b"", b"\x00" * 4, b"\x01" + good[1:], FRAME.pack(0, 9) + b"\x04"],
        {"a"},
    )
    assert found.status.tolist() == [GOOD, TOMBSTONE, BAD, BAD, BAD, OTHER]
    assert (found.words[0, 0], odd, found.others()) == (2, 5, [9])


@pytest.mark.parametrize(
    ("datum", "good"),
    [
        (varint_bytes(2**63 - 1), True),
        (varint_bytes(-(2**63)), True),
        (b"\xff" * 9 + b"\x02", False),
        (b"\x80" * 10, False),
    ],
)
def test_the_longest_numbers(datum: bytes, good: bool) -> None:
    for kind in ("long", "int"):
        assert one(kind, datum) == (GOOD if good else BAD)


@pytest.mark.parametrize("size", [-1, -(2**63), 2**31, 2**63 - 1])
@pytest.mark.parametrize("kind", ["string", "bytes", {"type": "map", "values": "long"}])
def test_the_longest_sizes(kind: Any, size: int) -> None:
    front = b"\x02" if isinstance(kind, dict) else b""
    assert one(kind, front + varint_bytes(size) + b"abc") == BAD


@pytest.mark.parametrize("count", [4, 2**31, 2**63 - 1, -4, -(2**63)])
@pytest.mark.parametrize("items", ["long", "boolean", ["null", "long"], {"type": "array", "items": "long"}])
def test_the_longest_arrays(items: Any, count: int) -> None:
    size = b"\x06" if count < 0 else b""
    assert one({"type": "array", "items": items}, varint_bytes(count) + size + b"\x00\x00\x00") == BAD


@given(st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
@settings(max_examples=500)
def test_text_is_what_python_takes_for_it(data: bytes) -> None:
    try:
        data.decode()
        expected = GOOD
    except UnicodeDecodeError:
        expected = BAD
    assert one("string", varint_bytes(len(data)) + data) == expected
    assert one("string", varint_bytes(len(data) + 9) + b"ascii, 9!" + data) == expected
    assert one("bytes", varint_bytes(len(data)) + data) == GOOD


@pytest.mark.parametrize("first", range(0xC0, 0x100))
def test_every_second_byte_of_a_character(first: int) -> None:
    texts = [
        bytes([first, second]) + tail for second in range(0x70, 0xD0) for tail in (b"", b"\x80", b"\x80\x80", b"a")
    ]
    schema = schema_of_fields(field("a", "string"))
    found, _ = read(schema, [FRAME.pack(0, ID) + varint_bytes(len(text)) + text for text in texts])
    for text, status in zip(texts, found.status, strict=True):
        assert (status == GOOD) == (text.decode(errors="ignore").encode() == text)


def test_doubles_and_floats_that_are_cut() -> None:
    for kind, wire in (("double", struct.pack("<d", 1.5)), ("float", struct.pack("<f", 1.5))):
        for wanted in (set(), {"a"}):
            schema = schema_of_fields(field("a", kind))
            found, _ = read(schema, [FRAME.pack(0, ID) + wire, FRAME.pack(0, ID) + wire[:-1]], wanted)
            assert found.status.tolist() == [GOOD, BAD]
