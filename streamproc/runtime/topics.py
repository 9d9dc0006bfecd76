"""The Kafka topics that a topology needs."""

from __future__ import annotations

from streamproc.define.agent import Agent
from streamproc.define.app import App, Stage
from streamproc.define.pipeline import Pipeline
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.state import topics as changelogs


def topic_specs(app: App, replication: int = 1) -> list[TopicSpec]:
    """Each topic as it should be."""
    topics = [TopicSpec(t.name, t.partitions, replication, dict(t.config)) for t in app.topics.values()]
    return topics + changelog_specs(app, replication)


def changelog_specs(app: App, replication: int = 1) -> list[TopicSpec]:
    """Of each stage whose state is kept."""
    return [
        changelogs.spec(app.name, stage.name, stage.source.partitions, replication)
        for stage in app.agents.values()
        if has_state(app, stage)
    ]


def has_state(app: App, stage: Stage) -> bool:
    """Whether a stage's state, or at least its position, is kept. Which tables an agent uses is not known before it
    runs.
    """
    if app.flush is None:
        return False
    if app.guarantee == "exactly_once":
        return True
    if isinstance(stage, Agent):
        return any(not table.volatile for table in app.tables.values())
    return not isinstance(stage, Pipeline) or stage.operator is not None or stage.sequenced


async def check_changelogs(app: App, admin: KafkaAdmin) -> None:
    """Looks at the changelogs as they are.

    Raises:
        TopicError: one would lose rows.
    """
    specs = changelog_specs(app)
    names = [spec.name for spec in specs]
    found = {info.name: info for info in await admin.describe(names)}
    settings = await admin.settings(names)
    for spec in specs:
        changelogs.check(spec, found[spec.name].partitions, settings[spec.name])
