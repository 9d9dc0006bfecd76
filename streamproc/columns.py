"""Columns: named values of one length, each kept as it came and made a polars Series when one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Longs = NDArray[np.int64]
#: Indices, which increase; or a range of them.
Rows = Longs | slice
#: In place of a stream time where there is none.
NO_TIME = int(np.iinfo(np.int64).min)
_FEW = 64  # strings that are made one by one; to gather them takes some 60 us, however few they are


class Texts:
    """Strings as places in a buffer.

    Args:
        data: uint8[m], where they lie. Every string is valid UTF-8.
        starts: int64[n].
        sizes: int64[n], in bytes; -1 for null.
        binary: whether they are byte strings instead, of any content.
    """

    __slots__ = ("binary", "data", "sizes", "starts")

    def __init__(self, data: NDArray[np.uint8], starts: Longs, sizes: Longs, *, binary: bool = False) -> None:
        self.data, self.starts, self.sizes, self.binary = data, starts, sizes, binary

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        """A few strings. Raises UnicodeEncodeError for one that is no valid Unicode."""
        encoded = [value.encode() for value in values]
        sizes = np.array([len(value) for value in encoded], np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), sizes.cumsum() - sizes, sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Rows) -> Texts:
        return Texts(self.data, self.starts[rows], self.sizes[rows], binary=self.binary)

    def values(self) -> list[Any]:
        """As strings or bytes, with None for null."""
        if len(self) > _FEW:
            return self.series().to_list()
        data = self.data.data
        found: list[Any] = []
        for start, size in zip(self.starts.tolist(), self.sizes.tolist(), strict=True):
            value = None if size < 0 else bytes(data[start : start + size])
            found.append(value if value is None or self.binary else value.decode())
        return found

    def series(self) -> pl.Series:
        """As a Series of String or Binary."""
        if len(self) <= _FEW:
            return pl.Series(self.values(), dtype=pl.Binary if self.binary else pl.String)
        import nanoarrow as arrow  # comes with the kernels, as Texts do

        from streamproc.compiled.texts import gather

        data, ends = gather(self.data, self.starts, self.sizes)
        there = self.sizes >= 0
        valid = None if there.all() else np.packbits(there, bitorder="little")
        kind = arrow.large_binary() if self.binary else arrow.large_string()
        return pl.Series(arrow.c_array_from_buffers(kind, len(self), [valid, ends, data]))


Column = pl.Series | NDArray[Any] | Texts


def values_in(column: Column) -> list[Any]:
    """A column as Python values."""
    if isinstance(column, Texts):
        return column.values()
    return column.tolist() if isinstance(column, np.ndarray) else column.to_list()


class Columns:
    """Named columns of ``length`` rows.

    ``columns[name]`` is a column as it lies, :meth:`series` a Series of it; what was made once is kept.
    """

    __slots__ = ("_columns", "_frame", "_length", "_series")

    def __init__(self, columns: Mapping[str, Column], length: int) -> None:
        self._columns = dict(columns)
        self._length = length
        self._series: dict[str, pl.Series] = {}
        self._frame: pl.DataFrame | None = None

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Columns:
        """A frame's columns."""
        columns = cls(dict(zip(frame.columns, frame.get_columns(), strict=True)), len(frame))
        columns._frame = frame
        return columns

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        try:
            return self._columns[name]
        except KeyError:
            raise pl.exceptions.ColumnNotFoundError(
                f"no column {name!r}; the columns are {', '.join(self._columns)}"
            ) from None

    def series(self, name: str) -> pl.Series:
        """A column as a Series of that name."""
        found = self._series.get(name)
        if found is None:
            column = self[name]
            made = column.series() if isinstance(column, Texts) else pl.Series(column)
            found = self._series[name] = made.rename(name)
        return found

    def values(self, name: str) -> list[Any]:
        """A column as Python values."""
        return values_in(self[name])

    def frame(self) -> pl.DataFrame:
        """All columns as a frame."""
        if self._frame is None:
            self._frame = pl.DataFrame([self.series(name) for name in self._columns])
        return self._frame

    def take(self, rows: Rows) -> Columns:
        """The rows of these indices, or of a range."""
        length = len(range(*rows.indices(self._length))) if isinstance(rows, slice) else len(rows)
        return Columns({name: column[rows] for name, column in self._columns.items()}, length)


class Causes(NamedTuple):
    """Which events results come from, result by result. (offset, number) increases strictly: it is a result's id among
    all of its stage and source partition.
    """

    offsets: Longs  # of the event in the stage's source
    numbers: Longs  # of the result among that event's, from 0 on
    times: Longs | None = None  # ms: the source partition's stream time with that event, where it is told

    def take(self, rows: Rows) -> Causes:
        """Of some results."""
        return Causes(self.offsets[rows], self.numbers[rows], None if self.times is None else self.times[rows])

    def origins(self, stage: str, partition: int) -> Origins:
        """As whoever reads the results finds them. ``stage`` gave them, of this partition of its source."""
        n = len(self.offsets)
        times = np.full(n, NO_TIME) if self.times is None else self.times
        return Origins((stage,), np.zeros(n, np.int64), np.full(n, partition), self.offsets, self.numbers, times)


class Origins(NamedTuple):
    """Where rows come from that are results of a stage: :class:`Causes`, as they are read. Row by row."""

    stages: tuple[str, ...]  # names, each with what else tells it from all others
    stage: Longs  # an index into ``stages``; -1: it is not known where the row comes from
    partition: Longs  # of the stage's source
    offset: Longs
    number: Longs
    time: Longs  # NO_TIME: none

    def take(self, rows: Rows) -> Origins:
        """Of some rows."""
        return Origins(self.stages, *(column[rows] for column in self[1:]))
