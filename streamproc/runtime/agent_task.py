"""Runs an agent's function over one partition.

The function runs as an asyncio task and asks its stream for events; asking for the next one says that the last one is
done, and only then do its results go out. So an event's results go out whole or not at all, and an event that raises
costs nobody else anything: it becomes a dead letter, the function is started anew, and the next event is its first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, cast

from streamproc.batch import Batch
from streamproc.define.agent import Agent
from streamproc.define.table import tables_of_task
from streamproc.errors import StreamprocError
from streamproc.record import Record
from streamproc.runtime.outlet import Outlet, letter_for
from streamproc.stream import Stream

_SLICE = 0.005  # seconds that one agent may hold the event loop between events


class AgentStopped(StreamprocError):
    """An agent's function cannot go on: it raised before it read anything, or returned."""


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
        self._yielded_at = 0.0

    async def take(self, batch: Batch) -> None:
        """Feeds a batch and waits until its last event is done.

        Raises:
            AgentStopped: the function cannot go on.
        """
        if not len(batch):
            return
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
        """Cancels the function."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None

    # What the stream asks.

    async def next_row(self) -> tuple[Batch, int]:
        """The next event, when the last one is done and its results are out."""
        self._asked = True
        if self._batch is not None:
            await self._finish()
            self._row += 1
            if self._row < len(self._batch):
                await self._share()
                return self._batch, self._row
            self._batch = None
        self._batch, self._row = await self._next(), 0
        return self._batch, 0

    async def next_batch(self) -> Batch:
        """The next batch, when the last one is done and its results are out."""
        self._asked = True
        await self._finish()
        self._batch = None
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
        if now - self._yielded_at > _SLICE:
            await asyncio.sleep(0)
            self._yielded_at = asyncio.get_running_loop().time()

    async def _finish(self) -> None:
        """Sends the results of what was in work."""
        if not self._results:
            return
        results, self._results = self._results, []
        assert self._batch is not None
        records: list[Record] = []
        timestamps: list[int] = []
        for result in results:
            if isinstance(result, Batch):
                records += result.records()
                timestamps += result.timestamps.tolist()
            else:
                records.append(result)
                timestamps.append(int(self._batch.timestamps[self._row]))
        for sink in self.agent.sinks:
            await self._outlet.send(sink, records, timestamps)

    # The function's life.

    async def _run(self) -> None:
        tables_of_task.set({})
        while True:
            self._asked = False
            try:
                await self._call()
            except Exception as error:
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
        record = self.agent.sinks[0].record
        if isinstance(value, Batch):
            typed = value.as_type(record)
            typed.records()  # a batch that is not the sink's type fails here, inside its event
            return typed
        if not isinstance(value, record):
            raise TypeError(
                f"agent {self.agent.name!r} yielded {type(value).__name__}; its sink takes {record.__name__}"
            )
        return value

    async def _put_aside(self, error: Exception) -> None:
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
        letter = letter_for(
            error,
            app=self.agent.source.app.name,
            stage=self.agent.name,
            topic=batch.topic,
            partition=batch.partition,
            offset=int(batch.offsets[row]),
        )
        await self._outlet.dead_letter(letter, batch.records()[row])

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runner = None
        error = None if runner.cancelled() else runner.exception()
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.cancel()
            else:
                self._done.set_exception(error)
