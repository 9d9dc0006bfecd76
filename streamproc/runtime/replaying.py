"""Replays a stage over one partition of its sources, into fresh state. Its results go nowhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from streamproc.avro.codec import Codec
from streamproc.avro.writer import RecordWriter
from streamproc.batch import Batch
from streamproc.columns import Columns, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.topic import Topic
from streamproc.errors import OversizedRecord
from streamproc.log.batch_builder import record_size
from streamproc.log.ports import DEFAULT_MESSAGE_LIMIT
from streamproc.process.state import State
from streamproc.record import Record
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.flow_task import FRONTIER, FrontState, Sequenced
from streamproc.runtime.repeats import Repeats
from streamproc.runtime.tasks import task_for
from streamproc.state.restore import Restored


class Dropping:
    """An outlet that encodes results as they would be sent, and drops them.

    Args:
        codecs: by topic name.
        limits: by topic name, how many bytes a record batch may have.
    """

    def __init__(self, codecs: Mapping[str, Codec], limits: Mapping[str, int]) -> None:
        self._codecs, self._limits = codecs, limits
        self._writers: dict[str, RecordWriter] = {}
        self.put_aside = 0  # events and results

    async def send(self, topic: Topic, records: Sequence[Record], *_: Any, **__: Any) -> None:
        encode, most = self._codecs[topic.name].encode, self._limits.get(topic.name, DEFAULT_MESSAGE_LIMIT)
        for record in records:
            if (size := record_size(topic.key_of(record), encode(record))) > most:
                raise OversizedRecord(topic.name, size, most)

    async def send_columns(self, topic: Topic, columns: Columns, timestamps: Longs, *_: Any, **__: Any) -> None:
        writer = self._writers.get(topic.name)
        if writer is None:
            most = self._limits.get(topic.name, DEFAULT_MESSAGE_LIMIT)
            writer = self._writers[topic.name] = RecordWriter(self._codecs[topic.name], topic, most=most)
        writer.write(columns, timestamps, None)

    async def dead_letter(self, *_: Any, **__: Any) -> None:
        self.put_aside += 1

    async def beat(self, *_: Any, **__: Any) -> None:
        """Nobody is to be told of time."""


class Replay:
    """Fresh state of one task, which is fed batches. Results that other stages have sent twice count once, as there.

    Args:
        base: the rows that it begins with.
    """

    def __init__(self, definition: Any, outlet: Dropping, base: Restored) -> None:
        self._clock = 0
        self._task = task_for(definition, outlet, lambda: self._clock)
        if isinstance(self._task, AgentTask):
            self._task.pause = _at_once
        state = self._task.state
        assert state is not None
        self.state: State = state
        self.events = 0
        self._repeats: defaultdict[str, Repeats] = defaultdict(Repeats)  # by topic
        if base.head is not None:
            state.restore(base.head.header, base.keys, base.values)
            for topic, marks in base.head.marks.get("repeats", {}).items():
                self._repeats[topic] = Repeats.restored(marks)
        self._idle = definition.idle if isinstance(definition, Aggregation) else None

    async def feed(self, batch: Batch, before: int) -> None:
        """Takes the rows of a batch whose offsets are below ``before``."""
        batch = batch.slice(0, int(batch.offsets.searchsorted(before)))
        if len(batch) and len(batch := self._repeats[batch.topic].fresh(batch)):
            await self._task.take(batch)
            self.events += len(batch)

    def time_of(self, topic: str) -> int:
        """How far one of several sources is, in event time."""
        front = self._task.front if isinstance(self._task, Sequenced) else None
        return 0 if front is None else front.time_of(topic)

    async def hear(self, topic: str, offset: int, origins: Longs, times: Longs) -> None:
        """Takes in how far partitions before a rekeying were, where the stage has to know."""
        if isinstance(self._task, Sequenced):
            await self._task.hear(topic, offset, origins, times)

    async def let_time_pass(self, header: Mapping[str, int | None]) -> None:
        """Lets event time go on by the clock, where inputs were idle, to where it is in the kept state."""
        if isinstance(self._task, Sequenced) and self._task.front.sequencer is not None:
            self._task.front.sequencer.reach(header[FRONTIER] or 0)
            await self._task.advance()
            return
        now, time = self.state.header().get("stream_time"), header.get("stream_time")
        if self._idle is None or time is None or now is None or time - now < self._idle:
            return
        self._clock += time - now
        await self._task.advance()

    def settled(self) -> tuple[Texts, Texts] | None:
        """All rows in a form that does not depend on cuts, where that of the changelog does; else None."""
        return self.state.settled() if isinstance(self.state, FrontState) else None

    async def stop(self) -> None:
        await self._task.stop()


async def _at_once(_: float) -> None:
    """In place of a retry's wait."""
