"""A coroutine that was begun without a task, finished in one."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any


class Rest:
    """The rest of a coroutine that was begun by hand and now waits for something, to be awaited."""

    def __init__(self, begun: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._begun, self._waits_for = begun, waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                self._begun.close()
                raise
            except BaseException as error:
                step = partial(self._begun.throw, error)
            else:
                step = partial(self._begun.send, sent)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value
