"""Reads a part of a partition again, outside the group, as the worker reads it: blocks of what is committed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamproc.errors import StateError
from streamproc.runtime.reader import ChangelogReader
from streamproc.runtime.transport.block import Fetched


class SourceReader(ChangelogReader):
    """One consumer without a group, for any topics."""

    async def blocks(self, topic: str, partition: int, begin: int, end: int) -> AsyncIterator[Fetched]:
        """What lies from ``begin`` on. The last one may go on past ``end``.

        Raises:
            BrokerUnavailable: no progress for ``patience`` seconds.
            StateError: offsets went away meanwhile.
        """
        if begin >= end:
            return
        tp = TopicPartition(topic, partition)
        self._reading[tp] = begin
        try:
            await self.bounds(topic, partition)  # aiokafka knows the topic from here on
            self._begin(tp, begin)
            moved = self._loop.time()
            while (at := self._reading[tp]) < end:
                fetched = await self._fetch(tp)
                if self._reading[tp] > at:
                    moved = self._loop.time()
                elif self._loop.time() - moved > self._patience:
                    raise self._unavailable(tp, at)
                for each in fetched:
                    yield each
        except OffsetOutOfRangeError:
            raise StateError(f"{topic}[{partition}]: offsets went away while it was read") from None
        finally:
            del self._reading[tp]
            if tp in self._assigned:
                self._consumer.pause(tp)
