"""Found first on a worker's path, this moves its wall clock: ``time.time`` and ``time.time_ns`` are ahead by as many
seconds as the file of ``$STREAMPROC_TEST_CLOCK`` says (a double), from one call to the next. What C code asks of the
system itself does not move.

When the file ``$STREAMPROC_TEST_DUMP`` appears, it tells on stderr what all tasks wait for.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

if path := os.environ.get("STREAMPROC_TEST_CLOCK"):
    with open(path, "r+b") as file:
        _ahead = mmap.mmap(file.fileno(), 8)
    _read = struct.Struct("<d").unpack_from
    _time, _time_ns = time.time, time.time_ns

    def _moved() -> float:
        return float(_time() + _read(_ahead)[0])

    def _moved_ns() -> int:
        return _time_ns() + int(_read(_ahead)[0] * 1e9)

    time.time, time.time_ns = _moved, _moved_ns

if dump := os.environ.get("STREAMPROC_TEST_DUMP"):
    import asyncio
    import sys
    import threading

    _sleep = time.sleep

    def _watch(dump: str) -> None:
        while True:
            _sleep(1)
            if os.path.exists(dump):
                os.unlink(dump)
                for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
                    if not task.done():
                        _tell(task)

    def _tell(task: asyncio.Task[object]) -> None:
        lines, at = [f"task {task.get_name()}"], task.get_coro()
        while at is not None:
            kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(at, f"{kind}_frame")), None)
            if kind is None:
                lines.append(f"    {at!r}")
                break
            if (frame := getattr(at, f"{kind}_frame")) is not None:
                lines.append(f"    {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
            at = getattr(at, f"{kind}_{'yieldfrom' if kind == 'gi' else 'await'}")
        print("\n".join(lines), file=sys.stderr, flush=True)

    threading.Thread(target=_watch, args=[dump], name="dump", daemon=True).start()
