"""Changed rows of a task's tables as records of their change streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from streamproc.define.changes import ChangeStream
from streamproc.process.state import Changes, items
from streamproc.record import Record

_encode = msgspec.msgpack.Encoder().encode


class _Entry(msgspec.Struct, array_like=True):
    """A row's value in a changelog: see :mod:`streamproc.process.tables`."""

    number: int
    value: msgspec.Raw
    written: int | None = None


_entry = msgspec.msgpack.Decoder(_Entry).decode


class Told(NamedTuple):
    """Records for one channel, in order: rows that were put, then those that are gone. No key comes twice."""

    stream: ChangeStream
    records: list[Record]


class TableChanges:
    """Tells the changes of one stage's tables.

    Args:
        streams: of those that have any.
        partition: of the stage's source.
    """

    def __init__(self, streams: Iterable[ChangeStream], stage: str, partition: int) -> None:
        self._tellers = [_Teller(stream, stage, partition) for stream in streams]

    def __bool__(self) -> bool:
        return bool(self._tellers)

    def records(self, changes: Changes, time: int | None, now: int) -> list[Told]:
        """What is to be told of changes that a task has given.

        Args:
            time: the highest event time that the task has seen: ``time`` in its header.
            now: the clock, in milliseconds since the epoch.
        """
        if not self._tellers:
            return []
        put = list(zip(items(changes.keys), items(changes.values), strict=True))
        gone = items(changes.gone)
        told = [Told(teller.stream, teller.records(put, gone, time, now)) for teller in self._tellers]
        return [each for each in told if each.records]


class _Teller:
    """Of one table."""

    def __init__(self, stream: ChangeStream, stage: str, partition: int) -> None:
        self.stream, table = stream, stream.table
        self._prefix = b"\x92" + _encode(table.name)
        self._timed = table.ttl is not None
        self._key: Callable[[bytes], Any] = msgspec.msgpack.Decoder(table.key.type).decode
        self._value = table.value.decode
        beside = {"stage": stage, "partition": partition}
        self._beside = {name: value for name, value in beside.items() if name in stream.fields}

    def records(self, put: list[tuple[bytes, bytes]], gone: list[bytes], time: int | None, now: int) -> list[Record]:
        record, prefix, beside = self.stream.channel.record, self._prefix, self._beside
        found = []
        for key, value in put:
            if key.startswith(prefix):
                entry = _entry(value)
                written = entry.written if self._timed and entry.written is not None else now
                row = self._key(key[len(prefix) :])
                found.append(record(key=row, value=self._value(entry.value), written=written, **beside))
        over = time if self._timed and time is not None else now
        rows = (self._key(key[len(prefix) :]) for key in gone if key.startswith(prefix))
        return found + [record(key=row, value=None, written=over, **beside) for row in rows]
