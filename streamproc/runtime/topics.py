"""The Kafka topics that a topology needs."""

from __future__ import annotations

from streamproc.define.app import App
from streamproc.log.ports import TopicSpec


def topic_specs(app: App, replication: int = 1) -> list[TopicSpec]:
    """Each topic as it should be."""
    return [TopicSpec(t.name, t.partitions, replication, dict(t.config)) for t in app.topics.values()]
