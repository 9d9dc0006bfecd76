"""The Shuttle topology with a second topic beside it, which only the bare pass-through consumer reads. What it keeps of
its state is said by ``$STREAMPROC_BENCH_STATE``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from streamproc.bench.loop_state import JOBS, STATE

# By name, as the command line loads topologies: they lie above the platform, and not in its wheel.
_shuttle: Any = import_module("topologies.shuttle")

app = _shuttle.app
bare = app.topic("bare", _shuttle.Reading, key="unit", id="id")
echo = app.channel("echo", _shuttle.Reading, key="unit", cause="id")
if kept := os.environ.get(STATE, JOBS["loop"]):
    app.guarantee = kept
else:
    app.flush = None

__all__ = ["app", "bare", "echo"]
