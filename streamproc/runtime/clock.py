"""The clocks that tasks are given: in milliseconds since the epoch. Under the worker they only go on while Kafka has
nothing more; see :meth:`streamproc.runtime.runner.Runner.idle_for`.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
ClockOf = Callable[[str], int]  # of a source's topic
