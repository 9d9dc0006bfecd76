"""Counts events and looks at the clocks: at the first event, at half of them, at the last. Used by each peer's script,
in that peer's own environment; so it needs nothing but Python.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import threading
import time
from pathlib import Path
from typing import Any

BOOTSTRAP = os.environ["BENCH_BOOTSTRAP"]
SOURCE = os.environ["BENCH_SOURCE"]
SINK = os.environ["BENCH_SINK"]
FOLDER = os.environ["BENCH_FOLDER"]
WINDOWS = os.environ["BENCH_JOB"] == "windows"
EVENTS = int(os.environ["BENCH_EVENTS"])
EVERY = 0.1  # seconds between two counts of a symbol
TRADE = {
    "type": "record",
    "name": "Trade",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "ts", "type": "long"},
        {"name": "price", "type": "double"},
        {"name": "size", "type": "double"},
        {"name": "venue", "type": "string"},
    ],
}
#: A window's result: start, count, sum, greatest, mean.
window = struct.Struct(">qqddd").pack
#: A running count: the event time up to which it holds, and the count.
count = struct.Struct(">qq").pack

_seen = _half_seen = 0
_begun = _half = _last = (0.0, 0.0)


def reader() -> Any:
    """Reads a trade from Confluent's framing, by fastavro."""
    import fastavro

    schema, read, wrap = fastavro.parse_schema(TRADE), fastavro.schemaless_reader, io.BytesIO

    def trade(value: bytes) -> dict[str, Any]:
        return read(wrap(value[5:]), schema)  # type: ignore[return-value]

    return trade


def begin() -> None:
    """The first event is there, for engines that count later. Only the first call counts."""
    global _begun
    if not _begun[0]:
        _begun = _clocks()


def tick(events: int = 1) -> bool:
    """So many more events. True when the last is among them."""
    global _seen, _half, _half_seen, _last
    if not _seen:
        begin()
    before, _seen = _seen, _seen + events
    if before < EVENTS // 2 <= _seen:
        _half, _half_seen = _clocks(), _seen
    if before < EVENTS <= _seen:
        _last = _clocks()
        return True
    return False


def seen() -> int:
    """How many events there were so far."""
    return _seen


def done() -> None:
    """Prints the figures, now that everything is done."""
    assert _seen == EVENTS, f"expected {EVENTS} events; saw {_seen}"
    taken, cpu = _last[0] - _begun[0], _last[1] - _begun[1]
    found = {
        "events": _seen,
        "taken": taken,
        "cpu": cpu,
        "warm_events": EVENTS - _half_seen,
        "warm_taken": _last[0] - _half[0],
        "warm_cpu": _last[1] - _half[1],
        "process_cpu": time.process_time(),
        "rss_mb": _peak_mb(),
    }
    # Not by print: Faust makes log lines of what is printed.
    os.write(1, json.dumps(found, separators=(",", ":")).encode() + b"\n")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak_mb() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


threading.Thread(target=_end_with_input, daemon=True).start()
