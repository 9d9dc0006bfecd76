"""Polars expressions of a flow, run over many rows as one query.

Only the columns that expressions read are made Series; all others go on as they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from streamproc.columns import Column, Columns, Longs
from streamproc.define.fields import Field, polars_type
from streamproc.define.steps import Select, Where, WithColumns
from streamproc.errors import DefinitionError
from streamproc.process.calls import Failed, raised

_ROW = "\0row"  # a column that no record has: the row that each comes from
# As written: were a filter moved before an expression, that would not see rows at which it raises.
_AS_WRITTEN = pl.QueryOptFlags.none()

Expressed = Where | WithColumns | Select


class Query:
    """Consecutive steps of expressions.

    Each sees what the one before gave, and only the rows that it left. A literal counts for each row.

    Args:
        known: the fields of the columns that come.
    """

    def __init__(self, steps: Sequence[Expressed], known: Mapping[str, Field]) -> None:
        self._steps: list[tuple[bool, Any]] = []  # whether it is a filter, and its expressions
        self._made: dict[str, bool] = dict.fromkeys(known, False)  # columns of the result; whether an expression's
        self._types = {name: polars_type(field) for name, field in known.items()}
        self._read: set[str] = set()
        for step in steps:
            if isinstance(step, Where):
                self._reads((step.expr,))
                self._steps.append((True, step.expr))
            else:
                self._plan(step)
        self._numbered = not self._read or any(is_filter for is_filter, _ in self._steps)

    def run(self, columns: Columns) -> tuple[Columns, Longs | None, Failed]:
        """The results; the row of each, None where each row gave one; rows that raised.

        Polars says on stderr what panicked, each time that it does.
        """
        failed: Failed = []
        if not len(columns):
            return self._results(columns, pl.DataFrame(schema=self._types), None), None, failed
        try:
            done = self._collect(self._frame(columns, self._numbered))
        except (Exception, pl.exceptions.PanicException) as error:
            done = self._in_parts(self._frame(columns, True), error, failed)
        rows = done.get_column(_ROW).to_numpy() if _ROW in done.columns else None
        if rows is not None and len(rows) == len(columns):
            rows = None
        return self._results(columns, done, rows), rows, failed

    def _plan(self, step: WithColumns | Select) -> None:
        """Notes what a step computes."""
        computed = [expr for expr in step.exprs if not _is_bare(expr)]
        self._reads(computed)
        if computed:
            self._steps.append((False, computed))
        types = dict(pl.LazyFrame(schema=self._types).select(computed).collect_schema())
        self._types |= types
        self._made |= dict.fromkeys(types, True)
        if isinstance(step, Select):
            names = [expr.meta.output_name() for expr in step.exprs]
            self._made = {name: self._made[name] for name in names}

    def _reads(self, exprs: Iterable[pl.Expr]) -> None:
        self._read |= {name for name in roots(exprs) if not self._made[name]}

    def _frame(self, columns: Columns, numbered: bool) -> pl.DataFrame:
        series = [columns.series(name) for name in sorted(self._read)]
        if numbered:
            series.append(pl.Series(_ROW, np.arange(len(columns))))
        return pl.DataFrame(series)

    def _collect(self, frame: pl.DataFrame) -> pl.DataFrame:
        query = frame.lazy()
        for is_filter, exprs in self._steps:
            query = query.filter(exprs) if is_filter else query.with_columns(exprs)
        return query.collect(engine="in-memory", optimizations=_AS_WRITTEN)

    def _in_parts(self, frame: pl.DataFrame, error: BaseException, failed: Failed) -> pl.DataFrame:
        """The same where it raised for all of them: by halves, until each row that raises stands alone."""
        parts: list[pl.DataFrame] = []
        left = _halves(0, len(frame))
        if not left:
            failed.append((0, _bare(error)))
        while left:
            start, stop = left.pop()
            try:
                parts.append(self._collect(frame[start:stop]))
            except (Exception, pl.exceptions.PanicException) as found:
                left += _halves(start, stop)
                if stop - start == 1:
                    failed.append((start, _bare(found)))
        if not parts:
            return pl.DataFrame(schema=self._types | {_ROW: pl.Int64})
        return pl.concat(parts, rechunk=True)

    def _results(self, columns: Columns, done: pl.DataFrame, rows: Longs | None) -> Columns:
        found: dict[str, Column] = {}
        for name, made in self._made.items():
            if made:
                found[name] = done.get_column(name)
            elif name in columns:  # not all are read in
                column = columns[name]
                if rows is None:
                    found[name] = column
                else:
                    as_read = name in self._read and isinstance(column, pl.Series)
                    found[name] = done.get_column(name) if as_read else column[rows]
        return Columns(found, len(columns) if rows is None else len(rows))


def roots(exprs: Iterable[pl.Expr]) -> frozenset[str]:
    """The columns that expressions read. Raises DefinitionError where one does not name them."""
    found: set[str] = set()
    for expr in exprs:
        if expr.meta.has_multiple_outputs():
            raise DefinitionError(f"expected expressions that name their columns; got {expr}")
        found.update(expr.meta.root_names())
    return frozenset(found)


def _is_bare(expr: pl.Expr) -> bool:
    """Whether it only names a column."""
    return expr.meta.is_column() and expr.meta.root_names() == [expr.meta.output_name()]


def _halves(start: int, stop: int) -> list[tuple[int, int]]:
    """Of more than one row, the second half and then the first."""
    middle = (start + stop) // 2
    return [(middle, stop), (start, middle)] if stop - start > 1 else []


def _bare(error: BaseException) -> Exception:
    """Without its traceback, which leads through polars only and holds all rows."""
    return raised(error.with_traceback(None))
