"""The Shuttle topology with a second topic beside it, which only the bare pass-through consumer reads."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# By name, as the command line loads topologies: they lie above the platform, and not in its wheel.
_shuttle: Any = import_module("topologies.shuttle")

app = _shuttle.app
bare = app.topic("bare", _shuttle.Reading, key="unit", id="id")
echo = app.channel("echo", _shuttle.Reading, key="unit", cause="id")

__all__ = ["app", "bare", "echo"]
