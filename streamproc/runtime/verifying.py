"""Verifies kept state: replays sources into fresh state up to the position of the state that is kept, and compares.

The replay runs the stages' own code. Its results go nowhere, but are encoded, for what does not fit costs the event in
work its changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from streamproc import compiled
from streamproc.avro.codec import Codec
from streamproc.avro.ports import Registry
from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App
from streamproc.errors import DefinitionError, StateError, TopicError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.process.state import NO_TEXTS
from streamproc.runtime.flow_task import is_cut_number
from streamproc.runtime.replay_sources import Ranges, ReplaySources, ends
from streamproc.runtime.replaying import Dropping, Replay
from streamproc.runtime.shared_tables import everywhere, own_sources
from streamproc.runtime.source_blocks import SourceReader
from streamproc.runtime.table_reader import Changelog, TableReader
from streamproc.settings import KafkaSettings
from streamproc.state import snapshot
from streamproc.state.compare import Compared, changed, compare, compare_headers
from streamproc.state.head import Head
from streamproc.state.restore import NOTHING, Restored
from streamproc.state.table_rows import entry_of, readable

#: Header numbers that say when the clock last heard of something.
_CLOCKED = frozenset({"heard"})
_SOURCES = "sources"  # the mark of a head with its sources' ids

Progress = Callable[[str, int, str, int, int], None]  # stage, partition, topic, offset, end


class Verified(NamedTuple):
    """What became of one task's state."""

    stage: str
    partition: int
    offsets: Ranges  # of each source, those that were replayed
    events: int
    rows: Compared
    header: tuple[str, ...]  # numbers beside the rows that differ, in words
    whole: bool  # whether the replay has seen all that the state has
    notes: tuple[str, ...]
    first: tuple[str, ...]  # the first rows that differ, in words

    @property
    def is_equal(self) -> bool:
        """Whether all is as replayed."""
        return self.rows.all_equal and not (self.whole and self.header)


