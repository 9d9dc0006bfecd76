"""Functions of a flow, called with one record after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import polars as pl

from streamproc.batch import column_types
from streamproc.columns import Columns, Longs
from streamproc.define.fields import Field, fields
from streamproc.define.steps import FlatMap, Map
from streamproc.errors import InvalidRecord
from streamproc.record import Record

_TAKEN: dict[Any, frozenset[type]] = {  # types of values that a column takes as they are
    int: frozenset((int,)),
    float: frozenset((float, int)),
    str: frozenset((str,)),
    bool: frozenset((bool,)),
    bytes: frozenset((bytes,)),
}
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1

Failed = list[tuple[int, Exception]]


class Call:
    """A function over all rows, and its results as columns."""

    def __init__(self, step: Map | FlatMap) -> None:
        self._record, self._out, self._fn, self._same = step.record, step.out, step.fn, step.same
        self._many = isinstance(step, FlatMap)

    def run(self, columns: Columns) -> tuple[Columns, Longs | None, Failed]:
        """The results; the row of each, None where each row gave one; rows that raised."""
        rows, records, failed = self._call(columns)
        made, refused = columns_of(records, self._out)
        if refused:
            failed += [(rows[i], error) for i, error in refused.items()]
            good = np.setdiff1d(np.arange(len(rows)), list(refused), assume_unique=True)
            made, rows = made.take(good), [rows[i] for i in good.tolist()]
        if not self._many and len(rows) == len(columns):
            return made, None, failed
        return made, np.array(rows, np.int64), failed

    def _call(self, columns: Columns) -> tuple[list[int], list[Any], Failed]:
        rows: list[int] = []
        records: list[Any] = []
        failed: Failed = []
        make, call = self._record, self._fn
        values = [columns.values(name) for name in make.__struct_encode_fields__]
        for row, fields_of_row in enumerate(zip(*values, strict=True)):
            try:
                record = make(*fields_of_row)
                found = call(record)
                if found is None:
                    continue
                given = [self._checked(one, record) for one in (found if self._many else (found,))]
            except (Exception, pl.exceptions.PanicException) as error:
                failed.append((row, raised(error)))
                continue
            rows += [row] * len(given)
            records += given
        return rows, records, failed

    def _checked(self, found: Any, record: Any) -> Any:
        if type(found) is not self._out:
            what = f"{'several ' if self._many else ''}{self._out.__name__}"
            raise InvalidRecord(f"expected {what}, or None; the function gave {_short(found)}")
        if self._same is not None and (now := getattr(found, self._same)) != (was := getattr(record, self._same)):
            said = f"expected the {self._same!r} that came, {was!r}, by which rows lie in partitions; got {_short(now)}"
            raise InvalidRecord(f"{said}: rekey the flow first", self._same)
        return found


def raised(error: BaseException) -> Exception:
    """What a row raised, as an Exception: a panic of polars is none."""
    if isinstance(error, Exception):
        return error
    made = InvalidRecord(f"polars panicked: {error}")
    made.__cause__ = error
    return made


def columns_of(records: list[Any], record: type[Record]) -> tuple[Columns, dict[int, Exception]]:
    """Records as columns, and those of them that have a value which its column does not take, by their index."""
    refused: dict[int, Exception] = {}
    rows = [msgspec.structs.astuple(one) for one in records]
    values: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else ((),) * len(fields(record))
    types = column_types(record)
    made = {
        name: _column(name, list(column), types[name], field, record, refused)
        for (name, field), column in zip(fields(record).items(), values, strict=True)
    }
    return Columns(made, len(records)), refused


def _column(
    name: str, values: list[Any], dtype: Any, field: Field, record: type[Record], refused: dict[int, Exception]
) -> pl.Series:
    taken = _TAKEN.get(field.type, frozenset())
    found = set(map(type, values))
    if field.nullable:
        found.discard(type(None))
    # An int beyond 64 bits or a text that is no Unicode has the right type, too; then polars raises.
    if dtype == pl.Object and type(None) not in found:
        return pl.Series(name, values, dtype=dtype)
    if found <= taken:
        try:
            return pl.Series(name, values, dtype=dtype, strict=True)
        except (TypeError, ValueError, OverflowError):
            pass
    for i, value in enumerate(values):
        try:
            values[i] = _fit(value, field, taken)
        except (ValueError, OverflowError) as error:
            said = f"{record.__name__}.{name}: expected {field}; got {_short(value)}"
            refused.setdefault(i, InvalidRecord(f"{said} ({error})" if str(error) else said, name))
            values[i] = None
    return pl.Series(name, values, dtype=dtype, strict=True)


def _fit(value: Any, field: Field, taken: frozenset[type]) -> Any:
    """The value as its column takes it: of numpy's scalars Python's. Raises ValueError where it takes none."""
    if value is None and field.nullable:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) not in taken and (taken or value is None):
        raise ValueError
    if field.type is int and not _LEAST <= value <= _GREATEST:
        raise ValueError("it does not fit 64 bits")
    if field.type is str:
        value.encode()
    return float(value) if field.type is float else value


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '…'}"
