"""What the tests of kept state share."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import pytest

from streamproc import compiled
from streamproc.log.batch_builder import Body, build
from streamproc.log.batches import RecordBatch
from streamproc.process.state import Changes, binary, items
from streamproc.state.head import FORMAT, Head
from streamproc.state.restore import Restored
from tests.log.wire import parsed

#: With kernels, where there are any, and without.
WAYS = [
    pytest.param(True, id="kernels", marks=pytest.mark.skipif(not compiled.available(), reason="no kernels")),
    pytest.param(False, id="python"),
]


def head(position: int = 0, version: str = "v1") -> Head:
    return Head(FORMAT, version, {"events": position}, {"time": position * 10, "closed": None}, {"sent": [1, b"x"]})


def changes(put: Mapping[bytes, bytes], gone: Sequence[bytes] = ()) -> Changes:
    return Changes(binary(list(put)), binary(list(put.values())), binary(gone))


def batch(body: Body, base: int = 0, codec: str = "none") -> RecordBatch:
    """The record batch that a broker would have of a body."""
    return parsed(struct.pack(">q", base) + build(body, codec=codec)[8:])


def batches(bodies: Iterable[Body], base: int = 0, codec: str = "none") -> list[RecordBatch]:
    found = []
    for body in bodies:
        found.append(batch(body, base, codec))
        base = found[-1].next_offset
    return found


def rows(restored: Restored) -> dict[bytes, bytes]:
    keys = items(restored.keys)
    assert len(set(keys)) == len(keys), "a key is there twice"
    return dict(zip(keys, items(restored.values), strict=True))
