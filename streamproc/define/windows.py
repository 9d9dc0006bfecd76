"""Windows over event time: ``[start, end)``, aligned to the epoch.

::

    tumbling("10s")          |----|----|----|
    hopping("10s", "5s")     |----|----|
                               |----|----|
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from streamproc.define.duration import Duration, milliseconds, written
from streamproc.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Window:
    """Windows of ``size`` that start every ``step`` milliseconds. Window ``w`` is ``[w * step, w * step + size)``."""

    size: int
    step: int

    @property
    def pane(self) -> int:
        """Length in milliseconds of the longest pieces that every window is a whole number of."""
        return gcd(self.size, self.step)

    def __str__(self) -> str:
        if self.size == self.step:
            return f"tumbling({written(self.size)})"
        return f"hopping({written(self.size)}, {written(self.step)})"


def tumbling(size: Duration) -> Window:
    """Windows side by side: every event is in exactly one.

    Raises:
        DefinitionError: ``size`` is zero.
    """
    size_ms = milliseconds(size, "window size")
    if not size_ms:
        raise DefinitionError("tumbling: expected a size above zero; got 0ms")
    return Window(size_ms, size_ms)


def hopping(size: Duration, step: Duration) -> Window:
    """Windows that overlap: a new one starts every ``step``, so an event is in about ``size / step`` of them.

    Raises:
        DefinitionError: ``step`` is zero or longer than ``size`` (there would be events in no window).
    """
    size_ms, step_ms = milliseconds(size, "window size"), milliseconds(step, "window step")
    if not 0 < step_ms <= size_ms:
        raise DefinitionError(
            f"hopping: expected 0 < step <= size; got size {written(size_ms)} and step {written(step_ms)}"
        )
    return Window(size_ms, step_ms)
