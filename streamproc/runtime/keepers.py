"""The keepers of a worker: one for each partition that the group has given it, of topics whose stages have state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from streamproc.runtime.keeper import Batches, Changelogs, Keeper, KeptTask
from streamproc.runtime.metrics import WorkerMetrics

Partition = tuple[str, int]  # the name of a topic, or of a group of them, and a number


class Keepers:
    """Opens and closes keepers as partitions come and go.

    Args:
        groups: by source topic, the group of topics that some stage reads together with it, by a name.
        make: the tasks of a group's partition, with empty state; none where no stage of it has state.
        producer: a transactional producer for a transactional id, not started.
    """

    def __init__(
        self,
        app: str,
        groups: Mapping[str, str],
        make: Callable[[str, int], list[KeptTask]],
        producer: Callable[[str], Batches],
        changelogs: Changelogs,
        metrics: WorkerMetrics,
        failed: Callable[[Exception], None],
        *,
        every: float,
    ) -> None:
        self._app, self._groups, self._make, self._producer, self._changelogs = app, groups, make, producer, changelogs
        self._metrics, self._failed, self._every = metrics, failed, every
        self._keepers: dict[Partition, Keeper] = {}

    def get(self, topic: str, partition: int) -> Keeper | None:
        return self._keepers.get((self._groups.get(topic, topic), partition))

    def changelogs(self) -> set[Partition]:
        """Those of which a task is here."""
        return {(task.changelog, at[1]) for at, keeper in self._keepers.items() for task in keeper.tasks}

    async def assigned(self, partitions: Iterable[Partition]) -> None:
        """These are the worker's partitions now. What was kept of others was flushed when they were revoked."""
        now = self._whole(set(partitions))
        gone = [self._keepers.pop(at) for at in set(self._keepers) - now]
        await asyncio.gather(*(keeper.close(flush=False) for keeper in gone))
        for group, partition in sorted(now - set(self._keepers)):
            if tasks := self._make(group, partition):
                producer = self._producer(f"{self._app}-{group}-{partition}")
                self._keepers[group, partition] = Keeper(
                    group, partition, tasks, producer, self._changelogs, self._metrics, self._failed, every=self._every
                )

    def _whole(self, partitions: set[Partition]) -> set[Partition]:
        """The groups' partitions of which all topics are there: the group gives them together."""
        found = {(self._groups.get(topic, topic), partition) for topic, partition in partitions}
        lacking = {
            (group, partition)
            for topic, group in self._groups.items()
            for other, partition in found
            if other == group and (topic, partition) not in partitions
        }
        return found - lacking

    async def close(self, *, flush: bool) -> None:
        """Lets go of all; with ``flush``, keeps first what has changed."""
        keepers, self._keepers = self._keepers, {}
        await asyncio.gather(*(keeper.close(flush=flush) for keeper in keepers.values()))
