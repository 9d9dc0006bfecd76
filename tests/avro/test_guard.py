"""Which schemas need a guard, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc.avro.codec import parsed
from streamproc.avro.guard import Guard, Refused, guard_of
from tests.avro.kit import field, schema_of_fields
from tests.log.wire import varint_bytes

EMPTY = {"type": "record", "name": "Empty", "fields": []}
TREE = schema_of_fields(field("v", "string"), field("kids", {"type": "array", "items": "test.Thing"}))


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("long", False),
        ({"type": "array", "items": "long"}, False),
        ({"type": "map", "values": "null"}, False),  # its keys take bytes
        ({"type": "array", "items": "null"}, True),
        ({"type": "map", "values": {"type": "array", "items": EMPTY}}, True),
        (["null", "test.Thing"], True),
        ({"type": "record", "name": "A", "fields": [field("b", ["null", "A"])]}, True),
        ({"type": "record", "name": "A", "fields": [field("b", EMPTY), field("c", "test.Empty")]}, False),
    ],
)
def test_which_schemas_need_one(kind: Any, needed: bool) -> None:
    assert (guard_of(parsed(schema_of_fields(field("a", kind)))) is not None) == needed


def node(kids: list[bytes]) -> bytes:
    return b"\x02v" + (varint_bytes(len(kids)) + b"".join(kids) if kids else b"") + b"\x00"


def tree(levels: int) -> bytes:
    return node([]) if not levels else node([node([]), tree(levels - 1)])


def test_depth() -> None:
    guard = Guard(parsed(TREE))
    guard.check(tree(149), 0)  # an array and a record a level, the last array is entered
    with pytest.raises(Refused, match="300 levels"):
        guard.check(tree(150), 0)


def sized(kids: list[bytes], size: int) -> bytes:
    """A node whose block of children tells its size in bytes."""
    return b"\x02v" + varint_bytes(-len(kids)) + varint_bytes(size) + b"".join(kids) + b"\x00"


def test_a_block_that_tells_its_size() -> None:
    guard, kids = Guard(parsed(TREE)), [node([]), node([])]
    true = len(b"".join(kids))
    guard.check(sized(kids, true), 0)
    for size in (-1, 0, 1, true - 1, true + 1, 1 << 62):  # fastavro skips so many bytes, and lands elsewhere
        with pytest.raises(Refused, match="malformed"):
            guard.check(sized(kids, size), 0)


@pytest.mark.parametrize("at", range(len(tree(2))))
def test_every_cut(at: int) -> None:
    with pytest.raises(Refused, match="malformed"):
        Guard(parsed(TREE)).check(tree(2)[:at], 0)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("boolean", b"\x01", b"\x02"),
        ("string", b"\x02a", b"\x01a"),
        ("double", b"d" * 8, b"d" * 7),
        (["null", "long"], b"\x02\x02", b"\x04\x02"),
        ("long", b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02"),
        ("long", b"\x02", b"\xff" * 10 + b"\x01"),
        ({"type": "array", "items": "long"}, b"\x03\x04\x02\x04\x00", b"\x03\x02\x02\x04\x00"),
        ({"type": "map", "values": "long"}, b"\x02\x02k\x02\x00", b"\x02\x01k\x02\x00"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x00", b"\x02"),
    ],
)
def test_values(kind: Any, good: bytes, bad: bytes) -> None:
    guard = Guard(parsed(schema_of_fields(field("a", kind))))
    guard.check(b"?" + good, 1)
    with pytest.raises(Refused):
        guard.check(b"?" + bad, 1)
