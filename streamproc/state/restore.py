"""A changelog partition's record batches back to rows: the last value of each key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.errors import StateError, UndecodableRecord
from streamproc.log.batches import Part, RawRecord, RecordBatch
from streamproc.process.state import NO_TEXTS, binary, items
from streamproc.state.head import Head, decode
from streamproc.state.rows import HEAD, ROW

_TOGETHER = 2 << 20  # bytes of bodies, about, that are read as one: what comes of it stays in the cache
_REMEDY = "to begin without this state, delete the topic, or give the app another name"
_FOREIGN = f"nobody but the worker may write to a changelog; {_REMEDY}"


class Restored(NamedTuple):
    """Rows of one task's state, each key once, as they were before ``next_offset`` of their changelog partition."""

    head: Head | None  # None: nothing was ever written
    keys: Texts  # binary
    values: Texts  # binary
    next_offset: int


Heads = list[tuple[int, bytes]]  # with their offsets


class Holder(Protocol):
    """Where rows are collected."""

    def __len__(self) -> int:
        """How many rows there are."""

    def put(self, keys: Texts, values: Texts) -> None:
        """Takes rows of before the log."""

    def take(self, parts: Sequence[Part], first_offset: int) -> Heads:
        """Takes the rows from an offset on, and gives the heads."""

    def rows(self) -> tuple[Texts, Texts]:
        """The rows that are to be in memory."""


NOTHING = Restored(None, NO_TEXTS, NO_TEXTS, 0)


class Rows:
    """Collects record batches of one changelog partition, in order. Takes memory by the rows that there are, not by
    the log's length.

    Args:
        onto: what is known already, of a snapshot; then the batches are those behind it.
        use_kernels: None: where there are any.
        into: where they are collected; None: in memory.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        onto: Restored = NOTHING,
        *,
        use_kernels: bool | None = None,
        into: Holder | None = None,
    ) -> None:
        self._where = f"{topic}[{partition}]"
        self._onto, self._head = onto, onto.head
        self._next = onto.next_offset
        use_kernels = compiled.available() if use_kernels is None else use_kernels
        if into is None:
            into = _Compiled() if use_kernels else _Plain()
        self._store: Holder = into
        self._untouched = True  # the store has nothing yet: all that there is, is ``onto``

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._onto.keys) if self._untouched else len(self._store)

    def add(self, parts: Sequence[Part]) -> None:
        """Record batches, or records of formats before v2. Those before ``onto.next_offset`` are left out.

        Raises:
            StateError: one is damaged, or has something else than rows and heads. No use going on.
        """
        if self._untouched and parts:
            self._untouched = False
            if len(self._onto.keys):
                self._store.put(self._onto.keys, self._onto.values)
            self._onto = NOTHING
        for batches in _grouped(parts):
            try:
                heads = self._store.take(batches, self._next)
                for offset, data in heads:
                    self._head = self._decoded(offset, data)
            except _Foreign as error:
                raise StateError(f"{self._where} offset {error.offset}: {error}; {_FOREIGN}") from None
            except UndecodableRecord as error:
                raise StateError(f"{self._where}: {error}; {_REMEDY}") from None

    def restored(self, next_offset: int) -> Restored:
        """All rows, when all records before ``next_offset`` have been added.

        Raises:
            StateError: there are rows, but no head.
        """
        if self._untouched:
            return self._onto._replace(next_offset=next_offset)
        if self._head is None:
            raise StateError(f"{self._where}: records, but no head of a state among them; {_FOREIGN}")
        return Restored(self._head, *self._store.rows(), next_offset)

    def _decoded(self, offset: int, data: bytes) -> Head:
        try:
            return decode(data)
        except StateError as error:
            raise StateError(f"{self._where} offset {offset}: {error}; {_REMEDY}") from None


class _Foreign(Exception):
    """A record that is neither a row nor a head."""

    def __init__(self, offset: int, key: bytes | None) -> None:
        self.offset = offset
        if key is None:
            said = "a record without a key"
        elif key == HEAD:
            said = "a head without a value"
        else:
            said = f"a record with the key {key[:64]!r}"
        super().__init__(f"{said}; expected a row of a state, whose key begins with {ROW!r}, or its head")


def _grouped(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """Parts that are read together."""
    start = size = 0
    for i, part in enumerate(parts):
        size += part.size if isinstance(part, RecordBatch) else 64 * len(part)
        if size >= _TOGETHER:
            yield parts[start : i + 1]
            start, size = i + 1, 0
    if start < len(parts):
        yield parts[start:]


def sorted_records(records: Iterable[RawRecord], first_offset: int) -> tuple[Heads, list[bytes], list[bytes | None]]:
    """Heads, and the keys and values of rows. Raises what :meth:`Rows.add` tells of."""
    heads, keys, values = Heads(), list[bytes](), list[bytes | None]()
    for record in records:
        key, value = record.key, record.value
        if record.offset < first_offset:
            continue
        if key == HEAD and value is not None:
            heads.append((record.offset, value))
        elif key and key[:1] == ROW:
            keys.append(key[1:])
            values.append(value)
        else:
            raise _Foreign(record.offset, key)
    return heads, keys, values


class _Plain:
    """Rows in a dict."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, keys: Texts, values: Texts) -> None:
        self._rows.update(zip(items(keys), items(values), strict=True))

    def take(self, parts: Sequence[Part], first_offset: int) -> Heads:
        """Takes the rows, and gives the heads."""
        found = Heads()
        for part in parts:
            records = part.records() if isinstance(part, RecordBatch) else part
            heads, keys, values = sorted_records(records, first_offset)
            found += heads
            for key, value in zip(keys, values, strict=True):
                if value is None:
                    self._rows.pop(key, None)
                else:
                    self._rows[key] = value
        return found

    def rows(self) -> tuple[Texts, Texts]:
        return binary(list(self._rows)), binary(list(self._rows.values()))


