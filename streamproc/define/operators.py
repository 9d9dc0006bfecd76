"""What a stage of flows does, as data, beside steps. How is in ``process``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamproc.define.duration import written

#: ``inner``: what matched. ``left``: every row of the left side, also without a match. ``outer``: of both sides.
How = Literal["inner", "left", "outer"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Pairs of one key whose times lie near each other: ``low <= right - left <= high``, in milliseconds."""

    low: int
    high: int
    how: How
    suffix: str

    @property
    def kind(self) -> str:
        """In a word."""
        return "a join"

    def __str__(self) -> str:
        return f"join within [{_signed(self.low)}, {_signed(self.high)}], {self.how}"


@dataclass(frozen=True, slots=True)
class AsOf:
    """For each row of the left its key's newest row of the right, of the same time or before; not older than ``within``
    milliseconds, if that is not None.
    """

    within: int | None
    how: How
    suffix: str

    @property
    def kind(self) -> str:
        """In a word."""
        return "a join"

    def __str__(self) -> str:
        return f"join as of event time{'' if self.within is None else f', within {written(self.within)}'}, {self.how}"


@dataclass(frozen=True, slots=True)
class Tables:
    """The newest rows of a key on both sides, whenever one of them changes."""

    how: How
    suffix: str

    @property
    def kind(self) -> str:
        """In a word."""
        return "a join of tables"

    def __str__(self) -> str:
        return f"join of tables, {self.how}"


@dataclass(frozen=True, slots=True)
class Lookup:
    """For each row of the left the right's newest row, at its time, whose key is what the left has in ``on``."""

    on: str
    how: How
    suffix: str

    @property
    def kind(self) -> str:
        """In a word."""
        return "a lookup"

    def __str__(self) -> str:
        return f"lookup by {self.on}, {self.how}"


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """The first row of each ``id`` that comes, until event time is ``within`` milliseconds past it."""

    id: str
    within: int

    @property
    def kind(self) -> str:
        """In a word."""
        return "a deduplication"

    def __str__(self) -> str:
        return f"deduplicate by {self.id} within {written(self.within)}"


@dataclass(frozen=True, slots=True)
class Rekey:
    """Rows as they are, into a topic with another key; event time is told along."""

    @property
    def kind(self) -> str:
        """In a word."""
        return "a rekeying"

    def __str__(self) -> str:
        return "rekey"


Join = Interval | AsOf | Tables | Lookup
Operator = Join | Deduplicate | Rekey


def _signed(ms: int) -> str:
    return f"-{written(-ms)}" if ms < 0 else written(ms)
