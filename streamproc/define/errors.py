"""What becomes of an event that an agent's code cannot get done: policies, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from streamproc.define.duration import Duration, milliseconds, written
from streamproc.errors import DefinitionError

#: ``dead_letter``: it is put aside, and the next one is taken. ``stop``: the worker ends with an error that names it.
Last = Literal["dead_letter", "stop"]
_LAST: tuple[str, ...] = get_args(Last)
_DOUBLINGS = 40  # beyond, every wait is the longest


@dataclass(frozen=True, slots=True)
class Retry:
    """The same event again, up to ``times`` times, each after a longer wait; then what ``then`` says.

    Args:
        backoff: the first wait, in milliseconds; each further one is twice as long.
        most: the longest wait, in milliseconds.
    """

    times: int
    backoff: int
    most: int
    then: Last

    def wait(self, failures: int, chance: float) -> float:
        """Seconds until the event is tried again after so many failures (1, 2 …): of the wait that is due, a random
        part between its half and its whole, chosen by ``chance`` in [0, 1), so that tasks do not return all at once.
        """
        due = min(self.most, self.backoff << min(failures - 1, _DOUBLINGS))
        return due * (0.5 + chance / 2) / 1000

    def __str__(self) -> str:
        waits = f"backoff={written(self.backoff)}, most={written(self.most)}"
        return f"retry(times={self.times}, {waits}, then={self.then})"


Policy = Last | Retry


def retry(times: int = 3, *, backoff: Duration = "1s", most: Duration = "30s", then: Last = "dead_letter") -> Retry:
    """The same event again, for what passes: a service that is away, a lock that is held.

    Args:
        times: how often, after the first time.
        backoff: the first wait; each further one is twice as long, up to ``most``, less a random part up to its half.
        then: what becomes of an event that raised every time.

    Raises:
        DefinitionError: ``times`` is no whole number above zero, ``most`` is shorter than ``backoff``, or ``then`` is
            none.
    """
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise DefinitionError(f"retry: expected times to be a whole number above zero; got {times!r}")
    first, longest = milliseconds(backoff, "retry, backoff"), milliseconds(most, "retry, most")
    if longest < first:
        raise DefinitionError(
            f"retry: expected most to be at least the backoff, {written(first)}; got {written(longest)}"
        )
    if then not in _LAST:
        raise DefinitionError(f'retry: expected then to be "dead_letter" or "stop"; got {then!r}')
    return Retry(times, first, longest, then)


def check_policy(policy: Any, what: str) -> None:
    """Raises DefinitionError where it is no policy."""
    if not isinstance(policy, Retry) and policy not in _LAST:
        raise DefinitionError(f'{what}: expected on_error to be "dead_letter", "stop" or retry(…); got {policy!r}')
