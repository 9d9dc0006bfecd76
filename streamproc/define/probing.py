"""What expressions do, tried on a few rows: whether one row's result depends on others, and whether it may be null."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from streamproc.define.fields import Field, polars_type
from streamproc.errors import DefinitionError

_OUT = "_out"
# Values of which some come twice, none is in order, and none is zero: so that what looks at neighbours is seen, and
# a division is not null.
_SAMPLES: Mapping[Any, list[Any]] = {
    pl.Int64: [3, 1, 7, 2, 40, 7, 5, 1000, 2, 11, 1, 300],
    pl.Float64: [2.5, 0.5, 7.25, 1.0, 40.0, 7.25, 0.1, 1000.0, 1.5, 11.0, 0.5, 300.0],
    pl.String: ["b", "12", "a", "a b", "2024-01-31", "b", "Ä", "7", "true", "c,d", "a", "{}"],
    pl.Boolean: [True, False, False, True, True, False, True, True, False, True, False, False],
    pl.Binary: [b"b", b"a", b"12", b"a", b"\x00", b"b", b"c", b"7", b"d", b"e", b"a", b"f"],
}
_ROWS = 12
_EVERY = 3  # of a column that may be null, so many-th rows are null


def check_rows(expr: pl.Expr, known: Mapping[str, Field], what: str) -> None:
    """Raises DefinitionError where what it gives of a row depends on other rows: then it would depend on how rows came.

    polars says it of most expressions; rows that are tried whole and one by one say it of the rest.
    """
    separable, lengthens = _said(expr)
    if lengthens:
        raise DefinitionError(f"{what}: expected an expression that gives one value for each row; got {expr}")
    if not separable or any(_depends(expr, frame) for frame in (_frame(known), _holed(known), _below(known))):
        raise DefinitionError(
            f"{what}: {expr} looks at other rows, so what it gives would depend on how they came: "
            f"windows, joins, deduplicate and tables of agents do not"
        )


def may_be_null(expr: pl.Expr, known: Mapping[str, Field]) -> bool:
    """Whether it gives null for some of the rows that are tried; where none can be, whether a column that it reads may
    be null.
    """
    found = [_values(expr, frame) for frame in (_frame(known), _holed(known))]
    tried = [values for values in found if values is not None]
    if not tried:
        return any(known[name].nullable for name in expr.meta.root_names() if name in known)
    return any(values.null_count() > 0 for values in tried)


def never_null(expr: pl.Expr, known: Mapping[str, Field]) -> dict[str, Field]:
    """The columns that may be null, but not where this condition is true, as far as the rows that are tried show."""
    found = {}
    for name in dict.fromkeys(expr.meta.root_names()):
        if not known[name].nullable:
            continue
        masks = [_values(expr, _frame(known, {name: 1})), _values(expr, _holed(known, always=name))]
        if all(mask is not None and not mask.fill_null(False).any() for mask in masks):
            found[name] = known[name]
    return found


def _said(expr: pl.Expr) -> tuple[bool, bool]:
    """What polars says: whether each row is seen alone, and whether there may be more or fewer values than rows. Of
    functions in Python, and of selections of columns, it cannot tell.
    """
    try:
        return expr.meta.is_row_separable(), not (expr.meta.is_length_preserving() or expr.meta.is_scalar())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return True, False


def _depends(expr: pl.Expr, frame: pl.DataFrame) -> bool:
    single = [_evaluated(expr, frame[i : i + 1]) for i in range(len(frame))]
    rows = [i for i, values in enumerate(single) if values is not None]
    if not rows:
        return False  # nothing can be told: every row raises
    whole = _evaluated(expr, frame[rows])
    return whole is None or not whole.eq_missing(pl.concat([values for values in single if values is not None])).all()


def _values(expr: pl.Expr, frame: pl.DataFrame) -> pl.Series | None:
    """What it gives of the rows that do not raise; None where all do."""
    whole = _evaluated(expr, frame)
    if whole is not None:
        return whole
    single = [_evaluated(expr, frame[i : i + 1]) for i in range(len(frame))]
    found = [values for values in single if values is not None]
    return pl.concat(found) if found else None


def _evaluated(expr: pl.Expr, frame: pl.DataFrame) -> pl.Series | None:
    try:
        return frame.with_columns(expr.alias(_OUT))[_OUT]
    except (Exception, pl.exceptions.PanicException):  # also of functions in Python
        return None


def _holed(known: Mapping[str, Field], always: str | None = None) -> pl.DataFrame:
    """Rows in which each column that may be null is null now and then, and ``always`` everywhere."""
    every = {name: _EVERY for name, field in known.items() if field.nullable}
    return _frame(known, {**every, **({always: 1} if always else {})})


def _below(known: Mapping[str, Field]) -> pl.DataFrame:
    """Rows whose numbers are zero and below, too."""
    numbers = [name for name, field in known.items() if field.type in (int, float)]
    return _frame(known).with_columns(pl.col(name) * -1 + 3 for name in numbers)


def _frame(known: Mapping[str, Field], null: Mapping[str, int] = {}) -> pl.DataFrame:
    """A few rows; ``null``: columns of which each so many-th value is null."""
    columns = {}
    for at, (name, field) in enumerate(known.items()):
        kind = polars_type(field)
        values: Collection[Any] = _SAMPLES.get(kind, [None] * _ROWS)
        turned = [list(values)[(i + at) % _ROWS] for i in range(_ROWS)]
        every = null.get(name)
        holed = [None if every and (i + at) % every == 0 else value for i, value in enumerate(turned)]
        columns[name] = pl.Series(name, holed, dtype=kind)
    return pl.DataFrame(columns)
