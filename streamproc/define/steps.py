"""Steps of a flow, as data: what is done to each row, one after the other. How is in ``process``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from streamproc.record import Record


@dataclass(frozen=True, eq=False, slots=True)
class Where:
    """Rows for which ``expr``, a Boolean, is true; null counts as false."""

    expr: pl.Expr

    def __str__(self) -> str:
        return "where"


@dataclass(frozen=True, eq=False, slots=True)
class WithColumns:
    """Columns added, or put in the place of those of the same names: one of each expression."""

    exprs: tuple[pl.Expr, ...]

    def __str__(self) -> str:
        return "with_columns"


@dataclass(frozen=True, eq=False, slots=True)
class Select:
    """These columns only: one of each expression."""

    exprs: tuple[pl.Expr, ...]

    def __str__(self) -> str:
        return "select"


@dataclass(frozen=True, eq=False, slots=True)
class Map:
    """One record made of each, or none where the function gives None.

    Args:
        record: the type that the function gets: the topic's record, or a struct made of the columns.
        out: the type that it gives.
        same: a field of both types that must come out as it went in, for rows lie in partitions by it; None: none.
    """

    record: type[msgspec.Struct]
    out: type[Record]
    fn: Callable[[Any], Any]
    same: str | None = None

    def __str__(self) -> str:
        return f"map({self.out.__name__})"


@dataclass(frozen=True, eq=False, slots=True)
class FlatMap:
    """Any number of records made of each. Its arguments are :class:`Map`'s."""

    record: type[msgspec.Struct]
    out: type[Record]
    fn: Callable[[Any], Any]
    same: str | None = None

    def __str__(self) -> str:
        return f"flat_map({self.out.__name__})"


Step = Where | WithColumns | Select | Map | FlatMap
