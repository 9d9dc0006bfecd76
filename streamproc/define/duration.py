"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from streamproc.errors import DefinitionError

Duration = str | timedelta | int | float
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST = 100_000 * _UNITS["d"]  # well inside 64 bits, whatever is added to it


def milliseconds(duration: Duration, what: str = "duration") -> int:
    """A duration in whole milliseconds: ``"250ms"``, ``"10s"``, ``"1.5h"``, a timedelta, or a number of seconds.

    Raises:
        DefinitionError: it is none of these, negative, not whole milliseconds, or more than 100,000 days.
    """
    if isinstance(duration, timedelta):
        value = Decimal(duration // timedelta(microseconds=1)) / 1000
    elif isinstance(duration, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", duration)
        if not match:
            raise DefinitionError(
                f'{what}: expected a duration such as "250ms", "10s", "5m", "1h" or "1d"; got {duration!r}'
            )
        value = Decimal(match[1]) * _UNITS[match[2]]  # not a float: 1.001 seconds are 1001 milliseconds
    elif isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise DefinitionError(f'{what}: expected a duration such as "10s", or a number of seconds; got {duration!r}')
    else:
        value = Decimal(repr(duration)) * 1000
    if not value.is_finite() or value < 0 or value != int(value):
        raise DefinitionError(f"{what}: expected whole milliseconds, not negative; got {duration!r}")
    if value > _LONGEST:
        raise DefinitionError(f"{what}: expected at most 100000 days; got {duration!r}")
    return int(value)


def patience(idle: Duration | None, what: str) -> int | None:
    """After how long without rows an input holds others back no more, in milliseconds; None: never.

    Raises:
        DefinitionError: it is no duration, or zero: then nothing would ever be waited for.
    """
    ms = None if idle is None else milliseconds(idle, what)
    if ms == 0:
        raise DefinitionError(f"{what}: expected a duration above zero, or None; got {idle!r}")
    return ms


def written(ms: int) -> str:
    """A number of milliseconds as one would write it: ``10000`` is ``10s``."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"
