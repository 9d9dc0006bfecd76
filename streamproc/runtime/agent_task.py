"""Runs an agent's function over one partition.

The function runs as an asyncio task and asks its stream for events; asking for the next one says that the last one is
done, and only then do its results go out. So an event's results go out whole or not at all, and an event that raises
costs nobody else anything: what it wrote to tables is undone, the function is started anew, and the agent's policy says
what becomes of the event. It comes again, it becomes a dead letter, or the worker ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Any, cast

import msgspec
import numpy as np
import polars as pl

from streamproc.batch import Batch, records_of
from streamproc.columns import Causes, Columns, Longs
from streamproc.define.agent import Agent
from streamproc.define.errors import Retry
from streamproc.define.table import tables_of_task
from streamproc.errors import RecordError, StreamprocError
from streamproc.process.disk_rows import MemoryStore, Store
from streamproc.process.measures import values_of
from streamproc.process.state import State
from streamproc.process.tables import TableState
from streamproc.record import Record
from streamproc.runtime.causes import causes_of
from streamproc.runtime.outlet import Outlet, letter_for
from streamproc.stream import Stream

_SLICE = 0.005  # seconds that one agent may hold the event loop between events
_PATIENCE = 1.0  # seconds for an agent that is cancelled to end, before it is cancelled again
_FIRST = np.zeros(1, np.int64)  # the number of an event's only result
_log = logging.getLogger("streamproc.worker")


class AgentStopped(StreamprocError):
    """An agent's function cannot go on: it raised before it read anything, returned, or was stopped."""


