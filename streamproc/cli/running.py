"""What commands that stay up share: how they are told to stop, and how they show a start."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from streamproc.log.broker import Progress

Result = TypeVar("Result")


def run(command: Coroutine[Any, Any, Result]) -> Result:
    """A coroutine's result. Ctrl-C cancels it and raises KeyboardInterrupt, once it has tidied up.

    ``asyncio.run`` can sleep through a Ctrl-C: its handler only marks the task, and where the signal comes just before
    the loop waits for its sockets, nothing wakes it. The loop's own handlers wake it by a socket.
    """
    interrupted = False

    async def watched() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            task.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await command
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """Within it, Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread, the first time only.

    The event is set then. What is to be tidied up afterwards is not disturbed by the impatient's second Ctrl-C.
    """
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not stopped.is_set():
            stopped.set()
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StartProgress:
    """Shows a start on stderr: a moving bar on a terminal, a line per stage elsewhere. Call it with each Progress."""

    def __init__(self) -> None:
        self._stage = ""
        self._live: Any = None
        self._task: Any = None

    def __enter__(self) -> StartProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bars
            from rich.progress import SpinnerColumn

            columns = (SpinnerColumn(), "{task.description}", "{task.fields[size]}")
            self._live = Bars(*columns, console=Console(stderr=True), transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        if self._live:
            self._move(progress)
        elif progress.stage != self._stage:
            size = f", {progress.total_bytes / 1e6:.0f} MB" if progress.total_bytes else ""
            print(f"{progress.stage}{size} …", file=sys.stderr, flush=True)
        self._stage = progress.stage

    def say(self, line: str) -> None:
        """Prints a line on stderr, above what moves."""
        if self._live and self._live.live.is_started:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(line), soft_wrap=True)
        else:
            typer.echo(line, err=True)

    def _move(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            if self._task is not None:
                self._live.remove_task(self._task)
            self._task = self._live.add_task(progress.stage, total=progress.total_bytes or None, size="")
        if progress.total_bytes:
            done, total = progress.done_bytes / 1e6, progress.total_bytes / 1e6
            self._live.update(self._task, completed=progress.done_bytes, size=f"{done:.0f} of {total:.0f} MB")
