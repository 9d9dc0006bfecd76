"""Polars expressions in definitions: what columns they give, seen on a frame without rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from streamproc.define.fields import Field, polars_type
from streamproc.define.probing import check_rows, may_be_null
from streamproc.errors import DefinitionError

_TYPES: Mapping[Any, Any] = {pl.Int64: int, pl.Float64: float, pl.String: str, pl.Boolean: bool, pl.Binary: bytes}


class Made(NamedTuple):
    """One column that an expression makes."""

    expr: pl.Expr
    field: Field
    column: str | None  # the column that it is as it was, perhaps under another name


def made(
    given: Iterable[Any], named: Mapping[str, Any], known: Mapping[str, Field], owner: str, what: str
) -> dict[str, Made]:
    """The columns that expressions make of those of ``owner``, by name. A string is the column of that name.

    Raises:
        DefinitionError: one is no expression, has no type that columns of a flow have, or looks at other rows.
    """
    exprs = [_expression(one, what) for one in given]
    exprs += [_expression(one, what, literal=True).alias(name) for name, one in named.items()]
    found: dict[str, Made] = {}
    for expr in exprs:
        for one in _single(expr, known, owner, what):
            if one.field.name in found:
                raise DefinitionError(f"{what}: it gives {one.field.name} twice")
            found[one.field.name] = one
    if not found:
        raise DefinitionError(f"{what}: expected at least one column or expression")
    return found


def condition(given: Any, known: Mapping[str, Field], owner: str, what: str) -> pl.Expr:
    """An expression that is true or false.

    Raises:
        DefinitionError: it is none, or looks at other rows.
    """
    if not isinstance(given, pl.Expr):
        raise DefinitionError(f'{what}: expected an expression such as pl.col("x") > 0; got {given!r}')
    schema = _schema(given, known, owner, what)
    _check_named(given, what)
    if len(schema) != 1 or (dtype := next(iter(schema.values()))) != pl.Boolean:
        gives = ", ".join(map(str, schema.values()))
        raise DefinitionError(f"{what}: expected an expression that is true or false; {given} gives {gives}")
    assert dtype == pl.Boolean
    check_rows(given, known, what)
    return given


def _expression(given: Any, what: str, *, literal: bool = False) -> pl.Expr:
    if isinstance(given, pl.Expr):
        return given
    if isinstance(given, str):
        return pl.col(given)
    if literal and isinstance(given, bool | int | float | bytes):
        return pl.lit(given)
    raise DefinitionError(f"{what}: expected a column's name or a polars expression; got {given!r}")


def _single(expr: pl.Expr, known: Mapping[str, Field], owner: str, what: str) -> list[Made]:
    """One column of an expression; of a selection, such as ``pl.all()``, each."""
    schema = _schema(expr, known, owner, what)
    if expr.meta.is_column_selection():
        return [Made(pl.col(name), known[name], name) for name in schema]
    if len(schema) != 1:
        names = ", ".join(schema)
        raise DefinitionError(f"{what}: expected one column of each expression; {expr} gives {names}: write one each")
    ((name, dtype),) = schema.items()
    _check_named(expr, what)
    if (column := _column(expr)) is not None:
        return [Made(expr, known[column]._replace(name=name), column)]
    if (cast := _canonical(dtype)) is None:
        raise DefinitionError(f"{what}: {name} is {dtype}, which no column of a flow is; {_hint(dtype)}")
    if cast != dtype:
        expr = expr.cast(cast)
    check_rows(expr, known, what)
    return [Made(expr, Field(name, _TYPES[cast], may_be_null(expr, known)), None)]


def _check_named(expr: pl.Expr, what: str) -> None:
    """A selection inside of an expression would be another one behind a step that adds columns."""
    if expr.meta.has_multiple_outputs():
        raise DefinitionError(f"{what}: name each column, as in pl.any_horizontal('a', 'b'); got {expr}")


def _schema(expr: pl.Expr, known: Mapping[str, Field], owner: str, what: str) -> dict[str, Any]:
    """What it gives of a frame without rows."""
    if missing := [name for name in expr.meta.root_names() if name not in known]:
        raise DefinitionError(f"{what}: {owner} has no field {missing[0]!r}; it has {', '.join(known)}")
    empty = pl.DataFrame(schema={name: polars_type(field) for name, field in known.items()})
    try:
        return dict(empty.select(expr).schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError) as error:
        raise DefinitionError(f"{what}: {_first_line(error)}") from error


def _column(expr: pl.Expr) -> str | None:
    """The column that it is as it was."""
    bare = expr.meta.undo_aliases()
    return bare.meta.output_name() if bare.meta.is_column() else None


def _canonical(dtype: Any) -> Any:
    """The type that columns of a flow have in its place; None where there is none."""
    if dtype in _TYPES:
        return dtype
    if dtype.is_integer():
        return None if dtype == pl.Int128 else pl.Int64
    if dtype.is_float():
        return pl.Float64
    return pl.String if isinstance(dtype, pl.Categorical | pl.Enum) else None


def _hint(dtype: Any) -> str:
    if dtype == pl.Null:
        return "say of which type it is null: .cast(pl.Float64)"
    if isinstance(dtype, pl.Duration):
        return "make milliseconds of it: .dt.total_milliseconds()"
    if isinstance(dtype, pl.Date | pl.Datetime):
        return 'make milliseconds of it: .dt.epoch("ms")'
    return "cast it, or make a record with map()" if not dtype.is_nested() else "make a record with map()"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
