"""What is tried: record batches of random schemas, damaged in ways that get past the checksum. A seed is a case."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

from streamproc.log.batches import HEADER
from streamproc.log.batches import varint as read_varint
from tests.fuzz.schemas import Data, Schemas, varint
from tests.log.wire import LOG_APPEND_TIME, TRANSACTIONAL, Row, batch_bytes, changed, control_bytes

_PER_WORLD = 40  # cases with the same schemas
_COMPRESS: dict[int, Callable[[bytes], bytes]] = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
_BYTES = (0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (-1, -2, 0, 1, 50, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 31, 1 << 53, (1 << 63) - 1, -(1 << 63))
_TOO_LONG = (b"\x80" * 9 + b"\2", b"\x82" + b"\x80" * 8 + b"\x7e", b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\0")
_TIMES = (0, -1, 1_000, (1 << 62) - 1, (1 << 63) - 1, -(1 << 63))
_KEYS = (b"k", b"k", b"", None, b"\xff" * 20, b"x" * 200)
_ID = b"\1" + bytes(3) + b"\1" + bytes(7) + b"\2" + bytes(12) + b"stage"  # of a result: see streamproc.log.origins
_HEADERS: tuple[list[tuple[str, bytes | None]], ...] = (
    [],
    [],
    [("h", b"1")],
    [("h", b"1"), ("", None), ("é", b"")],
    [("streamproc-origin", _ID)],
    [("h", b"1"), ("streamproc-origin", _ID[:-5] + b"other"), ("streamproc-origin", None)],
)


class Case(msgspec.Struct, frozen=True):
    """One thing to try.

    Attributes:
        reader: the schema that is read with, as JSON.
        writers: the others under which values are written; the first has the id after the reader's.
        columns: what is wanted, or None for all.
        first: the first offset that is wanted.
        data: record batches; for a fetch, one buffer of them.
        fetch: for :class:`BlockRecords` how to read it: with its aborted transactions, and whether only what is
            committed; and whether aiokafka must read the same.
    """

    reader: str
    writers: tuple[str, ...]
    columns: frozenset[str] | None
    first: int
    data: list[bytes]
    fetch: tuple[list[tuple[int, int]], bool, bool] | None = None


class World(msgspec.Struct, frozen=True):
    """Schemas and data of them, written for the reader's id 1 and the writers' ids after it."""

    reader: str
    writers: tuple[str, ...]
    names: list[str]
    values: list[bytes]


@functools.lru_cache(1)
def _world(seed: str) -> World:
    chance = random.Random(seed)
    while True:
        schemas = Schemas(chance)
        reader = schemas.reader()
        writers = [schemas.writer(reader) for _ in range(chance.choice((0, 0, 1, 2)))]
        texts = [json.dumps(schema) for schema in (reader, *writers)]
        try:
            fastavro.parse_schema(json.loads(texts[0]))
            values = []
            for _ in range(60):
                at = chance.randrange(len(texts)) if chance.random() < 0.4 else 0
                # Schemas that say the same have the same id.
                id = 1 + list(dict.fromkeys(texts)).index(texts[at])
                values.append(b"\0" + id.to_bytes(4, "big") + Data(json.loads(texts[at]), chance).datum())
        except Exception:  # no schema after all, or one without end
            continue
        names = [field["name"] for field in reader["fields"]]
        others = tuple(dict.fromkeys(text for text in texts[1:] if text != texts[0]))
        return World(texts[0], others, names, values)


def make(target: str, seed: int) -> Case:
    """The case of a seed: of damaged ``batches``, of damaged ``values`` in whole batches, or of ``fetches``."""
    world = _world(f"{target} {seed // _PER_WORLD}")
    chance = random.Random(f"{target} {seed}")
    columns = None
    if chance.random() < 0.7:
        columns = frozenset(chance.sample(world.names, chance.randint(1, min(3, len(world.names)))))
    made: dict[str, Any] = _TARGETS[target](world, chance)
    return Case(world.reader, world.writers, columns, **made)


def _batches(world: World, chance: random.Random) -> dict[str, Any]:
    """Whole batches, and among them damaged ones."""
    data, base = [], 0
    for _ in range(chance.choice((1, 1, 2, 4))):
        rows = _rows(world, chance, chance.choice((1, 3, 12, 50)))
        whole = batch_bytes(rows, base=base)
        data.append(_spoiled(whole, chance) if chance.random() < 0.6 else _packed(whole, whole[HEADER.size :], chance))
        base += len(rows) + chance.choice((0, 0, 7))
    return {"first": chance.choice((0, 0, 0, 2, base)), "data": data}


def _values(world: World, chance: random.Random) -> dict[str, Any]:
    """Batches that are whole, of records whose values are not."""
    rows = _rows(world, chance, chance.choice((1, 10, 50)))
    for _ in range(chance.choice((1, 1, 3, len(rows)))):
        at = chance.randrange(len(rows))
        value = rows[at][3] or b"\0\0\0\0\1"
        draw = chance.random()
        if draw < 0.7:
            value = value[:5] + damaged(value[5:], chance)
        elif draw < 0.85:
            value = value[:5] + chance.randbytes(chance.choice((0, 1, 4, 30)))
        else:
            value = damaged(value, chance)
        rows[at] = (*rows[at][:3], value, rows[at][4])
    whole = batch_bytes(rows)
    return {"first": 0, "data": [_packed(whole, whole[HEADER.size :], chance)]}


def _fetches(world: World, chance: random.Random) -> dict[str, Any]:
    """What a broker may send: batches, transactions, markers; some of it damaged, with a right checksum or without."""
    out, aborted, base = bytearray(), list[tuple[int, int]](), 0
    repaired = False
    for _ in range(chance.randint(1, 6)):
        draw = chance.random()
        if draw < 0.2:
            part, size = control_bytes(base, chance.choice((7, 8)), commit=chance.random() < 0.5), 1
        else:
            rows = _rows(world, chance, chance.choice((1, 3, 12)))
            flags, producer = (TRANSACTIONAL, chance.choice((7, 8))) if draw < 0.5 else (0, -1)
            if flags and chance.random() < 0.4:
                aborted.append((producer, base))
            part, size = batch_bytes(rows, base=base, flags=flags, producer=producer), len(rows)
        if chance.random() < 0.25:
            part, repaired = _spoiled(part, chance), True
        out += part
        base += size + chance.choice((0, 0, 3))
    data = bytes(out)
    if chance.random() < 0.3:
        data = damaged(data, chance)
    if chance.random() < 0.3:
        data = data[: chance.randrange(len(data) + 1)]
    how = (aborted, chance.random() < 0.5, not repaired)
    return {"first": chance.choice((0, 0, 1, base // 2)), "data": [data], "fetch": how}


_TARGETS: dict[str, Callable[[World, random.Random], dict[str, Any]]] = {
    "batches": _batches,
    "values": _values,
    "fetches": _fetches,
}
TARGETS = tuple(_TARGETS)


def _rows(world: World, chance: random.Random, count: int) -> list[Row]:
    key, headers = chance.choice(_KEYS), chance.choice(_HEADERS)
    varied = chance.random() < 0.2
    rows: list[Row] = []
    for i in range(count):
        value: bytes | None = chance.choice(world.values)
        if varied:
            key, headers = chance.choice(_KEYS), chance.choice(_HEADERS)
            value = value if chance.random() < 0.9 else None
        rows.append((i, 1_000 + chance.randrange(5), key, value, headers))
    return rows


def _spoiled(whole: bytes, chance: random.Random) -> bytes:
    """A batch with its records, its compressed bytes or its header damaged; its checksum is right."""
    body = whole[HEADER.size :]
    draw = chance.random()
    if draw < 0.2:
        return _packed(whole, _misnumbered(body, chance), chance)
    if draw < 0.7:
        return _packed(whole, damaged(body, chance), chance)
    if draw < 0.8:
        codec = chance.randint(1, 4)
        return changed(whole, body=damaged(_COMPRESS[codec](body), chance), codec=codec)
    if draw < 0.85:
        return changed(whole, codec=chance.randint(1, 7))
    if draw < 0.853:
        codec = chance.randint(1, 4)
        return changed(whole, body=_bomb(codec), codec=codec)
    what = {
        "count": lambda: chance.choice((0, 1, 2, 13, 1 << 20, (1 << 31) - 1)),
        "last_delta": lambda: chance.choice((0, 1, 5, 100, (1 << 31) - 1)),
        "first_time": lambda: chance.choice(_TIMES),
        "max_time": lambda: chance.choice(_TIMES),
        "flags": lambda: LOG_APPEND_TIME,
    }
    fields = chance.sample(sorted(what), chance.randint(1, 2))
    return _packed(changed(whole, **{name: what[name]() for name in fields}), body, chance)


def _misnumbered(body: bytes, chance: random.Random) -> bytes:
    """Records of which some say a number that is odd, or oddly, and are whole otherwise: their lengths are right."""
    out, at = bytearray(), 0
    while at < len(body):
        length, at = read_varint(body, at)
        inner = body[at : at + length]
        at += length
        if chance.random() < 0.4:
            starts = [
                1
            ]  # behind the attributes: the time, the offset, the key's length, the value's, the headers' count
            for text in (False, False, True, True):
                number, end = read_varint(inner, starts[-1])
                starts.append(end + max(number, 0) * text)
            start = chance.choice(starts)
            number, end = read_varint(inner, start)
            odd = chance.choice((varint(number, 10), varint(number + 1), *_TOO_LONG))
            inner = inner[:start] + odd + inner[end:]
        out += varint(len(inner)) + inner
    return bytes(out)


@functools.cache
def _bomb(codec: int) -> bytes:
    """Zeros, small as they come: 1.5 GB of them for gzip and zstd, and what says that it is 4 GB for snappy."""
    if codec == 2:
        return b"\xff\xff\xff\xff\x0f" + bytes(100)
    return _COMPRESS[codec](bytes(1 << 20)) * 1_500


def _packed(whole: bytes, body: bytes, chance: random.Random) -> bytes:
    """The batch with this body, compressed half of the time."""
    codec = chance.choice((0, 0, 0, 0, 1, 2, 3, 4))
    return changed(whole, body=_COMPRESS[codec](body) if codec else body, codec=codec)


def _number(chance: random.Random) -> bytes:
    return varint(chance.choice(_NUMBERS), chance.choice((0, 0, 9)))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to three changes, mostly small ones."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(out) + 1)
        size = chance.choice((1, 1, 2, 5, 20))
        match chance.choice(("set", "set", "flip", "number", "number", "insert", "delete", "copy", "cut", "more")):
            case "set":
                out[at : at + 1] = bytes([chance.choice(_BYTES)])
            case "flip" if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case "number":  # in the place of another
                end = at
                while end < len(out) and out[end] >= 0x80:
                    end += 1
                out[at : end + 1] = chance.choice(_TOO_LONG) if chance.random() < 0.2 else _number(chance)
            case "insert":
                out[at:at] = bytes([chance.choice(_BYTES)]) * size
            case "delete":
                del out[at : at + size]
            case "copy":
                start = chance.randrange(len(out) + 1)
                out[at : at + size] = out[start : start + size]
            case "cut":
                del out[at:]
            case "more":
                out += chance.randbytes(size)
    return bytes(out)
