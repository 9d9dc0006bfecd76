"""A limit per second. Pure: the clock is an argument."""

from __future__ import annotations


class Rate:
    """A token bucket: ``rate`` per second, and as many at once."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is within the limit. ``now`` is in seconds and never goes back."""
        self._tokens = min(self._rate, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
