"""The Shuttle topology with a second topic beside it, which only the bare pass-through consumer reads."""

from __future__ import annotations

from topologies.shuttle import Reading, app

bare = app.topic("bare", Reading, key="unit", id="id")
echo = app.channel("echo", Reading, key="unit", cause="id")

__all__ = ["app", "bare", "echo"]
