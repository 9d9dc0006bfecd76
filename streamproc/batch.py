"""Batches: events of one partition as columns, or as records, whichever is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Columns, Longs, Origins, Rows, Texts
from streamproc.errors import InvalidRecord
from streamproc.record import Record

_FEW = 32  # rows, below which it takes most of the time of making a Series to begin one


class Batch:
    """Consecutive events of one partition, in offset order.

    Made of columns (a column per field, or a polars frame of them) or of records; the other form is made when it is
    first asked for. Inside an agent it behaves like its columns: ``batch["s1"]`` is a polars Series,
    ``batch.where(batch["s1"] > 90)`` a smaller batch.

    Args:
        topic: the topic's name.
        partition: the partition's number.
        record: the type of its rows.
        offsets: int64[n], increasing.
        timestamps: int64[n], milliseconds since the epoch: when each event was taken in.
        whole: gives the same rows with every column, where ``columns`` has only those that were needed.
        origins: where rows come from that are other stages' results; None where none of them says so.
    """

    __slots__ = ("_columns", "_records", "_whole", "offsets", "origins", "partition", "record", "timestamps", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        record: type[Record],
        offsets: Longs,
        timestamps: Longs,
        *,
        columns: Columns | None = None,
        frame: pl.DataFrame | None = None,
        records: Sequence[Record] | None = None,
        whole: Callable[[], Batch] | None = None,
        origins: Origins | None = None,
    ) -> None:
        self.topic, self.partition, self.record = topic, partition, record
        self.offsets, self.timestamps, self.origins = offsets, timestamps, origins
        self._columns = Columns.of(frame) if frame is not None else columns
        self._records, self._whole = records, whole

    @classmethod
    def of(
        cls, topic: str, partition: int, records: Sequence[Record], *, first_offset: int = 0, timestamp: int = 0
    ) -> Batch:
        """A batch of records with consecutive offsets and one timestamp."""
        n = len(records)
        record = type(records[0]) if records else Record
        offsets = np.arange(first_offset, first_offset + n, dtype=np.int64)
        return cls(topic, partition, record, offsets, np.full(n, timestamp, np.int64), records=records)

    def __len__(self) -> int:
        return len(self.offsets)

    def held(self) -> Columns:
        """The columns as they lie. Instants are int64, milliseconds since the epoch."""
        if self._columns is None:
            self._columns = Columns.of(frame_of(self._records or (), self.record))
        return self._columns

    @property
    def frame(self) -> pl.DataFrame:
        """The columns as a frame."""
        return self.held().frame()

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self.held())

    def records(self) -> Sequence[Record]:
        """The rows, as records of the batch's type. Raises InvalidRecord where the columns are not that type's."""
        if self._records is None:
            self._records = self._whole().records() if self._whole else records_of(self.held(), self.record)
        return self._records

    def column(self, name: str) -> Column:
        """One column as it lies. Of a batch of records only this one is made."""
        if self._columns is not None or self._records is None:
            return self.held()[name]
        values, kind = self._field(name)
        few = _few(values, kind) if len(values) <= _FEW else None
        return few if few is not None else pl.Series(name, values, dtype=kind)

    def _field(self, name: str) -> tuple[list[Any], Any]:
        """Of a batch of records: a field's values and their polars type."""
        assert self._records is not None
        types = column_types(self.record)
        if name not in types:
            raise pl.exceptions.ColumnNotFoundError(
                f"{self.record.__name__} has no field {name!r}; it has {', '.join(types)}"
            )
        return [getattr(record, name) for record in self._records], types[name]

    def __getitem__(self, column: str) -> pl.Series:
        """One column as a Series."""
        if self._columns is not None or self._records is None:
            return self.held().series(column)
        values, kind = self._field(column)
        return pl.Series(column, values, dtype=kind)

    def where(self, mask: pl.Series | pl.Expr | NDArray[np.bool_]) -> Batch:
        """The rows where ``mask`` is true (null counts as false)."""
        keep = self.frame.select(mask).to_series() if isinstance(mask, pl.Expr) else pl.Series(mask)
        if len(keep) != len(self) or keep.dtype != pl.Boolean:
            raise InvalidRecord(f"where: expected a boolean per row ({len(self)}); got {len(keep)} of {keep.dtype}")
        if keep.null_count():
            keep = keep.fill_null(False)
        return self.take(np.flatnonzero(keep.to_numpy()))

    def take(self, rows: Rows) -> Batch:
        """The rows of these indices, which must increase, or of a range."""
        columns = None if self._columns is None else self._columns.take(rows)
        records = self._records
        if records is not None:
            records = records[rows] if isinstance(rows, slice) else [records[i] for i in rows.tolist()]
        load = self._whole
        whole = None if load is None else lambda: load().take(rows)
        at, stamps = self.offsets[rows], self.timestamps[rows]
        origins = None if self.origins is None else self.origins.take(rows)
        place = (self.topic, self.partition, self.record, at, stamps)
        return Batch(*place, columns=columns, records=records, whole=whole, origins=origins)

    def slice(self, start: int, stop: int) -> Batch:
        """Rows ``start`` to ``stop``."""
        return self.take(slice(start, stop))

    def select(self, *exprs: Any, **named: Any) -> Batch:
        """These columns in place of the present ones; polars' ``select``."""
        return self._with(self.frame.select(*exprs, **named))

    def with_columns(self, *exprs: Any, **named: Any) -> Batch:
        """These columns beside the present ones; polars' ``with_columns``."""
        return self._with(self.frame.with_columns(*exprs, **named))

    def _with(self, frame: pl.DataFrame) -> Batch:
        if len(frame) != len(self):
            raise InvalidRecord(f"a batch of {len(self)} rows cannot take {len(frame)}: each row belongs to an event")
        place = (self.topic, self.partition, self.record, self.offsets, self.timestamps)
        return Batch(*place, frame=frame, origins=self.origins)

    def lend(self, whole: Callable[[], Batch]) -> None:
        """Gives the batch a way to its other columns; see ``whole`` above."""
        self._whole = whole

    def as_type(self, record: type[Record]) -> Batch:
        """The same rows as records of another type, by column name."""
        if record is self.record:
            return self
        place = (self.topic, self.partition, record, self.offsets, self.timestamps)
        return Batch(*place, columns=self.held(), origins=self.origins)

    def __repr__(self) -> str:
        where = f"{self.offsets[0]}..{self.offsets[-1]}" if len(self) else "empty"
        return f"Batch({self.topic}[{self.partition}] {where}, {len(self)} x {self.record.__name__})"


