"""Steps of a flow over columns: polars expressions as queries, functions one record after the other.

A row that raises is left out, and the others go on as if it had not been there: every step looks at one row alone, so
what a row gives does not depend on its neighbours or on how rows were cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamproc.columns import Columns, Longs
from streamproc.define.fields import Field, fields
from streamproc.define.pipeline import Input, Pipeline
from streamproc.define.steps import FlatMap, Map, Select, Step, Where
from streamproc.process.calls import Call
from streamproc.process.queries import Expressed, Query, roots


class Ran(NamedTuple):
    """What rows became.

    Args:
        columns: the results. Their sources' rows ascend.
        rows: int64[n], the source row of each; None where every row gave one.
        failed: source rows that raised, ascending, each once, and what they raised first. None has a result, not even
            where only one of those that it would have had raised.
    """

    columns: Columns
    rows: Longs | None
    failed: list[tuple[int, Exception]]


class StepsRunner:
    """Runs steps, which it holds nothing of between two runs.

    Args:
        steps: in order.
        known: the fields of the columns that come.
        wanted: which fields are read of the results; None: all.
    """

    def __init__(
        self, steps: Sequence[Step], known: Mapping[str, Field], *, wanted: Iterable[str] | None = None
    ) -> None:
        self._stages = _stages(steps, known)
        needed = _needed(steps, None if wanted is None else frozenset(wanted))
        #: The columns that must come; None: all.
        self.fields = None if needed is None or needed.issuperset(known) else needed

    @classmethod
    def of(cls, source: Input, *, wanted: Iterable[str] | None = None) -> StepsRunner:
        """The steps of an input."""
        return cls(source.steps, fields(source.topic.record), wanted=wanted)

    @classmethod
    def after(cls, definition: Pipeline) -> StepsRunner:
        """The steps behind a pipeline's operator."""
        return cls(definition.steps, definition.fields)

    def run(self, columns: Columns) -> Ran:
        """Takes rows through all steps."""
        rows: Longs | None = None
        failed: dict[int, Exception] = {}
        for stage in self._stages:
            columns, kept, broken = stage.run(columns)
            for row, error in broken:
                failed.setdefault(row if rows is None else int(rows[row]), error)
            if kept is not None:
                rows = kept if rows is None else rows[kept]
        if failed and rows is not None and len(rows):
            whole = ~np.isin(rows, list(failed))
            if not whole.all():  # others of the same row's results had gone on
                columns, rows = columns.take(np.flatnonzero(whole)), rows[whole]
        return Ran(columns, rows, sorted(failed.items(), key=lambda item: item[0]))


def _stages(steps: Sequence[Step], known: Mapping[str, Field]) -> list[Query | Call]:
    """Consecutive steps of expressions as one query."""
    stages: list[Query | Call] = []
    run: list[Expressed] = []
    for step in steps:
        if not isinstance(step, Map | FlatMap):
            run.append(step)
            continue
        if run:
            stages.append(Query(run, known))
        stages.append(Call(step))
        run, known = [], fields(step.out)
    return [*stages, Query(run, known)] if run else stages


def _needed(steps: Sequence[Step], wanted: frozenset[str] | None) -> frozenset[str] | None:
    """The columns that must come, where these are read of the results; None: all."""
    for step in reversed(steps):
        if isinstance(step, Map | FlatMap):
            wanted = frozenset(step.record.__struct_encode_fields__)
        elif isinstance(step, Select):
            wanted = roots(step.exprs)  # all are computed, whoever wants them
        elif wanted is not None:
            exprs = (step.expr,) if isinstance(step, Where) else step.exprs
            made = () if isinstance(step, Where) else (expr.meta.output_name() for expr in exprs)
            wanted = wanted.difference(made) | roots(exprs)
    return wanted
