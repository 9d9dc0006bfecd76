"""How long things took, by nemesis."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Strike(NamedTuple):
    """One cycle. All in seconds."""

    nemesis: str
    recovery: float  # from its end until what lay in the source then is committed
    struck: float | None  # the longest gap in results of partitions whose worker was struck
    others: float | None  # of the others
    ends: int  # of workers that ended by themselves


def longest_gap(times: Sequence[float], since: float, until: float) -> float:
    """Between two of these moments, of ``since``, ``until`` and those in between."""
    at = [since, *(t for t in times if since < t < until), until]
    return max(after - before for before, after in pairwise(at))


def table(strikes: Sequence[Strike]) -> str:
    """Medians, 99th percentiles and maxima, as lines."""
    by_name: defaultdict[str, list[Strike]] = defaultdict(list)
    for strike in strikes:
        by_name[strike.nemesis].append(strike)
    head = f"{'seconds: median / p99 / max':34}{'n':>4}  {'recovery':>20}  {'pause, struck':>20}  {'others':>20}  ended"
    lines = [head, "-" * len(head)]
    for name, some in by_name.items():
        cells = [_cell([getattr(s, field) for s in some]) for field in ("recovery", "struck", "others")]
        lines.append(f"{name:34}{len(some):4}  {'  '.join(cells)}  {sum(s.ends for s in some):5}")
    return "\n".join(lines)


def _cell(values: Sequence[float | None]) -> str:
    there = sorted(value for value in values if value is not None)
    if not there:
        return f"{'-':>20}"
    high = there[min(len(there) - 1, int(len(there) * 0.99))]
    return f"{statistics.median(there):6.1f} {high:6.1f} {there[-1]:6.1f}"