class AgentTask:
    """One agent over one partition.

    Args:
        agent: the definition.
        outlet: where results and dead letters go.
        store: of tables on disk. None: they are in memory, too.
    """

    def __init__(self, agent: Agent, outlet: Outlet, store: Store | None = None) -> None:
        self.agent = agent
        self.retries = 0  # so far
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep  # between tries
        self._outlet = outlet
        tables = agent.source.app.tables
        on_disk = [table.name for table in tables.values() if table.store == "disk"]
        self.tables = TableState(tables, (store or MemoryStore()) if on_disk else None, on_disk)
        self._times: Longs | None = None  # of the batch in work, when its rows are read one by one and time matters
        self._todo: deque[Batch] = deque()
        self._batch: Batch | None = None  # in work
        self._row = -1  # in work, when the function reads rows; -1 when it reads batches
        self._asked = False  # whether the function has asked for anything since it was started
        self._results: list[Any] = []  # of the event or batch in work
        self._failures = 0  # how often it has raised
        self._again = False  # whether it is to come once more, and when
        self._again_at = 0.0
        self._parts = 0  # how many of the batches to do, from the first on, are parts of one that raised
        self._is_part = False  # whether the one in work is
        self._wanted: asyncio.Future[None] | None = None  # the function waits for input
        self._done: asyncio.Future[None] | None = None  # take() waits for the function
        self._runner: asyncio.Task[None] | None = None
        self._failure: Exception | None = None  # what no dead letter can mend
        self._shared_at = 0.0  # when others last had their turn

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

    @property
    def state(self) -> State:
        return self.tables

    @property
    def progress(self) -> Hashable:
        """How far it is: something else whenever it has come further."""
        batch = self._batch
        return None if batch is None else (int(batch.offsets[0]), len(batch), self._row)

    @property
    def waits_to_retry(self) -> bool:
        """Whether what raised is to come once more, after a while."""
        return self._again

    async def advance(self) -> bool:
        """Agents have no clock of their own."""
        return False

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
            self._times = self._event_times(self._batch) if self.tables.timed else None
        if self._again:
            await self._wait()
            self._again = False
            if self._row < 0 and self.tables.timed:
                self._times = self._event_times(self._batch)
            self._row = max(self._row, 0)
        else:
            self._row += 1
        if self._times is not None:
            self.tables.advance(int(self._times[self._row]))
        return self._batch, self._row

    async def next_batch(self) -> Batch:
        """The next batch, when the last one is done and its results are out; after single events, what is left of
        theirs.
        """
        await self._finish(keep_rest=False)
        await self._share()
        if self._again and self._batch is not None:
            await self._wait()
            whole = self._batch.slice(max(self._row, 0), len(self._batch))
            self._again = False
        else:
            whole = await self._next()
        self._batch, self._row = whole, -1
        if self.tables.timed:
            n = self.tables.advance_batch(self._event_times(whole))
            if n < len(whole):
                self._batch = whole.slice(0, n)
                self._todo.appendleft(whole.slice(n, len(whole)))
                self._parts += self._is_part
        return self._batch

    def _event_times(self, batch: Batch) -> Longs:
        time = self.agent.source.time
        return values_of(batch.column(time), np.int64).data if time else batch.timestamps

    async def _next(self) -> Batch:
        while not self._todo:
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
            self._shared_at = asyncio.get_running_loop().time()
        self._is_part = self._parts > 0
        self._parts -= self._is_part
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
        if batch is None or self._again:
            return
        try:
            self.tables.check()
            if self._results:
                await self._send()
            self.tables.commit()
            self._failures = 0
        except RecordError as error:
            await self._failed(error)
        except Exception as error:
            await self._give_up(error)
        if self._again or self._batch is not batch:  # it comes once more, whole or in halves
            return
        rest = self._row + 1 if self._row >= 0 else len(batch)
        if rest < len(batch):
            if keep_rest:
                return
            self._todo.appendleft(batch.slice(rest, len(batch)))
        self._batch = None

    async def _send(self) -> None:
        assert self._batch is not None
        order, causes = self._causes()
        found = _columns(self._results)
        if found is not None:
            columns, stamps = found if order is None else (found[0].take(order), found[1][order])
            for sink in self.agent.sinks:  # all of one type: what does not fit is refused by the first already
                await self._outlet.send_columns(sink, columns, stamps, causes=causes)
        else:
            records, timestamps = self._records()
            if order is not None:
                records, timestamps = ([column[row] for row in order.tolist()] for column in (records, timestamps))
            for sink in self.agent.sinks:
                await self._outlet.send(sink, records, timestamps, causes=causes)
        self._results = []  # not before: an agent may time out its asking, and ask again

    def _causes(self) -> tuple[Longs | None, Causes | None]:
        """The events that caused the results in work, and the order by these, where it is another one.

        What is given for a batch belongs to the events of its own rows. Of a record, or of rows that are not the
        batch's, nobody knows whether they would be given for the same events with batches cut otherwise.
        """
        batch = self._batch
        assert batch is not None
        if self._row >= 0:
            count = sum(len(result) if isinstance(result, Batch) else 1 for result in self._results)
            if count == 1:
                return None, Causes(batch.offsets[self._row : self._row + 1], _FIRST)
            return None, Causes(np.full(count, batch.offsets[self._row]), np.arange(count))
        first, last = int(batch.offsets[0]), int(batch.offsets[-1])
        for result in self._results:
            if not isinstance(result, Batch) or (result.topic, result.partition) != (batch.topic, batch.partition):
                return None, None
            if len(result) and not first <= int(result.offsets.min()) <= int(result.offsets.max()) <= last:
                return None, None
        offsets = np.concatenate([result.offsets for result in self._results])
        if (offsets[1:] >= offsets[:-1]).all():
            return None, causes_of(offsets)
        order = np.argsort(offsets, kind="stable")
        return order, causes_of(offsets[order])

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
        tables_of_task.set(self.tables)
        while True:
            self._asked = False
            if self._again:
                await self._wait()
            try:
                await self._call()
            except (KeyboardInterrupt, SystemExit, GeneratorExit, AgentStopped):
                raise
            except BaseException as error:  # of a native library's panics, and of futures that others cancelled, too
                if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                if not self._again and (self._batch is None or not self._asked):
                    raise AgentStopped(f"agent {self.agent.name!r} raised outside any event: {error!r}") from error
                await self._failed(error)
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
        if self._batch is None or self._again or not self._asked:
            raise AgentStopped(f"agent {self.agent.name!r} yielded before it read anything: results belong to an event")
        record = self.agent.sinks[0].record
        if isinstance(value, Batch):
            return _typed(value, record)
        if not isinstance(value, record):
            raise TypeError(
                f"agent {self.agent.name!r} yielded {type(value).__name__}; its sink takes {record.__name__}"
            )
        return value

    async def _failed(self, error: BaseException) -> None:
        """Undoes what was in work, and does what the agent's policy says."""
        batch, policy = self._batch, self.agent.on_error
        assert batch is not None
        if self.tables.failure is not None:  # of the disk, whatever became of it in the function: no event's fault
            await self._give_up(self.tables.failure)
        self.tables.rollback()
        self._results, self._again = [], False
        self._failures += 1
        several = self._row < 0 and len(batch) > 1
        if isinstance(policy, Retry):
            if self._failures <= policy.times and not (several and self._is_part):
                self._come_again(policy, error)
                return
            policy = policy.then
        failures, self._failures = self._failures, 0
        if several:
            self._halve(batch)
        elif policy == "stop":
            await self._give_up(self._stopped(error, failures))
        else:
            await self._put_aside(error, batch, failures)

    def _come_again(self, policy: Retry, error: BaseException) -> None:
        """Lets the event or batch in work come once more, after a while."""
        wait = policy.wait(self._failures, random.random())
        self.retries += 1
        self._again, self._again_at = True, asyncio.get_running_loop().time() + wait
        said = "agent %s: %s raised, try %d of %d follows in %.3g s: %r"
        _log.warning(said, self.agent.name, self._place(), self._failures + 1, policy.times + 1, wait, error)

    async def _wait(self) -> None:
        """Returns when what raised is to come once more. May be cancelled, and called again."""
        left = self._again_at - asyncio.get_running_loop().time()
        if left > 0:
            await self.pause(left)
            self._again_at = 0.0

    def _halve(self, batch: Batch) -> None:
        """Those of its rows that raise when they come alone are to blame."""
        middle = len(batch) // 2
        self._todo.extendleft((batch.slice(middle, len(batch)), batch.slice(0, middle)))
        self._parts += 2
        self._batch = None

    async def _put_aside(self, error: BaseException, batch: Batch, failures: int) -> None:
        """Makes the event in work a dead letter."""
        row = max(self._row, 0)
        if self._row < 0:
            self._batch = None
        offset = int(batch.offsets[row])
        app = self.agent.source.app
        if self.agent.source is app.dead_letters:  # a letter about a letter would come back here, for ever
            _log.error("agent %s: dead letter %d: %r", self.agent.name, offset, error)
            return
        letter = letter_for(
            error, app=app.name, stage=self.agent.name, topic=batch.topic, partition=batch.partition, offset=offset
        )
        if failures > 1:
            letter = msgspec.structs.replace(letter, error=f"{letter.error} (tried {failures} times)")
        try:
            await self._outlet.dead_letter(letter, batch.records()[row])
        except Exception as broken:
            await self._give_up(broken)

    def _stopped(self, error: BaseException, failures: int) -> AgentStopped:
        tried = f" (tried {failures} times)" if failures > 1 else ""
        stopped = AgentStopped(
            f"agent {self.agent.name!r} stops at {self._place()}{tried}: {type(error).__name__}: {error}\n"
            "mend what raised and start the worker again: this event comes again, and those behind it have waited"
        )
        stopped.__cause__ = error
        return stopped

    def _place(self) -> str:
        """Where what is in work lies."""
        batch = self._batch
        assert batch is not None
        first = last = int(batch.offsets[max(self._row, 0)])
        if self._row < 0:
            last = int(batch.offsets[-1])
        return f"{batch.topic}[{batch.partition}] offset {first}{f' to {last}' if last > first else ''}"

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runner = None
        self.tables.rollback()  # of an event that the function did not get done with
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
