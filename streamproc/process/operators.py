"""The operators of pipelines."""

from __future__ import annotations

from typing import Protocol

from streamproc.define.operators import AsOf, Deduplicate, Interval, Tables
from streamproc.define.pipeline import Pipeline
from streamproc.process.deduplicate import DeduplicateOperator
from streamproc.process.events import Events, Ordered
from streamproc.process.joins.interval import IntervalOperator
from streamproc.process.joins.latest import AsOfOperator, TablesOperator
from streamproc.process.state import State


class JoinOperator(State, Protocol):
    """Joins rows of two inputs, and has a state."""

    def take(self, ordered: Ordered, frontier: int) -> Events:
        """Results, in order of their event times.

        Args:
            ordered: rows of event times before ``frontier``, behind those of the calls before.
            frontier: all rows of every input before it have been given, now or before.
        """


def join_of(definition: Pipeline) -> JoinOperator | None:
    """The join of a pipeline, with empty state; None where it has none."""
    operator = definition.operator
    if isinstance(operator, Interval):
        return IntervalOperator(definition)
    if isinstance(operator, AsOf):
        return AsOfOperator(definition)
    return TablesOperator(definition) if isinstance(operator, Tables) else None


def distinct_of(definition: Pipeline) -> DeduplicateOperator | None:
    """What leaves out repeated ids, with empty state; None where nothing does."""
    return DeduplicateOperator(definition) if isinstance(definition.operator, Deduplicate) else None
