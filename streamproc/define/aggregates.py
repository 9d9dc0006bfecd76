"""Aggregates as data: what to compute of a window's events. How is in ``process``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["count", "sum", "mean", "min", "max"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value per key and window. ``field`` names the input's field; count has none."""

    kind: Kind
    field: str | None = None

    def __str__(self) -> str:
        word = {"sum": "total", "min": "minimum", "max": "maximum"}.get(self.kind, self.kind)
        return f"{word}({self.field or ''})"


def count() -> Aggregate:
    """How many events. An int."""
    return Aggregate("count")


def total(field: str) -> Aggregate:
    """The sum of a number field: an int of ints, a float of floats. Nulls count for nothing. A sum of ints past 64
    bits is null; where the result's field cannot be, that result goes to the dead letters.
    """
    return Aggregate("sum", field)


def mean(field: str) -> Aggregate:
    """The arithmetic mean of a number field: its sum by its count. A float, right also where a sum of ints takes more
    than 64 bits; null where every value is null.
    """
    return Aggregate("mean", field)


def minimum(field: str) -> Aggregate:
    """The least value of a number field; null where every value is null. NaN wins over every number."""
    return Aggregate("min", field)


def maximum(field: str) -> Aggregate:
    """The greatest value of a number field; null where every value is null. NaN wins over every number."""
    return Aggregate("max", field)
