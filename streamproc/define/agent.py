"""Agents: user code that reads a topic and may yield results."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streamproc.define.errors import Policy, check_policy
from streamproc.define.topic import Topic
from streamproc.errors import DefinitionError
from streamproc.stream import Stream

AgentFunction = Callable[[Stream[Any]], AsyncIterator[Any]] | Callable[[Stream[Any]], Awaitable[None]]


@dataclass(frozen=True, eq=False, slots=True)
class Agent:
    """A function over a stream, run once per partition of its topic. What it yields goes to every sink.

    The stream's loop header chooses how events come: ``async for event in stream`` one by one, ``async for batch in
    stream.batches()`` as columns.

    Args:
        on_error: what becomes of an event on which the function raises, or whose results do not fit: ``"dead_letter"``,
            ``"stop"``, or :func:`~streamproc.define.errors.retry`.
    """

    name: str
    source: Topic
    sinks: tuple[Topic, ...]
    function: AgentFunction
    on_error: Policy = "dead_letter"

    @property
    def sources(self) -> tuple[Topic, ...]:
        """The topics that are read."""
        return (self.source,)

    @property
    def sequenced(self) -> bool:
        """Whether events are put in order of event time first: never."""
        return False

    def __post_init__(self) -> None:
        what = f"agent {self.name!r}"
        yields = inspect.isasyncgenfunction(self.function)
        if not yields and not inspect.iscoroutinefunction(self.function):
            raise DefinitionError(f"{what}: expected an async function; got {self.function!r}")
        if (takes := len(inspect.signature(self.function).parameters)) != 1:
            raise DefinitionError(f"{what}: expected a function of one argument, the stream; it takes {takes}")
        if self.sinks and not yields:
            raise DefinitionError(f"{what}: it has a sink and yields nothing: yield its results, or leave the sink out")
        if yields and not self.sinks:
            raise DefinitionError(f"{what}: it yields results that go nowhere: name a sink")
        if len({sink.record for sink in self.sinks}) > 1:
            types = ", ".join(f"{sink.name} {sink.record.__name__}" for sink in self.sinks)
            raise DefinitionError(f"{what}: expected sinks of one record type; they hold different ones: {types}")
        if len(set(self.sinks)) < len(self.sinks):
            raise DefinitionError(f"{what}: a sink is named twice: its results would be doubled there")
        check_policy(self.on_error, what)
