"""Damaged record batches: never a crash, never another row than the row way gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.log.batches import HEADER
from tests.avro.block_kit import both, codec_of, rows_of
from tests.log.wire import batch_bytes, changed, parsed

CODEC = codec_of({"s": "string", "t": "long", "u": ["null", "string"], "b": "boolean", "d": "double", "i": "int"})
RECORDS = [
    CODEC.record(f"é{i}", 1_700_000_000_000 + i, None if i % 2 else "u" * i, i % 3 == 0, i / 3, -i)  # type: ignore[call-arg]
    for i in range(12)
]
WHOLE: dict[bytes | None, bytes] = {key: batch_bytes(rows_of(CODEC, RECORDS, key=key)) for key in (None, b"", b"key")}
WHOLE[b"traced"] = batch_bytes([(*row[:4], [("a", b"1"), ("bc", b"")]) for row in rows_of(CODEC, RECORDS)])
BYTES = st.sampled_from([0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255)
EDIT = st.tuples(
    st.sampled_from(["set", "flip", "insert", "delete", "copy", "cut"]), st.floats(0, 1), st.floats(0, 1), BYTES
)


def damaged(body: bytes, edits: list[tuple[str, float, float, int]]) -> bytes:
    out = bytearray(body)
    for kind, where, other, byte in edits:
        if not out:
            break
        at, size = int(where * (len(out) - 1)), 1 + int(other * 20)
        match kind:
            case "set":
                out[at] = byte
            case "flip":
                out[at] ^= 1 << byte % 8
            case "insert":
                out[at:at] = bytes([byte]) * size
            case "delete":
                del out[at : at + size]
            case "copy":
                source = int(other * (len(out) - 1))
                out[at : at + byte] = out[source : source + byte]
            case "cut":
                del out[at:]
    return bytes(out)


@given(
    st.sampled_from(list(WHOLE)),
    st.lists(EDIT, min_size=1, max_size=4),
    st.integers(0, 14),
    st.none() | st.sets(st.sampled_from(["s", "t", "d", "i"])).map(frozenset),
    st.booleans(),
)
@settings(max_examples=700, deadline=None)
def test_damage(
    key: bytes | None,
    edits: list[tuple[str, float, float, int]],
    count: int,
    columns: frozenset[str] | None,
    among_others: bool,
) -> None:
    whole = WHOLE[key]
    body = damaged(whole[HEADER.size :], edits)
    one = parsed(changed(whole, body=body, count=count if count < 2 else 12, base=12))
    good = parsed(whole)
    later = parsed(changed(whole, base=24))
    both(CODEC, [good, one, later] if among_others else [one], columns=columns)


@given(st.binary(max_size=300), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_garbage(body: bytes, count: int) -> None:
    both(CODEC, [parsed(changed(WHOLE[b"key"], body=body, count=count))])


def test_every_byte_changed_by_one_and_every_cut() -> None:
    whole = WHOLE[b"key"]
    body = whole[HEADER.size :]
    for at in range(len(body)):
        up = body[:at] + bytes([body[at] + 1 & 0xFF]) + body[at + 1 :]
        both(CODEC, [parsed(changed(whole, body=up))])
    for at in range(0, len(body), 7):
        both(CODEC, [parsed(changed(whole, body=body[:at]))])
