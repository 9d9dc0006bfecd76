"""Tasks: one agent or aggregation over one partition. The same under the worker and the test driver."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Protocol

import msgspec
import numpy as np

from streamproc.avro.writer import Misfits
from streamproc.batch import Batch, records_of
from streamproc.columns import Columns, Longs, Rows
from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.errors import AggregateError, RecordError
from streamproc.log.ports import Headers
from streamproc.process.accumulators.own import AggregateFailed, Failure
from streamproc.process.results import Closed
from streamproc.process.state import State
from streamproc.process.windowing import window_task
from streamproc.record import Record
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.outlet import Outlet, letter_for

Clock = Callable[[], int]
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


class AggregationTask:
    """Runs an engine of windows and sends what it gives."""

    def __init__(self, definition: Aggregation, outlet: Outlet, clock: Clock) -> None:
        self.definition = definition
        self.window = window_task(definition)
        self._outlet = outlet
        self._clock = clock
        self._partition: int | None = None  # of the source, once an event came
        self.late_events = 0  # so far

    @property
    def state(self) -> State | None:
        return self.window

    async def take(self, batch: Batch) -> None:
        if not len(batch):
            return
        closed = self.window.add(batch, self._clock())
        self._partition = batch.partition
        if closed.refused:
            await self._tell_refused(closed.refused, batch)
        if closed.late is not None:
            late = batch.take(closed.late.rows)
            self.late_events += len(late)
            counts = zip(closed.late.missed.tolist(), closed.late.of.tolist(), strict=True)
            await self._send_late(late, [(("missed", b"%d" % missed), ("of", b"%d" % of)) for missed, of in counts])
        await self._send(closed, batch.timestamps[closed.causes])

    async def advance(self) -> bool:
        """Results of windows that the clock closes are stamped with the clock."""
        now, before = self._clock(), self.window.stream_time
        closed = self.window.advance(now)
        if closed.refused:
            await self._tell_refused(closed.refused, None)
        await self._send(closed, np.full(len(closed.results), now, np.int64))
        return self.window.stream_time != before

    async def stop(self) -> None:
        """Nothing runs between batches."""

    async def _tell_refused(self, refused: Sequence[Failure], batch: Batch | None) -> None:
        """Puts events aside that a class of one's own did not take; of those of no batch at hand, where they lie."""
        app, stage, source = self.definition.sink.app, self.definition.name, self.definition.source.name
        records: dict[int, Record] = {}
        if batch is not None and len(rows := np.unique([f.row for f in refused if f.offset is None]).astype(np.int64)):
            records = dict(zip(rows.tolist(), batch.take(rows).records(), strict=True))
        for (row, offset), failures in groupby(refused, lambda failure: (failure.row, failure.offset)):
            found = list(failures)
            record = records.get(row)
            if batch is not None and record is not None:
                offset = int(batch.offsets[row])
            at = {"topic": source, "partition": self._partition, "offset": offset}
            letter = letter_for(AggregateError(_said(found)), app=app.name, stage=stage, **at)
            await self._outlet.dead_letter(msgspec.structs.replace(letter, traceback=_traceback(found)), record)

    async def _send_late(self, late: Batch, headers: list[Headers]) -> None:
        """Sends late events as they came; one that is too large for its topic, with its headers, goes aside."""
        records, timestamps = late.records(), late.timestamps.tolist()
        try:
            await self._outlet.send(self.definition.late, records, timestamps, headers)
            return
        except RecordError as error:
            if len(late) == 1:
                at = {"topic": late.topic, "partition": late.partition, "offset": int(late.offsets[0])}
                letter = letter_for(error, app=self.definition.sink.app.name, stage=self.definition.name, **at)  # type: ignore[arg-type]
                await self._outlet.dead_letter(letter, records[0])
                return
        for row in range(len(late)):
            await self._send_late(late.slice(row, row + 1), headers[row : row + 1])

    async def _send(self, closed: Closed, timestamps: Longs) -> None:
        if not len(closed.results):
            return
        results, partitions = closed.results, closed.partitions(self.definition.sink.partitions)
        if closed.broken:
            whole = np.delete(np.arange(len(results)), [failure.row for failure in closed.broken])
            for row, failures in groupby(sorted(closed.broken, key=_row), _row):
                found = list(failures)
                error = AggregateError(_said(found))
                await self._put_aside(results.take(slice(row, row + 1)), error, _traceback(found))
            results, timestamps, partitions = results.take(whole), timestamps[whole], partitions[whole]
        if len(results):
            await self._send_fitting(results, timestamps, partitions)

    async def _send_fitting(self, columns: Columns, timestamps: Longs, partitions: Longs) -> None:
        """Sends results; those that do not fit their schema (a count past 32 bits into an ``int``) go aside."""
        try:
            await self._outlet.send_columns(self.definition.sink, columns, timestamps, partitions)
        except RecordError as error:
            if len(columns) == 1:
                await self._put_aside(columns, error)
                return
            for rows in _parts(len(columns), error):
                if len(some := columns.take(rows)):
                    await self._send_fitting(some, timestamps[rows], partitions[rows])

    async def _put_aside(self, columns: Columns, error: RecordError, traceback: str | None = None) -> None:
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


def _parts(length: int, error: RecordError) -> list[Rows]:
    """How to try again: without the rows that are to blame, and each of those alone; in halves, where nobody knows."""
    if not isinstance(error, Misfits):
        return [slice(0, length // 2), slice(length // 2, length)]
    fit = np.delete(np.arange(length), error.rows)
    return [fit, *(slice(row, row + 1) for row in error.rows.tolist())]


def task_for(definition: Agent | Aggregation, outlet: Outlet, clock: Clock) -> Task:
    """A new task, with empty state."""
    if isinstance(definition, Aggregation):
        return AggregationTask(definition, outlet, clock)
    return AgentTask(definition, outlet)


def needed_columns(definition: Agent | Aggregation) -> frozenset[str] | None:
    """The fields that a definition reads, or None for all."""
    return window_task(definition).columns if isinstance(definition, Aggregation) else None