class Verifier:
    """Verifies the stages of an app.

    Args:
        registry: of schemas; it should add nothing.
        snapshots: a folder of snapshots to begin with; None: begins with nothing, at the sources' begins.
        show: how many differences are told of a task.
    """

    def __init__(
        self,
        app: App,
        kafka: KafkaSettings,
        registry: Registry,
        *,
        snapshots: Path | None = None,
        show: int = 5,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._app, self._kafka, self._snapshots, self._show, self._progress = app, kafka, snapshots, show, progress
        self._codecs = {topic.name: Codec.of(topic, registry) for topic in app.topics.values()}
        self._limits: dict[str, int] = {}
        self._compacted: set[str] = set()  # sources that forget records in between
        self._ids: dict[str, str] = {}
        self.skipped: list[str] = []  # stages without rows

    async def run(self, stage: str | None = None, partition: int | None = None) -> AsyncIterator[Verified]:
        """One task after the other; memory holds one's states.

        Raises:
            StreamprocError: a stage or partition is not there, a state is of another version, or cannot be replayed.
        """
        logs = await TableReader(self._app, self._kafka).changelogs(stage, tables_only=False)
        self.skipped = [log.stage for log in logs if everywhere(self._app.agents[log.stage]) is not None]
        if stage in self.skipped:
            raise DefinitionError(f"stage {stage!r} only looks into a table that is everywhere, and keeps no rows")
        logs = [log for log in logs if log.stage not in self.skipped]
        for log in logs:
            if partition is not None and partition >= log.partitions:
                raise DefinitionError(f"{log.topic} has no partition {partition}: it has 0 to {log.partitions - 1}")
        await self._ask(logs)
        await asyncio.to_thread(compiled.prepare)
        async with self._reader() as reader:
            for log in logs:
                for number in range(log.partitions) if partition is None else [partition]:
                    yield await self._verify(reader, log, number)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[SourceReader]:
        reader = SourceReader(self._kafka)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.close()

    async def _ask(self, logs: Sequence[Changelog]) -> None:
        """What the broker has to say of the topics."""
        sources = sorted({topic.name for log in logs for topic in own_sources(self._app.agents[log.stage])})
        admin = KafkaAdmin(self._kafka)
        try:
            there = set(await admin.list())
            known = [name for name in self._app.topics if name in there]
            settings = await admin.settings(known)
            self._ids = await admin.ids(sources + [log.topic for log in logs])
        finally:
            await admin.close()
        self._limits = {name: int(found["max.message.bytes"]) for name, found in settings.items()}
        if lacking := set(sources) - there:
            raise TopicError(f"no topic {', '.join(map(repr, sorted(lacking)))} on this broker")
        self._compacted = {name for name in sources if "compact" in settings[name]["cleanup.policy"]}

    async def _verify(self, reader: SourceReader, log: Changelog, partition: int) -> Verified:
        definition = self._app.agents[log.stage]
        kept = await reader.read(log.topic, partition)
        if kept.head is None:
            nothing = Compared(0, 0, 0, 0, ())
            return Verified(log.stage, partition, {}, 0, nothing, (), True, ("nothing is kept yet",), ())
        self._check_ids(log, partition, kept.head)
        until = ends(definition, kept.head)
        base = self._base(log, partition, kept.head, until)
        replay = Replay(definition, outlet := Dropping(self._codecs, self._limits), base)
        feed = ReplaySources(reader, definition, partition, self._codecs, partial(self._progress, log.stage, partition))
        try:
            if (version := replay.state.version()) != kept.head.version:
                raise StateError(
                    f"the state of {log.stage!r} in topic {log.topic} was written by another version of it: expected "
                    f"{version}; found {kept.head.version}"
                )
            begins = {topic: 0 if base.head is None else base.head.positions.get(topic, 0) for topic in until}
            firsts = {topic: (await reader.bounds(topic, partition))[0] for topic in until}
            ranges = {topic: (max(begins[topic], firsts[topic]), until[topic]) for topic in until}
            await feed.feed(replay, ranges)
            await replay.let_time_pass(kept.head.header)
        finally:
            await replay.stop()
        lost = {topic: first for topic, first in firsts.items() if first > begins[topic]}
        whole = not lost and (base.head is not None or not self._compacted.intersection(until))
        notes = self._notes(definition, lost, until, feed, outlet.put_aside)
        return self._compared(log, partition, kept, base, replay, ranges, whole, notes)

    def _check_ids(self, log: Changelog, partition: int, head: Head) -> None:
        for source, known in head.marks.get(_SOURCES, {}).items():
            if known is not None and known != self._ids.get(source):
                raise StateError(
                    f"{log.topic}[{partition}] is the state of a topic {source} that was deleted and made anew"
                )

    def _base(self, log: Changelog, partition: int, head: Head, until: Mapping[str, int]) -> Restored:
        if self._snapshots is None:
            return NOTHING
        place = snapshot.Place(log.topic, self._ids[log.topic], partition)
        found = snapshot.read(self._snapshots, place, head.version)
        if found is None or found.head is None:
            raise StateError(f"no snapshot of {log.topic}[{partition}] that could be used in {self._snapshots}")
        for topic, end in until.items():
            if (at := found.head.positions.get(topic, 0)) > end:
                raise StateError(
                    f"the snapshot {place.path(self._snapshots)} goes up to offset {at}, past the state's {end}"
                )
        return found

    def _notes(
        self, definition: Any, lost: Mapping[str, int], sources: Iterable[str], feed: ReplaySources, aside: int
    ) -> list[str]:
        notes = [
            f"{source} has no records before offset {first:,} any more: rows that events before it have touched "
            "cannot be verified"
            for source, first in lost.items()
        ]
        notes += [
            f"{source} is compacted: what was deleted in between cannot be replayed"
            for source in sources
            if source in self._compacted
        ]
        if isinstance(definition, Aggregation) and definition.idle is not None:
            notes.append("its windows also close by the clock (idle), which a replay does not know: rows may differ")
        elif definition.sequenced and definition.idle is not None:
            notes.append("inputs that are idle are not waited for, which a replay does not know: rows may differ")
        if feed.bad:
            notes.append(f"{feed.bad:,} records could not be decoded, and were left out")
        if aside or feed.ahead:
            notes.append(f"{aside + feed.ahead:,} events or results were put aside in the replay")
        return notes

    def _compared(
        self,
        log: Changelog,
        partition: int,
        kept: Restored,
        base: Restored,
        replay: Replay,
        offsets: Ranges,
        whole: bool,
        notes: list[str],
    ) -> Verified:
        assert kept.head is not None
        stored, rows = (kept.keys, kept.values), replay.settled()
        if rows is None:
            before = (base.keys, base.values) if base.head is not None else (NO_TEXTS, NO_TEXTS)
            rows = changed(before, replay.state.changes())
        else:
            stored = Replay(self._app.agents[log.stage], Dropping(self._codecs, self._limits), kept).settled() or stored
        part = _but_its_number if not whole and log.kind == "tables" else None
        compared = compare(stored, rows, show=self._show, part=part)
        replayed = replay.state.header()
        cut = filter(is_cut_number, {*kept.head.header, *replayed})
        header = compare_headers(kept.head.header, replayed, _CLOCKED.union(cut))
        first = [
            f"{readable(key, one)}; replayed: {_value(key, two)}"
            if one is not None
            else f"{readable(key, two)}; it is not kept"
            for key, one, two in compared.first
        ]
        return Verified(
            log.stage, partition, offsets, replay.events, compared, tuple(header), whole, tuple(notes), tuple(first)
        )


def _but_its_number(value: bytes) -> bytes:
    """A table's row without its number, which counts rows of before."""
    try:
        entry = entry_of(value)
        return bytes(entry.value) + str(entry.written).encode()
    except Exception:
        return value


def _value(key: bytes, value: bytes | None) -> str:
    return "none" if value is None else readable(key, value).partition(": ")[2]
