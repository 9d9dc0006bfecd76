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
_EVERY = 10.0  # seconds between two looks
_LONGEST = 300.0  # seconds between two looks, where files cannot be written
_log = logging.getLogger("streamproc.state")

Changelog = tuple[str, int]  # and its partition


class Snapshots:
    """Reads changelogs for a worker's keepers.

    Args:
        folder: of the snapshots; None: there are none, and changelogs are read whole.
        ids: Kafka's ids of the changelogs, by name.
        every: seconds between two looks at what has changed; where the folder is full, or cannot be written to for
            another reason, it doubles up to five minutes.
    """

    def __init__(
        self, reader: ChangelogReader, folder: Path | None, ids: Mapping[str, str], *, every: float | None = None
    ) -> None:
        self._reader, self._folder, self._ids = reader, folder, ids
        self._every = _EVERY if every is None else every
        self._known: dict[Changelog, tuple[str, int, int]] = {}  # version, next offset, rows; of the snapshot
        self._renewing: asyncio.Task[None] | None = None
        self._read_for: dict[Changelog, asyncio.Task[Restored]] = {}  # what a new snapshot is made of
        self._keepers: set[Changelog] = set()  # that are being read for keepers
        self._failed = 0  # attempts to write, since the last one that did not fail

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
        self._keepers.add((topic, partition))
        try:
            await self._leave(topic, partition)
            onto = await self._last(topic, partition, version)
            try:
                found = await self._reader.read(topic, partition, onto)
            except StateError:
                if onto is NOTHING:
                    raise
                onto, found = NOTHING, await self._reader.read(topic, partition)
        finally:
            self._keepers.discard((topic, partition))
        self._known[topic, partition] = (version, onto.next_offset, len(onto.keys))
        return found

    async def end(self, topic: str, partition: int) -> int:
        """The offset before which all is committed or aborted, of any topic. Raises BrokerUnavailable."""
        return await self._reader.end(topic, partition)

    def keep(self, changelogs: set[Changelog]) -> None:
        """Makes no more snapshots of others than these: their tasks are elsewhere."""
        for gone in set(self._known) - changelogs:
            del self._known[gone]

    async def _last(self, topic: str, partition: int, version: str) -> Restored:
        if self._folder is None or topic not in self._ids:
            return NOTHING
        not_before = int(time.time() * 1000) - TOMBSTONES // 2
        place = Place(topic, self._ids[topic], partition)
        return await asyncio.to_thread(snapshot.read, self._folder, place, version, not_before) or NOTHING

    async def _leave(self, topic: str, partition: int) -> None:
        """Gives up a new snapshot of what is to be read for a keeper: a partition that has gone may be back soon."""
        if (reading := self._read_for.get((topic, partition))) is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def _renew_all(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(self._pause())
            for at in list(self._known):
                try:
                    if await self._renew(folder, *at) is False:
                        break  # others would fare no better
                except StreamprocError as error:  # a later look may find the broker again
                    _log.warning("no snapshot of %s[%d]: %s", *at, error)
                except Exception:
                    _log.exception("no snapshot of %s[%d]", *at)

    def _pause(self) -> float:
        return min(self._every * (1 << min(self._failed, 16)), max(_LONGEST, self._every))

    async def _renew(self, folder: Path, topic: str, partition: int) -> bool | None:
        """Makes a new snapshot, where enough has changed since the last one. False: it could not be written."""
        at = topic, partition
        if at not in self._known or topic not in self._ids:
            return None
        version, upto, rows = self._known[at]
        end = await self.end(topic, partition)
        if end - upto < max(_LEAST, rows // _SHARE):
            return None
        onto = await self._last(topic, partition, version)
        now = int(time.time() * 1000)
        found = await self._read_rest(topic, partition, onto)
        if found is None or found.head is None or found.head.version != version or at not in self._known:
            return None
        place = Place(topic, self._ids[topic], partition)
        written = await asyncio.to_thread(snapshot.write, folder, place, found, now)
        known = self._known.pop(at, None)  # None: its task went elsewhere meanwhile
        if known is not None:
            # At the end: one that cannot be written does not come before others the next time.
            self._known[at] = (version, found.next_offset, len(found.keys)) if written else known
        self._note(folder, written=written)
        return written

    async def _read_rest(self, topic: str, partition: int, onto: Restored) -> Restored | None:
        """What lies behind a snapshot, and that; None where a keeper wants to read it."""
        at = topic, partition
        if at in self._keepers:
            return None
        reading = self._read_for[at] = asyncio.create_task(self._reader.read(topic, partition, onto))
        try:
            await asyncio.wait([reading])
        finally:
            del self._read_for[at]
            reading.cancel()
        return None if reading.cancelled() else reading.result()

    def _note(self, folder: Path, *, written: bool) -> None:
        if not written:
            self._failed += 1
            said = "nothing is lost, but the next start takes longer; another try in %g s (%d failed)"
            _log.warning(said, self._pause(), self._failed)
        elif self._failed:
            _log.info("snapshots can be written to %s again, after %d attempts that failed", folder, self._failed)
            self._failed = 0
