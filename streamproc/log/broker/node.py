"""One run of Kafka's process: started, watched, waited for, ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from streamproc.errors import BrokerStartError
from streamproc.log.broker.config import HOST
from streamproc.log.broker.ready import answers
from streamproc.log.broker.watchdog import Watchdog

#: What Kafka's log says, and what to do about it. The first that is found is told.
_ADVICE = (
    ("Address already in use", "a port is in use: choose another, or stop what listens there"),
    ("Failed to acquire lock on file", "another broker runs on this data folder: stop it, or choose another"),
    ("OutOfMemoryError", "the heap is too small: give more heap_mb"),
    ("No space left on device", "the disk is full"),
    ("ConfigException", "a property was given that Kafka refuses"),
    ("Could not reserve enough space", "this machine has not enough memory: give less heap_mb"),
)
_TAIL_BYTES = 64 << 10
_TAIL_LINES = 12


class PortTaken(BrokerStartError):
    """Somebody else has the port."""


class Node:
    """A running Kafka. Its output goes to ``log_file``. It has a session of its own, so that Ctrl-C is not for it."""

    def __init__(
        self, command: Sequence[str], port: int, log_file: Path, *, claim: int | None = None, remove: Path | None = None
    ) -> None:
        self.port = port
        self._log_file = log_file
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=log_file.parent,
                start_new_session=True,
                pass_fds=() if claim is None else (claim,),  # the folder is held as long as Kafka runs
            )
        self._watchdog = Watchdog(self._process.pid, remove)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        if self._process.poll() is None:
            return True
        self._watchdog.release()
        return False

    def wait_ready(self, timeout: float) -> None:
        """Returns when topics can be created. ``timeout`` in seconds.

        Raises:
            BrokerStartError: it ended, or the time is over; with the end of its log and what to do.
        """
        deadline = time.monotonic() + timeout
        while not answers(HOST, self.port):
            if not self.running:
                raise self._failed(f"Kafka ended with code {self._process.returncode} while starting")
            if time.monotonic() > deadline:
                raise self._failed(f"Kafka did not answer on port {self.port} within {timeout:g} s")
            time.sleep(0.02)

    def terminate(self, timeout: float) -> None:
        """Asks Kafka to end, and makes it after ``timeout`` seconds."""
        try:
            if self.running:
                self._process.terminate()
                self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        if self.running:
            self._process.kill()
        self._process.wait()
        self._watchdog.release()

    def _failed(self, what: str) -> BrokerStartError:
        lines = tail(self._log_file)
        advice = next((advice for sign, advice in _ADVICE if any(sign in line for line in lines)), "")
        kind = PortTaken if advice == _ADVICE[0][1] else BrokerStartError
        return kind("\n  ".join([what + (f"; {advice}" if advice else ""), *relevant(lines)]))


def tail(log_file: Path) -> list[str]:
    """The last lines of a file."""
    with log_file.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace").splitlines()


def relevant(lines: list[str]) -> list[str]:
    """The last lines that tell of errors and their causes, without the stack's frames; else simply the last."""
    told = [line for line in lines if not line.startswith(("\tat ", "\t... "))]
    signs = ("ERROR", "FATAL", "Exception", "Error", "Caused by")
    errors = [line.strip() for line in told if any(sign in line for sign in signs)]
    return list(dict.fromkeys(errors or told))[-_TAIL_LINES:]
