"""Tables that are everywhere, as the tasks of one process share them."""

from __future__ import annotations

from collections.abc import Iterable

from streamproc.batch import Batch
from streamproc.define.app import App, Stage
from streamproc.define.pipeline import Input, Pipeline
from streamproc.define.topic import Topic
from streamproc.process.front import Stepped, stepped
from streamproc.process.joins.lookup import LookupTable
from streamproc.process.steps import StepsRunner

_BACK = 3_600_000  # ms: a partition that comes here later may be so far behind those that are here


class SharedTable:
    """The table of one stage, whole."""

    def __init__(self, stage: Pipeline) -> None:
        found = everywhere(stage)
        assert found is not None
        self.source = found
        self.stage, self.table = stage, LookupTable(self.source)
        self.times: dict[int, int] = {}  # by partition: its stream time
        self._steps = StepsRunner.of(self.source) if self.source.steps else None

    def put(self, batch: Batch) -> Stepped:
        """Takes in rows of one partition, in log order."""
        found = stepped(self.source, self._steps, batch)
        if len(found.rows):
            self.table.put(found.events)
            latest, partition = int(found.events.times.max()), batch.partition
            self.times[partition] = max(latest, self.times.get(partition, latest))
        return found

    def prune(self, frontiers: Iterable[int]) -> None:
        """Lets go of what no task can ask for any more: tasks are here."""
        if (least := min(frontiers, default=None)) is not None:
            self.table.prune(least - _BACK)


def shared_tables(app: App) -> dict[str, SharedTable]:
    """By stage."""
    stages = [stage for stage in app.agents.values() if isinstance(stage, Pipeline)]
    return {stage.name: SharedTable(stage) for stage in stages if everywhere(stage) is not None}


def own_sources(stage: Stage) -> tuple[Topic, ...]:
    """The topics of which a task reads its own partition alone."""
    if not isinstance(stage, Pipeline):
        return stage.sources
    return tuple(dict.fromkeys(source.topic for source in stage.inputs if not source.everywhere))


def everywhere(stage: Stage) -> Input | None:
    """The input of which every worker reads all."""
    if not isinstance(stage, Pipeline):
        return None
    return next((source for source in stage.inputs if source.everywhere), None)
