"""Runs an agent's function over one partition.

The function runs as an asyncio task and asks its stream for events; asking for the next one says that the last one is
done, and only then do its results go out. So an event's results go out whole or not at all, and an event that raises
costs nobody else anything: it becomes a dead letter, the function is started anew, and the next event is its first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import polars as pl

from streamproc.batch import Batch, records_of
from streamproc.columns import Columns, Longs
from streamproc.define.agent import Agent
from streamproc.define.table import tables_of_task
from streamproc.errors import RecordError, StreamprocError
from streamproc.record import Record
from streamproc.runtime.outlet import Outlet, letter_for
from streamproc.stream import Stream

_SLICE = 0.005  # seconds that one agent may hold the event loop between events
_PATIENCE = 1.0  # seconds for an agent that is cancelled to end, before it is cancelled again
_log = logging.getLogger("streamproc.worker")


class AgentStopped(StreamprocError):
    """An agent's function cannot go on: it raised before it read anything, returned, or was stopped."""


class AgentTask:
    """One agent over one partition.

    Args:
        agent: the definition.
        outlet: where results and dead letters go.
    """

    def __init__(self, agent: Agent, outlet: Outlet) -> None:
        self.agent = agent
        self._outlet = outlet
        self._todo: deque[Batch] = deque()
        self._batch: Batch | None = None  # in work
        self._row = -1  # in work, when the function reads rows; -1 when it reads batches
        self._asked = False  # whether the function has asked for anything since it was started
        self._results: list[Any] = []  # of the event or batch in work
        self._wanted: asyncio.Future[None] | None = None  # the function waits for input
        self._done: asyncio.Future[None] | None = None  # take() waits for the function
        self._runner: asyncio.Task[None] | None = None
        self._failure: Exception | None = None  # what no dead letter can mend
        self._shared_at = 0.0

    async def take(self, batch: Batch) -> None:
        """Feeds a batch and waits until its last event is done.

        Raises:
            AgentStopped: the function cannot go on, or :meth:`stop` came in between.
            Exception: whatever the outlet raised that is no RecordError.
        """
        if not len(batch):
            return
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        self._todo.append(batch)
        self._done = loop.create_future()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name=f"agent {self.agent.name}[{batch.partition}]")
            self._runner.add_done_callback(self._runner_ended)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        await self._done

    async def advance(self) -> None:
        """Agents have no clock of their own."""

    async def stop(self) -> None:
        """Cancels the function. What is in work gives no results."""
        runner = self._runner
        while runner is not None and not runner.done():
            runner.cancel()
            await asyncio.wait([runner], timeout=_PATIENCE)

    # What the stream asks.

    async def next_row(self) -> tuple[Batch, int]:
        """The next event, when the last one is done and its results are out."""
        await self._finish(keep_rest=True)
        await self._share()
        if self._batch is None:
            self._batch, self._row = await self._next(), -1
        self._row += 1
        return self._batch, self._row

    async def next_batch(self) -> Batch:
        """The next batch, when the last one is done and its results are out; after single events, what is left of
        theirs.
        """
        await self._finish(keep_rest=False)
        await self._share()
        self._batch, self._row = await self._next(), -1
        return self._batch

    async def _next(self) -> Batch:
        while not self._todo:
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._todo.popleft()

    async def _share(self) -> None:
        """Lets others run now and then: an agent that never waits would hold the loop for a whole batch."""
        now = asyncio.get_running_loop().time()
        if now - self._shared_at > _SLICE:
            await asyncio.sleep(0)
            self._shared_at = asyncio.get_running_loop().time()

    async def _finish(self, *, keep_rest: bool) -> None:
        """Sends the results of what was in work. ``_batch`` remains only while it has rows to come and they are to be
        kept there.
        """
        self._asked = True
        batch = self._batch
        if batch is None:
            return
        try:
            if self._results:
                await self._send()
        except RecordError as error:
            await self._put_aside(error)
        except Exception as error:
            await self._give_up(error)
        if self._batch is not batch:  # it was put aside, and its halves are to do
            return
        rest = self._row + 1 if self._row >= 0 else len(batch)
        if rest < len(batch):
            if keep_rest:
                return
            self._todo.appendleft(batch.slice(rest, len(batch)))
        self._batch = None

    async def _send(self) -> None:
        assert self._batch is not None
        found = _columns(self._results)
        if found is not None:
            for sink in self.agent.sinks:  # all of one type: what does not fit is refused by the first already
                await self._outlet.send_columns(sink, *found)
        else:
            records, timestamps = self._records()
            for sink in self.agent.sinks:
                await self._outlet.send(sink, records, timestamps)
        self._results = []  # not before: an agent may time out its asking, and ask again

    def _records(self) -> tuple[list[Record], list[int]]:
        assert self._batch is not None
        records: list[Record] = []
        timestamps: list[int] = []
        for result in self._results:
            if isinstance(result, Batch):
                records += result.records()
                timestamps += result.timestamps.tolist()
            else:
                records.append(result)
                timestamps.append(int(self._batch.timestamps[self._row]))
        return records, timestamps

    async def _give_up(self, error: Exception) -> None:
        """The outlet is broken, and the function can do nothing about it: take() raises, the function waits for its
        end.
        """
        self._failure = error
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        await asyncio.get_running_loop().create_future()

    # The function's life.

    async def _run(self) -> None:
        tables_of_task.set({})
        while True:
            self._asked = False
            try:
                await self._call()
            except (KeyboardInterrupt, SystemExit, GeneratorExit, AgentStopped):
                raise
            except BaseException as error:  # of a native library's panics, and of futures that others cancelled, too
                if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                if self._batch is None or not self._asked:
                    raise AgentStopped(f"agent {self.agent.name!r} raised outside any event: {error!r}") from error
                await self._put_aside(error)
            else:
                raise AgentStopped(f"agent {self.agent.name!r} returned: its loop over the stream must not end")

    async def _call(self) -> None:
        result = self.agent.function(Stream(self))
        if not hasattr(result, "__aiter__"):
            await result
            return
        generator = cast(AsyncIterator[Any], result)
        try:
            async for value in generator:
                self._results.append(self._checked(value))
        finally:
            await generator.aclose()  # type: ignore[attr-defined]

    def _checked(self, value: Any) -> Any:
        if self._batch is None or not self._asked:
            raise AgentStopped(f"agent {self.agent.name!r} yielded before it read anything: results belong to an event")
        record = self.agent.sinks[0].record
        if isinstance(value, Batch):
            return _typed(value, record)
        if not isinstance(value, record):
            raise TypeError(
                f"agent {self.agent.name!r} yielded {type(value).__name__}; its sink takes {record.__name__}"
            )
        return value

    async def _put_aside(self, error: BaseException) -> None:
        """Makes the event in work a dead letter; of a batch in work, those rows that raise when they come alone."""
        batch, self._results = self._batch, []
        assert batch is not None
        if self._row < 0:
            self._batch = None
            if len(batch) > 1:
                middle = len(batch) // 2
                self._todo.extendleft((batch.slice(middle, len(batch)), batch.slice(0, middle)))
                return
        row = max(self._row, 0)
        offset = int(batch.offsets[row])
        app = self.agent.source.app
        if self.agent.source is app.dead_letters:  # a letter about a letter would come back here, for ever
            _log.error("agent %s: dead letter %d: %r", self.agent.name, offset, error)
            return
        letter = letter_for(
            error, app=app.name, stage=self.agent.name, topic=batch.topic, partition=batch.partition, offset=offset
        )
        try:
            await self._outlet.dead_letter(letter, batch.records()[row])
        except Exception as broken:
            await self._give_up(broken)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runner = None
        error = None if runner.cancelled() else runner.exception()
        if self._failure is None:
            stopped = AgentStopped(f"agent {self.agent.name!r} was stopped")
            self._failure = error if isinstance(error, Exception) else stopped
        if self._done is not None and not self._done.done():
            self._done.set_exception(self._failure)


def _typed(batch: Batch, record: type[Record]) -> Batch:
    """The batch as the sink takes it. Raises InvalidRecord where its columns are not the record's fields."""
    typed = batch.as_type(record)
    if _made_of_columns(typed):
        records_of(typed.held().take(slice(0, 0)), record)
    return typed


def _columns(results: list[Any]) -> tuple[Columns, Longs] | None:
    """Results as columns and their timestamps, where all are batches of the same columns."""
    if not all(isinstance(result, Batch) and _made_of_columns(result) for result in results):
        return None
    if len(results) == 1:
        return results[0].held(), results[0].timestamps
    names = results[0].columns
    try:
        frame = pl.concat([batch.frame.select(names) for batch in results])
    except pl.exceptions.PolarsError:  # of different types: each value is judged by itself
        return None
    return Columns.of(frame), np.concatenate([batch.timestamps for batch in results])


def _made_of_columns(batch: Batch) -> bool:
    return batch._columns is not None
