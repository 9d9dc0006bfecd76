"""Two engines' results, row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamproc.record import Record

_TOLD = 5
Row = tuple[Any, ...]


@dataclass
class Compared:
    """What differs; and of how many floats, those that a tolerance is allowed for, the last bits do."""

    rows: int = 0
    wrong: list[str] = field(default_factory=list)
    floats: int = 0
    inexact: int = 0
    worst: float = 0.0  # relative difference


def compare(ours: Sequence[Record], streams: Sequence[Record], tolerance: Mapping[str, float]) -> Compared:
    """Compares results in any order. Whatever is not in ``tolerance`` must be the same, and come as often."""
    found = Compared(len(ours))
    if not ours or not streams:
        found.wrong.append(f"{len(ours)} results of ours, {len(streams)} of Kafka Streams")
        return found
    names = [f.name for f in msgspec.structs.fields(ours[0])]
    exact = [name for name in names if name not in tolerance]
    for what, one, other in (("only ours", ours, streams), ("only of Kafka Streams", streams, ours)):
        left = Counter(_row(r, exact) for r in one) - Counter(_row(r, exact) for r in other)
        if left:
            some = sorted(left, key=repr)[:_TOLD]
            found.wrong.append(f"{what}: {left.total()}, such as {some} ({', '.join(exact)})")
    if not found.wrong and tolerance:
        _floats(found, ours, streams, exact, tolerance)
    return found


def _floats(
    found: Compared, ours: Sequence[Record], streams: Sequence[Record], exact: Sequence[str], loose: Mapping[str, float]
) -> None:
    pairs = zip(*(sorted(rows, key=lambda r: repr(_row(r, exact))) for rows in (ours, streams)), strict=True)
    for one, other in pairs:
        for name, allowed in loose.items():
            a, b = getattr(one, name), getattr(other, name)
            found.floats += 1
            if a == b:
                continue
            off = abs(a - b) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) else math.inf
            found.inexact += 1
            found.worst = max(found.worst, off)
            if off > allowed and len(found.wrong) < _TOLD:
                found.wrong.append(f"{name}: ours {a!r}, Kafka Streams' {b!r} in {_row(one, exact)}")


def _row(record: Record, names: Sequence[str]) -> Row:
    return tuple(getattr(record, name) for name in names)
