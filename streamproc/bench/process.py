"""A process of a round: started, listened to, and ended by its id whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from streamproc.errors import StreamprocError

_STOP_WITHIN = 5.0  # seconds


class Process:
    """A running child. What it prints is kept; its input stays open, so that it can see when we are gone."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path | None = None) -> None:
        self.lines: deque[str] = deque(maxlen=4000)
        self.name = Path(command[0]).name
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us alone: we end it, and whatever it has started
        )
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def line(self, begins: str, within: float) -> str:
        """The first line that begins so, once it has been printed.

        Raises:
            StreamprocError: the process ended before, or took longer than ``within`` seconds; with its last words.
        """
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in self.lines:
                    if line.startswith(begins):
                        return line
                if not self._reader.is_alive():
                    raise self._failed("ended")
                if (left := deadline - time.monotonic()) <= 0:
                    raise self._failed(f"took longer than {within:g} s")
                self._changed.wait(min(left, 1.0))

    def alive(self) -> None:
        """Raises StreamprocError where it has ended."""
        if self._process.poll() is not None:
            raise self._failed("ended")

    def wait(self, within: float) -> None:
        """Waits for its end. Raises StreamprocError where that is no success, or takes longer."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise self._failed(f"took longer than {within:g} s") from None
        self._reader.join(5.0)
        if code:
            raise self._failed(f"ended with code {code}")

    def close_input(self) -> None:
        """Tells it that nobody waits any more."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def stop(self) -> None:
        """Ends it and what it has started, by force if it takes longer than five seconds."""
        self.close_input()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_WITHIN)
        self._reader.join(5.0)
        if not self._reader.is_alive():  # else somebody else has the pipe, too
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _failed(self, what: str) -> StreamprocError:
        told = [line for line in self.lines if line][-12:]
        return StreamprocError("\n  ".join([f"{self.name} {what}", *told]))


@contextlib.contextmanager
def process(command: Sequence[str], environ: Mapping[str, str], folder: Path | None = None) -> Iterator[Process]:
    """A child that is gone when the block is left."""
    child = Process(command, environ, folder)
    try:
        yield child
    finally:
        child.stop()
