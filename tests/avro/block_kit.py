"""Record batches of Avro values, and both ways of decoding them."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamproc import compiled as kernels
from streamproc.avro.blocks import BlockDecoder, Decoded
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from tests.avro.kit import bound, field, schema_of_fields
from tests.log.wire import Row

HINTS = {"boolean": bool, "int": int, "long": int, "float": float, "double": float, "string": str, "bytes": bytes}
BY_ROWS = 1 << 60


def codec_of(kinds: dict[str, Any], registry: MemoryRegistry | None = None) -> Codec:
    """A codec of a flat type with fields of these schemas."""
    return Codec(
        _record(tuple((name, repr(kind)) for name, kind in kinds.items())), registry or MemoryRegistry(), "t-value"
    )


@functools.cache
def _record(kinds: tuple[tuple[str, str], ...]) -> Any:
    plain = {name: eval(kind) for name, kind in kinds}
    folder = tempfile.TemporaryDirectory(prefix="streamproc-test-")
    try:
        record = bound(
            Path(folder.name),
            schema_of_fields(*(field(name, kind) for name, kind in plain.items())),
            {name: _hint(kind) for name, kind in plain.items()},
        )
        from streamproc.avro.agree import schema_of

        schema_of(record)  # kept from now on
    finally:
        folder.cleanup()
    return record


def _hint(kind: Any) -> Any:
    if isinstance(kind, list):
        (inner,) = (branch for branch in kind if branch != "null")
        return _hint(inner) | None
    return HINTS[kind if isinstance(kind, str) else kind["type"]]


def codec_for(schema: Any, registry: MemoryRegistry) -> Codec:
    """A codec of a type that is bound to any schema: plain fields have their types, the others are Any."""
    with tempfile.TemporaryDirectory(prefix="streamproc-test-") as folder:
        return Codec(
            bound(Path(folder), schema, {f["name"]: _hint_for(f["type"]) for f in schema["fields"]}),
            registry,
            "t-value",
        )


def plain_fields(schema: Any) -> list[str]:
    """The fields of a schema that have columns."""
    return [f["name"] for f in schema["fields"] if _hint_for(f["type"]) is not Any]


def _hint_for(kind: Any) -> Any:
    if isinstance(kind, list):
        inner = [_hint_for(branch) for branch in kind if branch != "null"]
        return inner[0] | None if len(kind) == 2 and len(inner) == 1 and inner[0] is not Any else Any
    if isinstance(kind, dict):
        kind = "bytes" if kind["type"] == "fixed" else kind["type"]
    return HINTS.get(kind, Any)


def rows_of(codec: Codec, records: Sequence[Any], *, key: bytes | None = b"key", time: int = 1_000) -> list[Row]:
    return [(i, time + i, key, codec.encode(record), []) for i, record in enumerate(records)]


def both(
    codec: Codec,
    batches: Sequence[Any],
    *,
    columns: frozenset[str] | None = None,
    first: int = 0,
    taken: bool | None = None,
) -> Decoded:
    """Decodes by blocks (of both kinds) and by rows, and holds that they agree. ``taken`` says whether polars' way
    must, or must not, have been taken for all rows; where it must, the compiled way must, too. What polars' way gave.
    """
    row = BlockDecoder("t", codec, columns, few=BY_ROWS).decode(0, batches, first)
    assert row.block_rows == 0
    if kernels.available():
        fast = agrees(codec, batches, row, columns, first, compiled=True)
        assert not (taken and fast.row_rows)
    block = agrees(codec, batches, row, columns, first, compiled=False)
    if taken is not None:
        assert (block.block_rows, block.row_rows) == ((row.row_rows, 0) if taken else (0, row.row_rows))
    return block


def agrees(
    codec: Codec,
    batches: Sequence[Any],
    row: Decoded,
    columns: frozenset[str] | None = None,
    first: int = 0,
    *,
    compiled: bool,
) -> Decoded:
    """What one block way gives, which is what the row way gave."""
    block = BlockDecoder("t", codec, columns, few=0, compiled=compiled).decode(0, batches, first)
    assert table(block, codec, columns) == table(row, codec, columns)
    assert [(b.record, str(b.error)) for b in block.bad] == [(b.record, str(b.error)) for b in row.bad]
    assert block.tombstones == row.tombstones
    assert block.block_rows + block.row_rows == row.row_rows == sum(map(len, block.batches))
    for batch in block.batches:
        assert (batch.topic, batch.partition, batch.record) == ("t", 0, codec.record)
    return block


def table(decoded: Decoded, codec: Codec, columns: frozenset[str] | None) -> list[Any]:
    """Every row: its offset, its timestamp, its values; NaN as a word, for it equals nothing."""
    names = [f["name"] for f in codec.schema["fields"]]  # type: ignore[index,call-overload]
    wanted = [name for name in names if columns is None or name in columns]
    out: list[Any] = []
    for batch in decoded.batches:
        assert batch.offsets.dtype == batch.timestamps.dtype == "int64"
        series = [batch[name].to_list() for name in wanted]
        assert all(len(values) == len(batch) for values in series)
        for i, (offset, stamp) in enumerate(zip(batch.offsets.tolist(), batch.timestamps.tolist(), strict=True)):
            out.append((offset, stamp, *(_plain(values[i]) for values in series)))
    return out


def _plain(value: Any) -> Any:
    return (type(value).__name__, "nan" if isinstance(value, float) and math.isnan(value) else value)
