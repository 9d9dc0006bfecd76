"""A process of the benchmark that works until whoever started it lets go of its standard input."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import msgspec


def work(main: Callable[[Callable[[], bool]], Coroutine[Any, Any, msgspec.Struct | None]], patience: float) -> NoReturn:
    """Runs ``main``, prints what it gives as a line of JSON, and ends the process.

    Args:
        main: gets a function that tells whether standard input has ended.
        patience: seconds that it has to end after that.
    """
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would be held at the end
            pass
        ended.set()
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import uvloop

    found = uvloop.run(main(ended.is_set))
    if found is not None:
        print(msgspec.json.encode(found).decode(), flush=True)
    sys.stdout.flush()
    os._exit(0)  # threads of libraries may be left
