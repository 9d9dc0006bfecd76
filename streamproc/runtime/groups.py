"""Which source topics are read together: their partitions of one number must be on one worker, with one keeper."""

from __future__ import annotations

from collections.abc import Mapping

from streamproc.define.app import App
from streamproc.runtime.shared_tables import own_sources


def groups(app: App) -> Mapping[str, str]:
    """By source topic, its group's name: the names of the topics that some stage reads together with it, or that are
    read together with one of those, and so on.
    """
    found: dict[str, set[str]] = {}
    for stage in app.agents.values():
        together: set[str] = set()
        for topic in own_sources(stage):
            together |= found.get(topic.name, {topic.name})
        for name in together:
            found[name] = together
    return {name: "+".join(sorted(together)) for name, together in found.items()}
