"""Changed rows to record bodies of a changelog.

A row's record has the key ``01`` + its own key, and a null value where the row is no more. The last record is the head,
whose key is ``00``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.errors import OversizedRecord
from streamproc.log.batch_builder import BATCH_OVERHEAD, LIMIT, Body, packed, record_size
from streamproc.log.ports import DEFAULT_MESSAGE_LIMIT
from streamproc.process.state import Changes, binary, items
from streamproc.state.head import Head, encode

ROW: Final = b"\x01"  # what the key of a row's record begins with
HEAD: Final = b"\x00"  # the key of the head's record
_FEW = 8  # rows: up to here Python is as fast as to ask the kernel
_SHOWN = 64  # bytes of a key in a message


def bodies(
    changes: Changes,
    head: Head,
    timestamp: int,
    limit: int = LIMIT,
    *,
    topic: str,
    most: int = DEFAULT_MESSAGE_LIMIT,
    use_kernels: bool | None = None,
) -> Iterator[Body]:
    """Record bodies of rows that were put, then of those that are gone, then of the head. Checks all rows at once;
    writes when it is iterated.

    Args:
        timestamp: of every record, in milliseconds since the epoch.
        limit: bytes of a body, uncompressed; one record may be more.
        topic: the changelog's name, for messages.
        most: bytes of a record batch that the topic takes.
        use_kernels: None: where there are any.

    Raises:
        OversizedRecord: a row's record is larger than the topic takes.
    """
    keys, values, gone = changes
    if len(keys) != len(values):
        raise ValueError(f"{len(keys)} keys and {len(values)} values")
    if any(len(texts) and texts.sizes.min() < 0 for texts in changes):
        raise ValueError("a row has a key and a value; one of them is null")
    encoded = encode(head)
    _check(keys, keys.sizes + values.sizes, topic, most)
    _check(gone, gone.sizes, topic, most)
    if (size := record_size(HEAD, encoded)) > most:
        raise OversizedRecord(topic, size, most, "of a state's head")
    limit = min(limit, most - BATCH_OVERHEAD)
    if use_kernels is None:
        use_kernels = compiled.available() and len(keys) + len(gone) > _FEW
    return (_compiled if use_kernels else _packed)(changes, encoded, timestamp, limit)


def _check(keys: Texts, sizes: np.ndarray[tuple[int], np.dtype[np.int64]], topic: str, most: int) -> None:
    if not len(sizes):
        return
    row = int(sizes.argmax())
    if (size := record_size(ROW, b"") + int(sizes[row])) > most:
        (key,) = items(keys[row : row + 1])
        shown = f"{key[:_SHOWN]!r}{'…' if len(key) > _SHOWN else ''}"
        raise OversizedRecord(topic, size, most, f"of a state's row with the key {shown}")


def _packed(changes: Changes, head: bytes, timestamp: int, limit: int) -> Iterator[Body]:
    keys = [ROW + key for key in items(changes.keys) + items(changes.gone)]
    values: list[bytes | None] = [*items(changes.values), *[None] * len(changes.gone)]
    return packed([timestamp] * (len(keys) + 1), [*keys, HEAD], [*values, head], limit)


def _compiled(changes: Changes, head: bytes, timestamp: int, limit: int) -> Iterator[Body]:
    from streamproc.compiled.rows import Writer

    writer = Writer(limit)
    nothing = np.full(len(changes.gone), -1, np.int64)
    for first, keys, values in (
        (ROW, changes.keys, changes.values),
        (ROW, changes.gone, Texts(changes.gone.data, changes.gone.starts, nothing, binary=True)),
        (HEAD, binary([b""]), binary([head])),
    ):
        places = (keys.data, keys.starts, keys.sizes, values.data, values.starts, values.sizes)
        for data, count in writer.write(first[0], *places):
            yield Body(data, count, timestamp, timestamp)
    data, count = writer.end()
    yield Body(data, count, timestamp, timestamp)
