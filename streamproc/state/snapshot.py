"""Snapshots: the rows of one task's state in a file, so that only what its changelog got later has to be read.

A file holds a magic word, its format, the length of what is said about the rows (msgpack), that, the sizes of keys and
of values, the keys, the values, and a digest over all of it. Numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.errors import StateError
from streamproc.process.state import items
from streamproc.state.head import decode, encode
from streamproc.state.restore import Restored

FORMAT = 1
_MAGIC = b"SPSTATE\n"
_START = struct.Struct("<8sII")  # magic, format, length of what is said
_DIGEST = 16  # bytes
_LEFT_OVER = 600.0  # seconds after which a file that was not finished never will be
_log = logging.getLogger("streamproc.worker")


class Place(NamedTuple):
    """The changelog partition that a snapshot stands for. ``topic_id`` is Kafka's own: a topic that is made anew under
    the same name gets another one.
    """

    topic: str
    topic_id: str
    partition: int

    def path(self, folder: Path) -> Path:
        return folder / f"{self.topic}-{self.partition}.state"


class _Said(msgspec.Struct):
    topic: str
    topic_id: str
    partition: int
    taken: int
    next_offset: int
    rows: int
    key_bytes: int
    value_bytes: int
    head: bytes


class _Unfit(Exception):
    """Why a file is not used."""


def write(folder: Path, place: Place, state: Restored, taken: int) -> bool:
    """Puts a snapshot in the place of the last one, at once or not at all. A folder that cannot be written to costs a
    warning.

    Args:
        state: rows that the changelog has, committed, before ``state.next_offset``.
        taken: the time, in milliseconds since the epoch.
    """
    path = place.path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder, path.name)
        _replace(path, _pieces(place, state, taken))
    except OSError as error:
        _log.warning("no snapshot of %s[%d]: %s", place.topic, place.partition, error)
        return False
    return True


def read(folder: Path, place: Place, version: str, not_before: int = 0) -> Restored | None:
    """The snapshot of a changelog partition; None, with a warning, where it is damaged or does not fit.

    Args:
        version: what the rows must mean: the head's version.
        not_before: milliseconds since the epoch. One taken earlier is not used: the changelog may have forgotten that
            rows are gone since (see :data:`streamproc.state.topics.TOMBSTONES`).
    """
    path = place.path(folder)
    try:
        return _parsed(path.read_bytes(), place, version, not_before)
    except FileNotFoundError:
        return None
    except (OSError, _Unfit) as error:
        _log.warning("the snapshot %s is not used, and the changelog is read instead: %s", path, error)
        return None


def _pieces(place: Place, state: Restored, taken: int) -> Iterator[bytes | memoryview]:
    assert state.head is not None, "nothing to keep"
    keys, values = _gathered(state.keys), _gathered(state.values)
    rows = len(state.keys)
    said = _Said(*place, taken, state.next_offset, rows, len(keys), len(values), encode(state.head))
    about = msgspec.msgpack.encode(said)
    yield _START.pack(_MAGIC, FORMAT, len(about)) + about
    for texts in (state.keys, state.values):
        yield texts.sizes.astype("<i4").data
    yield keys
    yield values


def _gathered(texts: Texts) -> memoryview:
    if not compiled.available():
        return memoryview(b"".join(items(texts)))
    from streamproc.compiled.texts import gather

    starts, sizes = np.ascontiguousarray(texts.starts), np.ascontiguousarray(texts.sizes)
    return gather(texts.data, starts, sizes)[0].data


def _replace(path: Path, pieces: Iterator[bytes | memoryview]) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            digest = _digest()
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # else the name may be the old file's after a power cut
    finally:
        os.close(descriptor)


def _clear(folder: Path, name: str) -> None:
    """Removes what a worker that was killed has left."""
    for path in folder.glob(f"{name}.*.tmp"):
        if path.stat().st_mtime < time.time() - _LEFT_OVER:
            path.unlink(missing_ok=True)


def _digest() -> Any:
    return hashlib.blake2b(digest_size=_DIGEST)


def _parsed(data: bytes, place: Place, version: str, not_before: int) -> Restored:
    if len(data) < _START.size + _DIGEST:
        raise _Unfit(f"{len(data)} bytes are no snapshot")
    magic, number, length = _START.unpack_from(data)
    if magic != _MAGIC:
        raise _Unfit("not a snapshot")
    if number != FORMAT:
        raise _Unfit(f"it is of format {number}; expected {FORMAT}")
    body = memoryview(data)[:-_DIGEST]
    digest = _digest()
    digest.update(body)
    if digest.digest() != data[-_DIGEST:]:
        raise _Unfit("it is damaged: its digest is wrong")
    try:
        said = msgspec.msgpack.decode(body[_START.size : _START.size + length], type=_Said)
        head = decode(said.head)
    except (msgspec.MsgspecError, StateError) as error:
        raise _Unfit(str(error)) from None
    if (said.topic, said.topic_id, said.partition) != place:
        raise _Unfit(f"it is of {said.topic}[{said.partition}] with the id {said.topic_id}; expected {place.topic_id}")
    if head.version != version:
        raise _Unfit(f"its rows are of version {head.version!r}; expected {version!r}")
    if said.taken < not_before:
        raise _Unfit("it is too old: the changelog may have forgotten which rows are gone since")
    if len(body) != _START.size + length + 8 * said.rows + said.key_bytes + said.value_bytes:
        raise _Unfit("its length is wrong")
    return _rows(data, _START.size + length, said, head)


def _rows(data: bytes, at: int, said: _Said, head: Any) -> Restored:
    columns = []
    begin = at + 8 * said.rows
    for i, size in enumerate((said.key_bytes, said.value_bytes)):
        sizes = np.frombuffer(data, "<i4", said.rows, at + 4 * said.rows * i).astype(np.int64)
        if sizes.sum() != size or (said.rows and sizes.min() < 0):
            raise _Unfit("its rows are not as long as it says")
        columns.append(Texts(np.frombuffer(data, np.uint8, size, begin), sizes.cumsum() - sizes, sizes, binary=True))
        begin += size
    return Restored(head, columns[0], columns[1], said.next_offset)