@cache
def column_types(record: type[Record]) -> dict[str, Any]:
    """The polars type of each field that has one; the others become Object columns."""
    plain = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean, bytes: pl.Binary}
    types: dict[str, Any] = {}
    for field in msgspec.structs.fields(record):
        union = get_origin(field.type) in (Union, UnionType)
        options = [kind for kind in (get_args(field.type) if union else (field.type,)) if kind is not type(None)]
        types[field.encode_name] = plain.get(options[0], pl.Object) if len(options) == 1 else pl.Object
    return types


def _few(values: list[Any], kind: Any) -> Column | None:
    """A few values as a column that is made sooner than a Series, where all are of one plain type."""
    (found,) = types if len(types := set(map(type, values))) == 1 else (None,)
    if kind == pl.Int64 and found is int:
        return np.array(values, np.int64)
    if kind == pl.Float64 and found is float:
        return np.array(values, np.float64)
    return Texts.of(values) if kind == pl.String and found is str else None


def frame_of(records: Sequence[Record], record: type[Record]) -> pl.DataFrame:
    """Records as columns."""
    names = record.__struct_encode_fields__
    rows = [msgspec.structs.astuple(r) for r in records]
    columns: Iterator[tuple[Any, ...]] = zip(*rows, strict=True) if rows else iter([()] * len(names))
    types = column_types(record)
    return pl.DataFrame(
        {n: pl.Series(n, list(c), dtype=types[n], strict=True) for n, c in zip(names, columns, strict=True)}
    )


def records_of(columns: Columns, record: type[Record]) -> list[Record]:
    """Columns as records; they must be the record's fields."""
    names = record.__struct_encode_fields__
    if missing := sorted(set(names).difference(columns)):
        raise InvalidRecord(f"{record.__name__}: no column {', '.join(missing)}; the columns are {', '.join(columns)}")
    if extra := sorted(set(columns).difference(names)):
        raise InvalidRecord(f"{record.__name__} has no field {', '.join(extra)}: select the columns that it has")
    return [record(*row) for row in zip(*map(columns.values, names), strict=True)]
