"""Windows over event time: ``[start, end)``.

::

    tumbling("10s")          |----|----|----|
    hopping("10s", "5s")     |----|----|
                               |----|----|
    sliding("10s")           ----x           one per event: it, and what came up to 10 s before it
    session("5s")            x-x---|  x---|   as long as no gap is so wide
    counting(3)              x--x-x|x-x-x|    as many events
    everything(each=100)     x--x-x--x-x-->   from a key's first event on; told after every 100
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from zoneinfo import ZoneInfo

from streamproc.define.duration import Duration, milliseconds, written
from streamproc.errors import DefinitionError

_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class AlignedWindow:
    """Windows of ``size`` that start every ``step`` milliseconds. Window ``w`` is ``[w * step + offset, … + size)``, on
    the clock of ``zone`` or of UTC, counted from the epoch.
    """

    size: int
    step: int
    offset: int = 0
    zone: str | None = None

    @property
    def pane(self) -> int:
        """Length in milliseconds of the longest pieces that every window is a whole number of."""
        return gcd(self.size, self.step)

    def __str__(self) -> str:
        offset = f", offset={written(self.offset)}" if self.offset else ""
        zone = f", zone={self.zone}" if self.zone else ""
        if self.size == self.step:
            return f"tumbling({written(self.size)}{offset}{zone})"
        return f"hopping({written(self.size)}, {written(self.step)}{offset}{zone})"


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """For every event of a key its ``size`` milliseconds up to and with that event: ``[t + 1 - size, t + 1)``. Events
    of one time share a window.
    """

    size: int

    def __str__(self) -> str:
        return f"sliding({written(self.size)})"


@dataclass(frozen=True, slots=True)
class SessionWindow:
    """Events of a key that lie less than ``gap`` milliseconds apart: ``[first, last + gap)``."""

    gap: int

    def __str__(self) -> str:
        return f"session({written(self.gap)})"


@dataclass(frozen=True, slots=True)
class CountWindow:
    """Every ``size`` events of a key, in the order in which they lie in Kafka, a new one after every ``step``:
    ``[least event time, greatest + 1)``. A key of which nothing came for ``ttl`` milliseconds is forgotten.
    """

    size: int
    step: int
    ttl: int | None = None

    def __str__(self) -> str:
        step = "" if self.size == self.step else f", {self.step}"
        return f"counting({self.size}{step}{_said(self.ttl)})"


@dataclass(frozen=True, slots=True)
class GlobalWindow:
    """One for each key, that never ends: told after every ``each`` events, or after every ``every`` milliseconds of
    event time in which something came. ``[least event time, greatest + 1)`` of what is in it. A key of which nothing
    came for ``ttl`` milliseconds is forgotten.
    """

    each: int | None
    every: int | None
    ttl: int | None = None

    def __str__(self) -> str:
        told = f"each={self.each}" if self.each else f'every="{written(self.every or 0)}"'
        return f"everything({told}{_said(self.ttl)})"


Window = AlignedWindow | SlidingWindow | SessionWindow | CountWindow | GlobalWindow


@dataclass(frozen=True, slots=True)
class Updates:
    """Results before the last: every ``every`` milliseconds of event time, of what changed in between."""

    every: int

    def __str__(self) -> str:
        return f"updates({written(self.every)})"


def tumbling(size: Duration, *, offset: Duration = 0, zone: str | None = None) -> AlignedWindow:
    """Windows side by side: every event is in exactly one.

    Args:
        offset: by how much they begin later than the epoch, or than midnight: ``tumbling("1d", offset="6h")``.
        zone: for whole days, whose clock tells them: ``"Europe/Berlin"``. A day is as long as it is there.

    Raises:
        DefinitionError: ``size`` is zero, ``offset`` not shorter than it, or ``zone`` is none.
    """
    size_ms = milliseconds(size, "window size")
    if not size_ms:
        raise DefinitionError("tumbling: expected a size above zero; got 0ms")
    return _aligned("tumbling", size_ms, size_ms, offset, zone)


def hopping(size: Duration, step: Duration, *, offset: Duration = 0, zone: str | None = None) -> AlignedWindow:
    """Windows that overlap: a new one starts every ``step``, so an event is in about ``size / step`` of them.
    ``offset`` and ``zone`` are those of :func:`tumbling`.

    Raises:
        DefinitionError: ``step`` is zero or longer than ``size`` (there would be events in no window), ``offset`` is
            not shorter than ``step``, or ``zone`` is none.
    """
    size_ms, step_ms = milliseconds(size, "window size"), milliseconds(step, "window step")
    if not 0 < step_ms <= size_ms:
        raise DefinitionError(
            f"hopping: expected 0 < step <= size; got size {written(size_ms)} and step {written(step_ms)}"
        )
    return _aligned("hopping", size_ms, step_ms, offset, zone)


def sliding(size: Duration) -> SlidingWindow:
    """For every event, its key's last ``size``: one result per key and event time.

    Raises:
        DefinitionError: ``size`` is zero.
    """
    size_ms = milliseconds(size, "window size")
    if not size_ms:
        raise DefinitionError("sliding: expected a size above zero; got 0ms")
    return SlidingWindow(size_ms)


def session(gap: Duration) -> SessionWindow:
    """Events of a key until nothing comes for ``gap``. An event in between makes one session of two.

    Raises:
        DefinitionError: ``gap`` is zero.
    """
    gap_ms = milliseconds(gap, "session gap")
    if not gap_ms:
        raise DefinitionError("session: expected a gap above zero; got 0ms")
    return SessionWindow(gap_ms)


def counting(size: int, step: int | None = None, *, ttl: Duration | None = None) -> CountWindow:
    """Windows of ``size`` events of a key, a new one after every ``step`` (``size``, when None), in the order in which
    they lie in Kafka. What is not full gives nothing.

    Args:
        ttl: for how long a key is kept of which nothing comes, in event time; what it had by then is in no window.
            None: for ever.

    Raises:
        DefinitionError: not 0 < step <= size, or ``ttl`` is zero.
    """
    step = size if step is None else step
    if not (_is_count(size) and _is_count(step) and 0 < step <= size):
        raise DefinitionError(f"counting: expected whole numbers, 0 < step <= size; got size {size!r}, step {step!r}")
    return CountWindow(size, step, _ttl(ttl, "counting"))


def everything(*, each: int | None = None, every: Duration | None = None, ttl: Duration | None = None) -> GlobalWindow:
    """All events of a key: its result is told after every ``each`` events, or after every ``every`` of event time in
    which something came.

    Args:
        ttl: for how long a key is kept of which nothing comes, in event time; what comes then begins anew. None: for
            ever. No shorter than ``every``, so that all that came is told before.

    Raises:
        DefinitionError: not exactly one of the two, or it is zero; ``ttl`` is zero, or shorter than ``every``.
    """
    if (each is None) == (every is None):
        raise DefinitionError("everything: expected each=, a number of events, or every=, a duration; one of the two")
    ttl_ms = _ttl(ttl, "everything")
    if every is not None:
        if not (ms := milliseconds(every, "every")):
            raise DefinitionError("everything: expected every= above zero; got 0ms")
        if ttl_ms is not None and ttl_ms < ms:
            raise DefinitionError(
                f"everything: expected a ttl of every= or more, {written(ms)}, or a key would be forgotten before it "
                f"is told; got {written(ttl_ms)}"
            )
        return GlobalWindow(None, ms, ttl_ms)
    if not (_is_count(each) and each):
        raise DefinitionError(f"everything: expected each= to be a whole number above zero; got {each!r}")
    return GlobalWindow(each, None, ttl_ms)


def updates(every: Duration) -> Updates:
    """Results of windows that are still open, as they are whenever event time passes a multiple of ``every``: of those
    keys and windows only that changed since. Then the final one, as ever.

    Raises:
        DefinitionError: ``every`` is zero.
    """
    ms = milliseconds(every, "updates")
    if not ms:
        raise DefinitionError("updates: expected a duration above zero; got 0ms")
    return Updates(ms)


def _aligned(what: str, size: int, step: int, offset: Duration, zone: str | None) -> AlignedWindow:
    offset_ms = milliseconds(offset, f"{what}, offset")
    if offset_ms >= step:
        least = "size" if size == step else "step"
        raise DefinitionError(
            f"{what}: expected an offset shorter than the {least}, {written(step)}; got {written(offset_ms)}"
        )
    if zone is not None:
        if size % _DAY or step % _DAY:
            raise DefinitionError(f"{what}: a time zone is for windows of whole days; got {written(size)}")
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError, TypeError) as error:
            raise DefinitionError(f'{what}: expected a time zone such as "Europe/Berlin"; got {zone!r}') from error
        if offset_ms >= _DAY:
            raise DefinitionError(f"{what}: with a time zone, expected an offset of less than a day; got {offset!r}")
    return AlignedWindow(size, step, offset_ms, zone)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ttl(ttl: Duration | None, what: str) -> int | None:
    ms = None if ttl is None else milliseconds(ttl, f"{what}: ttl")
    if ms == 0:
        raise DefinitionError(f"{what}: expected a ttl of 1 ms or more; got {ttl!r}")
    return ms


def _said(ttl: int | None) -> str:
    return "" if ttl is None else f", ttl={written(ttl)}"
