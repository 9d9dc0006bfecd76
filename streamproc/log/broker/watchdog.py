"""Ends a child process when this one dies, however it dies.

A small shell holds the reading end of a pipe; the system closes the other end when its owner is gone, even by
``kill -9``. It is the same everywhere, and is bound to the process, where Linux's ``PR_SET_PDEATHSIG`` is bound to the
thread that started the child. A process that was forked without exec shares the pipe, and so has to be gone, too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

#: $1 the process, $2 a folder to remove or nothing. With data to keep, Kafka gets ten seconds to close its files.
_SCRIPT = """
read -r _ && exit 0
if [ -n "$2" ]; then kill -KILL "$1"; else kill -TERM "$1"; fi 2>/dev/null
n=0
while [ $n -lt 50 ] && kill -0 "$1" 2>/dev/null; do sleep 0.2; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
if [ -n "$2" ]; then rm -rf -- "$2"; fi
"""


class Watchdog:
    """Watches over ``pid`` until :meth:`release`. With ``remove``, that folder goes with it."""

    def __init__(self, pid: int, remove: Path | None = None) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "watchdog", str(pid), str(remove or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
        )

    def release(self) -> None:
        """Lets the process be. To be called as soon as it has ended, since its number may then be given to another."""
        if self._shell.returncode is not None:
            return
        try:
            self._shell.communicate(b"released\n", timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self._shell.kill()
            self._shell.wait()
