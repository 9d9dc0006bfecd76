"""Tasks: one agent or aggregation over one partition. The same under the worker and the test driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import polars as pl

from streamproc.batch import Batch, records_of
from streamproc.columns import Columns
from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.errors import RecordError
from streamproc.process.windowing import WindowTask
from streamproc.runtime.agent_task import AgentTask
from streamproc.runtime.outlet import Outlet, letter_for

Clock = Callable[[], int]


class Task(Protocol):
    """Takes batches of one partition, in order."""

    async def take(self, batch: Batch) -> None:
        """Returns when every event of the batch is done and its results are handed to the outlet."""

    async def advance(self) -> None:
        """Lets time go on by the clock."""

    async def stop(self) -> None: ...


class AggregationTask:
    """Runs a :class:`WindowTask` and sends what it gives."""

    def __init__(self, definition: Aggregation, outlet: Outlet, clock: Clock) -> None:
        self.definition = definition
        self.window = WindowTask(definition)
        self._outlet = outlet
        self._clock = clock
        self.late_events = 0  # so far

    async def take(self, batch: Batch) -> None:
        if not len(batch):
            return
        closed = self.window.add(batch, self._clock())
        if closed.late is not None:
            late = batch.take(closed.late.rows)
            self.late_events += len(late)
            counts = zip(closed.late.missed.tolist(), closed.late.of.tolist(), strict=True)
            headers = [(("missed", str(missed).encode()), ("of", str(of).encode())) for missed, of in counts]
            await self._outlet.send(self.definition.late, late.records(), late.timestamps.tolist(), headers)
        await self._send(closed.results, batch.timestamps[closed.causes].tolist())

    async def advance(self) -> None:
        """Results of windows that the clock closes are stamped with the clock."""
        now = self._clock()
        results = self.window.advance(now)
        await self._send(results, [now] * len(results))

    async def stop(self) -> None:
        """Nothing runs between batches."""

    async def _send(self, frame: pl.DataFrame, timestamps: list[int]) -> None:
        """Sends results; those that do not fit their schema (a count past 32 bits into an ``int``) go aside."""
        if not len(frame):
            return
        sink = self.definition.sink
        records = records_of(Columns.of(frame), sink.record)
        try:
            await self._outlet.send(sink, records, timestamps)
            return
        except RecordError:
            pass
        for record, timestamp in zip(records, timestamps, strict=True):
            try:
                await self._outlet.send(sink, [record], [timestamp])
            except RecordError as error:
                letter = letter_for(error, app=sink.app.name, stage=self.definition.name, topic=sink.name)
                await self._outlet.dead_letter(msgspec.structs.replace(letter, value=msgspec.json.encode(record)))


def task_for(definition: Agent | Aggregation, outlet: Outlet, clock: Clock) -> Task:
    """A new task, with empty state."""
    if isinstance(definition, Aggregation):
        return AggregationTask(definition, outlet, clock)
    return AgentTask(definition, outlet)


def needed_columns(definition: Agent | Aggregation) -> frozenset[str] | None:
    """The fields that a definition reads, or None for all."""
    return WindowTask(definition).columns if isinstance(definition, Aggregation) else None
