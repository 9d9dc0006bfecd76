"""A run's figures, as every engine tells them: one line of JSON."""

from __future__ import annotations

import math

import msgspec

REGISTRY = "STREAMPROC_REGISTRY"  # in a worker's environment: the URL of its schema registry


class Metered(msgspec.Struct, kw_only=True):
    """What a run took. Seconds; CPU is user and system time of all threads of the process.

    ``taken`` goes from the first event to the last one processed, ``wall`` until Kafka has every result, where an
    engine can tell (else 0), and ``cpu`` is of the longer of the two. ``warm_*`` is the second half of ``taken``.
    """

    events: int
    taken: float
    cpu: float
    warm_events: int
    warm_taken: float
    warm_cpu: float
    process_cpu: float = 0.0
    rss_mb: float = 0.0
    wall: float = 0.0
    blocks: int = 0
    paths: dict[str, int] = {}

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.taken

    @property
    def durable_rate(self) -> float:
        """Events per second until Kafka has every result."""
        return self.events / (self.wall or self.taken)

    @property
    def warm_rate(self) -> float:
        return self.warm_events / self.warm_taken if self.warm_events and self.warm_taken > 0 else math.nan

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds per million events."""
        return self.cpu / self.events * 1e6

    @property
    def warm_cpu_per_million(self) -> float:
        return self.warm_cpu / self.warm_events * 1e6 if self.warm_events else math.nan
