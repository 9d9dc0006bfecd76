"""The worker's side of tables that are everywhere: each is read whole before the work begins, and followed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from streamproc.avro.codec import Codec
from streamproc.batch import Batch
from streamproc.runtime.follower import TopicFollower
from streamproc.runtime.runner import Runner
from streamproc.runtime.shared_tables import SharedTable
from streamproc.settings import KafkaSettings

_log = logging.getLogger("streamproc.worker")


class FollowedTable:
    """Keeps one table as far as its topic is, and tells the tasks that use it.

    Args:
        runner: of the stage that uses it.
        failed: called with what must stop the worker.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        codec: Codec,
        shared: SharedTable,
        runner: Runner,
        failed: Callable[[Exception], None],
    ) -> None:
        self.shared, self._runner, self._failed = shared, runner, failed
        self._follower = TopicFollower(kafka, shared.source.topic, codec, self._take)
        self._moved: set[int] = set()  # partitions
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when all is there that the topic has now. Raises BrokerUnavailable."""
        await self._follower.start()
        await self._follower.ready()
        self._tasks = [asyncio.create_task(work()) for work in (self._tell, self._follow)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._follower.close()

    def let_idle_time_pass(self, since: float, ms: int) -> None:
        """So many milliseconds have passed since then (seconds since the epoch); they count where Kafka had nothing."""
        follower = self._follower
        if all(follower.caught_up(partition, since) for partition in follower.partitions):
            self._runner.table_idle_for(ms)

    def _take(self, batch: Batch) -> None:
        for row, error in self.shared.put(batch).failed:
            where = f"{batch.topic}[{batch.partition}] {int(batch.offsets[row])}"
            _log.error("%s: a row of a table is left out: %r, at %s", self.shared.stage.name, error, where)
        if batch.partition in self.shared.times:
            self._moved.add(batch.partition)
            self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            moved, self._moved = self._moved, set()
            try:
                for partition in moved:
                    await self._runner.table_moved(partition)
            except Exception as error:
                self._failed(error)
                return

    async def _follow(self) -> None:
        try:
            await self._follower.stopped()
        except Exception as error:
            self._failed(error)


def followed_tables(
    kafka: KafkaSettings,
    codecs: Mapping[str, Codec],
    tables: Mapping[str, SharedTable],
    runners: Mapping[str, Runner],
    failed: Callable[[Exception], None],
) -> list[FollowedTable]:
    """Of all stages that use one."""
    return [
        FollowedTable(kafka, codecs[shared.source.topic.name], shared, runners[stage], failed)
        for stage, shared in tables.items()
    ]
