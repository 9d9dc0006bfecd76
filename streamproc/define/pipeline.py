"""Pipelines: stages of flows. What comes in, what is done to it, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamproc.define.duration import written
from streamproc.define.fields import Field
from streamproc.define.operators import Operator
from streamproc.define.steps import Step

if TYPE_CHECKING:
    from streamproc.define.topic import Topic


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """One of the inputs of a stage: a topic, and what is done to each of its rows first.

    Args:
        fields: what a row has after the steps.
        key: the field by which rows lie in partitions, after the steps; empty where there is none.
        time: the field with the event time, after the steps; None: the record's timestamp, or, in a stage that does not
            look at event times, none any more.
        origins: from how many upstream partitions the topic was rekeyed; each is an input of its own. 0: from none.
        everywhere: whether every worker reads all partitions.
    """

    topic: Topic
    steps: tuple[Step, ...]
    fields: Mapping[str, Field] = field(repr=False)
    key: str
    time: str | None
    origins: int = 0
    everywhere: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Pipeline:
    """A stage that takes rows of its inputs and gives rows.

    Args:
        name: the result's topic's; of a rekey, without the app's name.
        inputs: of a join the left and the right one.
        operator: None: rows as they are, in order of event time where there are several inputs.
        fields: what a row has after the operator, before ``steps``.
        steps: what is done to each row after the operator.
        sinks: the result's topic, and those of what was late.
        late: for each input where its late rows go, as they came; None where none is late.
        grace: how much later than the highest event time of its input a row may come, in milliseconds.
        idle: after how long without rows an input holds the others back no more, in milliseconds; None: never.
    """

    name: str
    inputs: tuple[Input, ...]
    operator: Operator | None
    fields: Mapping[str, Field] = field(repr=False)
    steps: tuple[Step, ...]
    sinks: tuple[Topic, ...]
    late: tuple[Topic | None, ...]
    grace: int = 0
    idle: int | None = None

    @property
    def source(self) -> Topic:
        """The first input's topic."""
        return self.inputs[0].topic

    @property
    def sources(self) -> tuple[Topic, ...]:
        """The topics that are read, each once."""
        return topics_of(self.inputs)

    @property
    def sequenced(self) -> bool:
        """Whether rows are put in order of event time first."""
        return in_order(self.inputs)

    def __str__(self) -> str:
        done = str(self.operator or ("merge" if len(self.inputs) > 1 else "pipeline"))
        grace = f", grace {written(self.grace)}" if self.sequenced else ""
        then = f"; then {_listed(self.steps)}" if self.steps else ""
        return f"{done}{grace}: {said(self.inputs)}{then}"


def said(inputs: tuple[Input, ...]) -> str:
    """The inputs' topics and steps, for people."""
    return ", ".join(given.topic.name + (f" ({_listed(given.steps)})" if given.steps else "") for given in inputs)


def _listed(steps: tuple[Step, ...]) -> str:
    return ", ".join(map(str, steps))


def topics_of(inputs: tuple[Input, ...]) -> tuple[Topic, ...]:
    """The inputs' topics, each once."""
    return tuple(dict.fromkeys(given.topic for given in inputs))


def in_order(inputs: tuple[Input, ...]) -> bool:
    """Whether rows of these inputs come in an order that must be made: of event time."""
    return len(inputs) > 1 or inputs[0].origins > 0


def late_names(name: str, inputs: tuple[Input, ...]) -> list[str]:
    """For each input the name of the topic of what is late; numbered where a topic comes in more than once."""
    if len(inputs) == 1:
        return [f"{name}-late"]
    names: list[str] = []
    for i, given in enumerate(inputs):
        before = sum(other.topic is given.topic for other in inputs[:i])
        names.append(f"{name}-late-{given.topic.name}{f'-{before + 1}' if before else ''}")
    return names
