"""The keepers of a worker: one for each partition that the group has given it, of topics whose stages have state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from streamproc.runtime.keeper import Batches, Changelogs, Keeper, KeptTask
from streamproc.runtime.metrics import WorkerMetrics

Partition = tuple[str, int]  # a topic's name, and a number


class Keepers:
    """Opens and closes keepers as partitions come and go.

    Args:
        make: the tasks of a source topic's partition, with empty state; none where no stage of it has state.
        producer: a transactional producer for a transactional id, not started.
    """

    def __init__(
        self,
        app: str,
        make: Callable[[str, int], list[KeptTask]],
        producer: Callable[[str], Batches],
        changelogs: Changelogs,
        metrics: WorkerMetrics,
        failed: Callable[[Exception], None],
        *,
        every: float,
    ) -> None:
        self._app, self._make, self._producer, self._changelogs = app, make, producer, changelogs
        self._metrics, self._failed, self._every = metrics, failed, every
        self._keepers: dict[Partition, Keeper] = {}

    def get(self, topic: str, partition: int) -> Keeper | None:
        return self._keepers.get((topic, partition))

    async def assigned(self, partitions: Iterable[Partition]) -> None:
        """These are the worker's partitions now. What was kept of others was flushed when they were revoked."""
        now = set(partitions)
        gone = [self._keepers.pop(at) for at in set(self._keepers) - now]
        await asyncio.gather(*(keeper.close(flush=False) for keeper in gone))
        for topic, partition in sorted(now - set(self._keepers)):
            if tasks := self._make(topic, partition):
                producer = self._producer(f"{self._app}-{topic}-{partition}")
                self._keepers[topic, partition] = Keeper(
                    topic, partition, tasks, producer, self._changelogs, self._metrics, self._failed, every=self._every
                )

    async def close(self, *, flush: bool) -> None:
        """Lets go of all; with ``flush``, keeps first what has changed."""
        keepers, self._keepers = self._keepers, {}
        await asyncio.gather(*(keeper.close(flush=flush) for keeper in keepers.values()))
