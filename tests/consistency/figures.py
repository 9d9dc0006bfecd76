"""How long things took, by nemesis."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Strike(NamedTuple):
    """One cycle."""

    nemesis: str
    began: float
    recovery: float  # seconds from its end until what lay in the source then is committed
    struck: Gap | None  # the longest, of partitions whose worker was struck
    others: Gap | None  # of the others
    ends: int  # of workers that ended by themselves


class Gap(NamedTuple):
    """A time without results."""

    seconds: float
    since: float
    partition: int


def longest_gap(partition: int, times: Sequence[float], since: float, until: float) -> Gap:
    """Between two of these moments, of ``since``, ``until`` and those in between."""
    at = [since, *(t for t in times if since < t < until), until]
    return max(Gap(after - before, before, partition) for before, after in pairwise(at))


def judged(
    arrivals: Sequence[Sequence[float]], struck: set[int], since: float, until: float
) -> tuple[Gap | None, Gap | None]:
    """The longest gaps, of partitions that were struck and of others, by when results of each came."""
    gaps: dict[bool, list[Gap]] = {True: [], False: []}
    for partition, times in enumerate(arrivals):
        gaps[partition in struck].append(longest_gap(partition, times, since, max([until, *times[-1:]])))
    return max(gaps[True], default=None), max(gaps[False], default=None)


def line(strike: Strike, took: float) -> str:
    """What became of one."""
    pauses = [
        f"{gap.seconds:.1f} s from {gap.since - strike.began:.1f} s on of [{gap.partition}]" if gap else "-"
        for gap in (strike.struck, strike.others)
    ]
    ended = f"; {strike.ends} ended by themselves" if strike.ends else ""
    said = f"recovered in {strike.recovery:5.1f} s; pause {pauses[0]}, of others {pauses[1]}; {took:.0f} s in all"
    return said + ended


def table(strikes: Sequence[Strike]) -> str:
    """Medians, 99th percentiles and maxima, as lines."""
    by_name: defaultdict[str, list[Strike]] = defaultdict(list)
    for strike in strikes:
        by_name[strike.nemesis].append(strike)
    head = f"{'seconds: median / p99 / max':34}{'n':>4}  {'recovery':>20}  {'pause, struck':>20}  {'others':>20}  ended"
    lines = [head, "-" * len(head)]
    for name, some in by_name.items():
        cells = [
            _cell([strike.recovery for strike in some]),
            _cell([strike.struck.seconds for strike in some if strike.struck]),
            _cell([strike.others.seconds for strike in some if strike.others]),
        ]
        lines.append(f"{name:34}{len(some):4}  {'  '.join(cells)}  {sum(s.ends for s in some):5}")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    there = sorted(values)
    if not there:
        return f"{'-':>20}"
    high = there[min(len(there) - 1, int(len(there) * 0.99))]
    return f"{statistics.median(there):6.1f} {high:6.1f} {there[-1]:6.1f}"
