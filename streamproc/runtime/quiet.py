"""Keeps logs readable: when Kafka is away the libraries say the same ten times a second, and bad records come in
crowds.
"""

from __future__ import annotations

import logging
import re
import time

_CHATTY = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
    "streamproc.deadletters",
)
_EVERY = 30.0  # seconds


class OnceInAWhile(logging.Filter):
    """Lets a message through once in ``every`` seconds; numbers and addresses do not make it another message."""

    def __init__(self, every: float = _EVERY) -> None:
        super().__init__()
        self._every = every
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if "GroupCoordinatorNotAvailable" in record.getMessage():  # a new cluster's first answer; it is asked again
            return False
        about = (record.name, re.sub(r"[\d.:'()\[\]]+", "", record.getMessage())[:60])
        now = time.monotonic()
        if now - self._last.get(about, -self._every) < self._every:
            return False
        if len(self._last) > 200:
            self._last.clear()
        self._last[about] = now
        return True


def calm_libraries() -> None:
    """Once per process is enough; again does nothing."""
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if not any(isinstance(f, OnceInAWhile) for f in logger.filters):
            logger.addFilter(OnceInAWhile())