class _Compiled:
    """Rows in a table of kernels."""

    def __init__(self) -> None:
        from streamproc.compiled import records, rows  # now, not with the first batch: they may have to be compiled

        self._walk, self._body, self._find = records.walk, records.Body, rows.find_keys
        self._table = rows.RowTable()

    def __len__(self) -> int:
        return len(self._table)

    def put(self, keys: Texts, values: Texts) -> None:
        self._table.put(keys.data, keys.starts, keys.sizes, values.data, values.starts, values.sizes)

    def take(self, parts: Sequence[Part], first_offset: int) -> Heads:
        heads = Heads()
        batches, bodies, size = list[RecordBatch](), list[bytes | memoryview](), 0
        for part in parts:
            if isinstance(part, RecordBatch):
                batches.append(part)
                bodies.append(part.body())
                size += len(bodies[-1])
            if size >= _TOGETHER or not isinstance(part, RecordBatch):
                heads += self._take_bodies(batches, bodies, first_offset)
                batches, bodies, size = [], [], 0
            if not isinstance(part, RecordBatch):
                some, keys, values = sorted_records(part, first_offset)
                heads += some
                self.put(binary(keys), _nullable(values))
        return heads + self._take_bodies(batches, bodies, first_offset)

    def _take_bodies(
        self, batches: Sequence[RecordBatch], bodies: Sequence[bytes | memoryview], first_offset: int
    ) -> Heads:
        joined = b"".join(bodies)
        ends = np.cumsum([len(body) for body in bodies], dtype=np.int64).tolist()
        places = [self._place(*of) for of in zip(batches, bodies, ends, strict=True)]
        data = np.frombuffer(joined, np.uint8)
        found = self._walk(data, places, first_offset)
        if len(found.faulty):
            for _ in batches[int(found.faulty[0])].records():
                pass  # raises UndecodableRecord, with what is wrong
        keys = self._find(data, found)
        if keys.foreign >= 0:
            offset = int(found.offsets[keys.foreign])
            raise _Foreign(offset, _key_of(batches, offset))
        rows = keys.rows
        self._table.put(data, keys.starts, keys.sizes, data, found.values[rows], found.sizes[rows])
        places_of_heads = (column[keys.heads].tolist() for column in (found.offsets, found.values, found.sizes))
        return [(offset, joined[at : at + size]) for offset, at, size in zip(*places_of_heads, strict=True)]

    def _place(self, batch: RecordBatch, body: bytes | memoryview, end: int) -> Any:
        append = batch.append_time
        time = batch.first_timestamp if append is None else append
        deltas = batch.base_offset, batch.last_offset_delta, time, append is not None
        return self._body(end - len(body), end, batch.count, *deltas)

    def rows(self) -> tuple[Texts, Texts]:
        keys, key_starts, key_sizes, values, starts, sizes = self._table.rows()
        return Texts(keys, key_starts, key_sizes, binary=True), Texts(values, starts, sizes, binary=True)


def _nullable(values: Sequence[bytes | None]) -> Texts:
    texts = binary([value or b"" for value in values])
    texts.sizes[[value is None for value in values]] = -1
    return texts


def _key_of(batches: Sequence[RecordBatch], offset: int) -> bytes | None:
    return next(record.key for batch in batches for record in batch.records() if record.offset == offset)
