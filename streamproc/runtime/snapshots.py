"""Changelogs read with the help of snapshots in a folder of this machine.

A snapshot is made of the last one and of what its changelog got since: from Kafka, not from the task, which goes on
undisturbed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from streamproc.errors import StateError, StreamprocError
from streamproc.runtime.reader import ChangelogReader
from streamproc.state import snapshot
from streamproc.state.restore import NOTHING, Restored
from streamproc.state.snapshot import Place
from streamproc.state.topics import TOMBSTONES

_LEAST = 20_000  # records that a changelog must have got before a new snapshot is worth it, and ...
_SHARE = 2  # ... at least so many of its rows: one half
_log = logging.getLogger("streamproc.state")


class Snapshots:
    """Reads changelogs for a worker's keepers.

    Args:
        folder: of the snapshots; None: there are none, and changelogs are read whole.
        ids: Kafka's ids of the changelogs, by name.
        every: seconds between two looks at what has changed.
    """

    def __init__(
        self, reader: ChangelogReader, folder: Path | None, ids: Mapping[str, str], *, every: float = 10.0
    ) -> None:
        self._reader, self._folder, self._ids, self._every = reader, folder, ids, every
        self._known: dict[tuple[str, int], tuple[str, int, int]] = {}  # version, next offset, rows; of the snapshot
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._reader.start()
        if self._folder is not None:
            self._renewing = asyncio.create_task(self._renew_all(self._folder), name="snapshots")

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self._reader.close()

    async def read(self, topic: str, partition: int, version: str) -> Restored:
        """The rows of a changelog partition; raises what :meth:`ChangelogReader.read` does. ``version``: what they must
        mean.
        """
        onto = await self._last(topic, partition, version)
        try:
            found = await self._reader.read(topic, partition, onto)
        except StateError:
            if onto is NOTHING:
                raise
            onto, found = NOTHING, await self._reader.read(topic, partition)
        self._known[topic, partition] = (version, onto.next_offset, len(onto.keys))
        return found

    async def end(self, topic: str, partition: int) -> int:
        """The offset before which all is committed or aborted, of any topic. Raises BrokerUnavailable."""
        return await self._reader.end(topic, partition)

    def keep(self, changelogs: set[tuple[str, int]]) -> None:
        """Makes no more snapshots of others than these: their tasks are elsewhere."""
        for gone in set(self._known) - changelogs:
            del self._known[gone]

    async def _last(self, topic: str, partition: int, version: str) -> Restored:
        if self._folder is None or topic not in self._ids:
            return NOTHING
        not_before = int(time.time() * 1000) - TOMBSTONES // 2
        place = Place(topic, self._ids[topic], partition)
        return await asyncio.to_thread(snapshot.read, self._folder, place, version, not_before) or NOTHING

    async def _renew_all(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(self._every)
            for at in list(self._known):
                try:
                    await self._renew(folder, *at)
                except StreamprocError as error:  # a later look may find the broker again
                    _log.warning("no snapshot of %s[%d]: %s", *at, error)

    async def _renew(self, folder: Path, topic: str, partition: int) -> None:
        """Makes a new snapshot, where enough has changed since the last one."""
        version, upto, rows = self._known[topic, partition]
        end = await self.end(topic, partition)
        if end - upto < max(_LEAST, rows // _SHARE) or topic not in self._ids:
            return
        onto = await self._last(topic, partition, version)
        now = int(time.time() * 1000)
        found = await self._reader.read(topic, partition, onto)
        if found.head is None or found.head.version != version or (topic, partition) not in self._known:
            return
        place = Place(topic, self._ids[topic], partition)
        if await asyncio.to_thread(snapshot.write, folder, place, found, now):
            self._known[topic, partition] = (version, found.next_offset, len(found.keys))
