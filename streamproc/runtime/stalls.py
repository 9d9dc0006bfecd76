"""Work that does not go on: nobody would see it until somebody misses the results."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Hashable, Mapping
from typing import Final, Generic, TypeVar

#: How a process ends whose event loop is held up for good, as a program that fails for a passing reason (sysexits.h).
EXIT: Final = 75
_log = logging.getLogger("streamproc.worker")


Key = TypeVar("Key", bound=Hashable)


class Stalls(Generic[Key]):
    """Notices when what there is to do stays the same.

    Args:
        after: seconds for which it may.
    """

    def __init__(self, after: float) -> None:
        self.after = after
        self._since: dict[Key, tuple[Hashable, float]] = {}

    def look(self, work: Mapping[Key, Hashable], now: float) -> list[Key]:
        """Whose work has not changed for so long.

        Args:
            work: of each that has something to do, how far it is: anything that differs when it has come further.
            now: seconds.
        """
        self._since = {
            key: kept if (kept := self._since.get(key)) is not None and kept[0] == at else (at, now)
            for key, at in work.items()
        }
        return [key for key, (_, since) in self._since.items() if now - since >= self.after]

    def forget(self, key: Key) -> None:
        """Begins anew with one."""
        self._since.pop(key, None)


class LoopWatch:
    """Ends the process when its event loop is held up: heartbeats to Kafka go on in a thread of their own, so the group
    would keep giving partitions to a worker that does nothing.

    Args:
        after: seconds for which :meth:`beat` may not be called.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._beat = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)

    def start(self) -> None:
        self._beat = time.monotonic()
        self._thread.start()

    def beat(self) -> None:
        """The loop runs."""
        self._beat = time.monotonic()

    def stop(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        every, looked = min(1.0, self._after / 4), time.monotonic()
        while not self._ended.wait(every):
            now = time.monotonic()
            if now - looked > every + self._after / 2:  # the process itself was stopped, or the machine slept
                self._beat = now
            looked = now
            if now - self._beat > self._after:
                said = (
                    "the event loop is held up for %.0f s: an agent computes, or waits without await. The worker ends, "
                )
                _log.critical(said + "another one goes on from what was kept. Where it is held up:", now - self._beat)
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT)
