"""Tasks: one agent or aggregation over one partition. The same under the worker and the test driver."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import msgspec
import numpy as np

from streamproc.batch import Batch, records_of
from streamproc.columns import Causes, Columns, Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.app import Stage
from streamproc.define.pipeline import Pipeline
from streamproc.define.topic import Topic
from streamproc.errors import AggregateError, RecordError
from streamproc.log.ports import Headers
from streamproc.process.accumulators.own import AggregateFailed, Failure
from streamproc.process.disk_rows import Store
from streamproc.process.front import Front, fields_read, merged
from streamproc.process.results import Closed
from streamproc.process.state import State
from streamproc.process.windowing import window_task
from streamproc.record import Record
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.causes import causes_of
from streamproc.runtime.clock import Clock, ClockOf
from streamproc.runtime.flow_task import FlowTask, FrontState, Sequenced, put_event_aside
from streamproc.runtime.outlet import Outlet, letter_for
from streamproc.runtime.sending import send_fitting
from streamproc.runtime.shared_tables import SharedTable

_TEXT_LIMIT = 8000  # characters of a traceback


class Task(Protocol):
    """Takes batches of one partition, in order."""

    @property
    def state(self) -> State | None:
        """What it keeps; None where it keeps nothing."""

    async def take(self, batch: Batch) -> None:
        """Returns when every event of the batch is done and its results are handed to the outlet."""

    async def advance(self) -> bool:
        """Lets time go on by the clock. Whether that changed anything."""

    async def stop(self) -> None: ...


class AggregationTask(Sequenced):
    """Runs an engine of windows and sends what it gives."""

    def __init__(self, definition: Aggregation, outlet: Outlet, clock: Clock, clock_of: ClockOf | None = None) -> None:
        self.definition = definition
        self.front = Front(definition, clock_of or (lambda topic: clock()))
        self._ordered = self.front.sequencer is not None
        self._plain = not self._ordered and not definition.inputs[0].steps
        # What is in order is never late, and has waited for the grace already.
        self.window = window_task(replace(definition, grace=0) if self._ordered else definition)
        self._state: State = FrontState(self.front, self.window) if self._ordered else self.window
        self._outlet = outlet
        self._clock = clock
        self._partition: int | None = None  # of the source, once an event came
        self.late_events = 0  # so far

    @property
    def state(self) -> State | None:
        return self._state

    async def take(self, batch: Batch) -> None:
        if not len(batch):
            return
        self._partition = batch.partition
        if self._plain:
            await self._take(batch, batch, None)
            return
        for number in self.front.inputs_of(batch.topic):
            stepped = self.front.step(number, batch)
            for row, error in stepped.failed:
                await put_event_aside(self._outlet, self.definition, batch, row, error)
            if self._ordered:
                late = batch.take(self.front.add(number, batch, stepped))
                self.late_events += len(late)
                await self._send_late(self.definition.lates[number], late, None, None)
            elif len(rows := stepped.rows):
                columns, stamps = stepped.events.columns, stepped.events.stamps
                some = Batch(batch.topic, batch.partition, batch.record, batch.offsets[rows], stamps, columns=columns)
                await self._take(some, batch, rows)
        if self._ordered:
            await self._release()

    async def hear(self, topic: str, offset: int, origins: Longs, times: Longs) -> None:
        self.front.hear(topic, offset, origins, times)
        await self._release()

    async def _release(self) -> None:
        """Takes in the rows whose turn it is, and closes what nothing more can come for."""
        assert self.front.sequencer is not None
        released, now = self.front.release(), self._clock()
        if released is not None:
            source, partition = self.definition.source, self._partition or 0
            columns = merged(released)
            batch = Batch(source.name, partition, source.record, released.offsets, released.stamps, columns=columns)
            closed = self.window.add(batch, now)
            await self._send_closed(closed, batch.timestamps[closed.causes])
        closed = self.window.reach(self.front.sequencer.frontier)
        await self._send_closed(closed, np.full(len(closed.results), now, np.int64))

    async def _send_closed(self, closed: Closed, timestamps: Longs) -> None:
        """Sends what no event of a batch at hand has brought."""
        if closed.refused:
            await self._tell_refused(closed.refused, None)
        await self._send(closed, timestamps, None)

    async def _take(self, batch: Batch, came: Batch, rows: Longs | None) -> None:
        """Takes in rows of one log: ``batch`` is what the windows see, ``came`` the batch that they are rows of."""
        closed = self.window.add(batch, self._clock())
        if closed.refused:
            await self._tell_refused(closed.refused, batch if rows is None else came, rows)
        if closed.late is not None:
            late_rows = closed.late.rows if rows is None else rows[closed.late.rows]
            late = came.take(late_rows)
            self.late_events += len(late)
            counts = zip(closed.late.missed.tolist(), closed.late.of.tolist(), strict=True)
            headers: list[Headers] = [(("missed", b"%d" % missed), ("of", b"%d" % of)) for missed, of in counts]
            await self._send_late(self.definition.late, late, headers, causes_of(late.offsets))
        await self._send(closed, batch.timestamps[closed.causes], causes_of(batch.offsets[closed.causes]))

    async def advance(self) -> bool:
        """Results of windows that the clock closes are stamped with the clock."""
        before = self.window.stream_time
        if self.front.sequencer is not None:
            frontier = self.front.sequencer.frontier
            await self._release()
            return self.front.sequencer.frontier != frontier
        now = self._clock()
        closed = self.window.advance(now)
        await self._send_closed(closed, np.full(len(closed.results), now, np.int64))
        return self.window.stream_time != before

    async def stop(self) -> None:
        """Nothing runs between batches."""

    async def _tell_refused(self, refused: Sequence[Failure], batch: Batch | None, rows: Longs | None = None) -> None:
        """Puts events aside that a class of one's own did not take; of those of no batch at hand, where they lie.
        ``rows``: the rows of the batch that the failures' rows are, where they are not the same.
        """
        app, stage, source = self.definition.sink.app, self.definition.name, self.definition.source.name
        records: dict[int, Record] = {}
        if batch is not None and rows is not None:
            refused = [f if f.offset is not None else f._replace(row=int(rows[f.row])) for f in refused]
        if batch is not None and len(some := np.unique([f.row for f in refused if f.offset is None]).astype(np.int64)):
            records = dict(zip(some.tolist(), batch.take(some).records(), strict=True))
        for (row, offset), failures in groupby(refused, lambda failure: (failure.row, failure.offset)):
            found = list(failures)
            record = records.get(row)
            if batch is not None and record is not None:
                offset = int(batch.offsets[row])
            at = {"topic": source, "partition": self._partition, "offset": offset}
            letter = letter_for(AggregateError(_said(found)), app=app.name, stage=stage, **at)
            await self._outlet.dead_letter(msgspec.structs.replace(letter, traceback=_traceback(found)), record)

    async def _send_late(self, topic: Topic, late: Batch, headers: list[Headers] | None, causes: Causes | None) -> None:
        """Sends late events as they came; one that is too large for its topic, with its headers, goes aside."""
        if not len(late):
            return
        try:
            await self._outlet.send(topic, late.records(), late.timestamps.tolist(), headers, causes)
            return
        except RecordError as error:
            if len(late) == 1:
                await put_event_aside(self._outlet, self.definition, late, 0, error)
                return
        for row in range(len(late)):
            one = slice(row, row + 1)
            some = None if causes is None else causes.take(one)
            await self._send_late(topic, late.slice(row, row + 1), None if headers is None else headers[one], some)

    async def _send(self, closed: Closed, timestamps: Longs, causes: Causes | None) -> None:
        if not len(closed.results):
            return
        sink = self.definition.sink
        results, partitions = closed.results, closed.partitions(sink.partitions)
        if closed.broken:
            whole = np.delete(np.arange(len(results)), [failure.row for failure in closed.broken])
            for row, failures in groupby(sorted(closed.broken, key=_row), _row):
                found = list(failures)
                error = AggregateError(_said(found))
                await self._put_aside(results.take(slice(row, row + 1)), row, error, _traceback(found))
            results, timestamps, partitions = results.take(whole), timestamps[whole], partitions[whole]
            causes = None if causes is None else causes.take(whole)
        await send_fitting(self._outlet, sink, results, timestamps, self._put_aside, partitions, causes)

    async def _put_aside(self, columns: Columns, _: int, error: RecordError, traceback: str | None = None) -> None:
        sink = self.definition.sink
        (record,) = records_of(columns, sink.record)
        letter = letter_for(error, app=sink.app.name, stage=self.definition.name, topic=sink.name)
        value = msgspec.json.encode(record)
        await self._outlet.dead_letter(msgspec.structs.replace(letter, value=value, traceback=traceback))


def _row(failure: Failure) -> int:
    return failure.row


def _said(failures: Sequence[Failure]) -> str:
    return "; ".join(map(str, failures))


def _traceback(failures: Sequence[Failure]) -> str | None:
    """Of the first one, where it is user code's."""
    if isinstance(failures[0].error, AggregateFailed):
        return None
    text = "".join(traceback.format_exception(failures[0].error))
    return text[-_TEXT_LIMIT:]


AnyTask = AggregationTask | FlowTask | AgentTask


def task_for(
    definition: Stage,
    outlet: Outlet,
    clock: Clock,
    clock_of: ClockOf | None = None,
    shared: SharedTable | None = None,
    store: Store | None = None,
) -> AnyTask:
    """A new task, with empty state.

    Args:
        clock_of: the clock of each source, where they differ.
        shared: the table that is everywhere, of stages that have one.
        store: of an agent's tables on disk; None: they are in memory, too.
    """
    if isinstance(definition, Aggregation):
        return AggregationTask(definition, outlet, clock, clock_of)
    if isinstance(definition, Pipeline):
        return FlowTask(definition, outlet, clock_of or (lambda topic: clock()), shared)
    return AgentTask(definition, outlet, store)


def needed_columns(definition: Stage, topic: Topic | None = None) -> frozenset[str] | None:
    """The fields of a topic (the first source, when None) that a definition reads, or None for all."""
    if not isinstance(definition, Aggregation | Pipeline):
        return None
    return fields_read(definition, topic or definition.source)
