"""Rows on their way through a stage of several inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamproc.columns import Columns, Longs


@dataclass(frozen=True, eq=False, slots=True)
class Events:
    """Rows of one input, or results."""

    columns: Columns
    times: Longs  # event times, in milliseconds since the epoch
    stamps: Longs  # ms: when each was taken in; of results the latest of those that they come from

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: Longs) -> Events:
        """The rows of these indices."""
        return Events(self.columns.take(rows), self.times[rows], self.stamps[rows])


class Ordered(NamedTuple):
    """Rows of several inputs in one order: by event time, then by the input's number, then as they came."""

    inputs: tuple[Events, ...]  # each in that order
    of: Longs  # which input each row of the whole is of; its k-th row of input i is row k of ``inputs[i]``
