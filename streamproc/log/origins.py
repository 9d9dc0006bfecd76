"""Ids of results: a header that says which event a result comes from, so that one that was sent twice can be told.

Header ``streamproc-origin``; its value, little-endian: uint8 version (1), int32 partition and int64 offset of the event
in the stage's source, int32 number of the result among that event's, int64 stream time of that partition (the least
number: none), the stage in UTF-8. In a *beat*, a record with neither key nor value, offset and number are -1: it tells
the stream time alone.

Whatever else lies under that name is no id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamproc.columns import NO_TIME, Causes, Longs, Origins, Rows
from streamproc.log.batch_builder import packed_headers
from streamproc.log.ports import Headers

NAME: Final = "streamproc-origin"
VERSION: Final = 1
LONGEST: Final = 600  # bytes of a stage
_FIXED = struct.Struct("<Biqiq")
_OFFSET_AT = 5
_FEW = 8  # rows that are packed one by one
_ROWS = np.dtype([("version", "u1"), ("partition", "<i4"), ("offset", "<i8"), ("number", "<i4"), ("time", "<i8")])


class Origin(NamedTuple):
    """Where one record comes from."""

    stage: str
    partition: int
    offset: int
    number: int
    time: int

    @property
    def is_beat(self) -> bool:
        return self.offset < 0


def origin_of(headers: Headers, *, empty: bool) -> Origin | None:
    """What a record's first header of that name says; None where there is none, or it is no id. ``empty`` says whether
    the record has neither key nor value.
    """
    value = next((value for name, value in headers if name == NAME), None)
    if value is None or not _FIXED.size < len(value) <= _FIXED.size + LONGEST or value[0] != VERSION:
        return None
    _, partition, offset, number, time = _FIXED.unpack_from(value)
    beat = empty and offset == number == -1
    if partition < 0 or ((offset < 0 or number < 0) and not beat):
        return None
    try:
        stage = value[_FIXED.size :].decode()
    except UnicodeDecodeError:
        return None
    return Origin(stage, partition, offset, number, time)


def origins_of(found: Sequence[Origin | None]) -> Origins | None:
    """Row by row as columns; None where no row has an origin."""
    stages = tuple(dict.fromkeys(origin.stage for origin in found if origin is not None))
    if not stages:
        return None
    numbers = {stage: number for number, stage in enumerate(stages)}
    rows = [(-1, -1, -1, -1, NO_TIME) if o is None else (numbers[o.stage], *o[1:]) for o in found]
    return Origins(stages, *np.array(rows, np.int64).T.copy())


class OriginHeaders(NamedTuple):
    """The headers of results."""

    stage: str
    partition: int
    causes: Causes

    def take(self, rows: Rows) -> OriginHeaders:
        return self._replace(causes=self.causes.take(rows))

    def values(self) -> Iterator[bytes]:
        """The headers' values, row by row."""
        stage, size, causes = self.stage.encode(), _FIXED.size, self.causes
        if len(causes.offsets) <= _FEW:
            times = [NO_TIME] * _FEW if causes.times is None else causes.times.tolist()
            few = zip(causes.offsets.tolist(), causes.numbers.tolist(), times, strict=False)
            return (_FIXED.pack(VERSION, self.partition, *row) + stage for row in few)
        rows = self._rows().tobytes()
        return (rows[at : at + size] + stage for at in range(0, len(rows), size))

    def headers(self) -> Iterator[Headers]:
        """The same, with their name."""
        return (((NAME, value),) for value in self.values())

    def tail(self) -> tuple[bytes, int, Longs]:
        """What follows each record's value, the same in all but what differs; where in it that begins; and that:
        int64[3, n] of offset, number and time.
        """
        value = _FIXED.pack(VERSION, self.partition, 0, 0, 0) + self.stage.encode()
        tail = packed_headers(((NAME, value),))
        offsets, numbers, times = self.causes
        ids = np.empty((3, len(offsets)), np.int64)
        ids[0], ids[1], ids[2] = offsets, numbers, NO_TIME if times is None else times
        return tail, len(tail) - len(value) + _OFFSET_AT, ids

    def _rows(self) -> NDArray[Any]:
        rows = np.empty(len(self.causes.offsets), _ROWS)
        rows["version"], rows["partition"] = VERSION, self.partition
        rows["offset"], rows["number"] = self.causes.offsets, self.causes.numbers
        rows["time"] = NO_TIME if self.causes.times is None else self.causes.times
        return rows


def beat_headers(stage: str, partition: int, time: int) -> Headers:
    """The headers of a beat: how far a partition of a stage's source is, in stream time."""
    return ((NAME, _FIXED.pack(VERSION, partition, -1, -1, time) + stage.encode()),)
