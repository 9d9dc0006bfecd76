"""What the tests of commands share: a command as a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def command(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``python WORDS…`` with pipes for what it prints. It is gone when the block is left, however that is."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen([sys.executable, *words], text=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
