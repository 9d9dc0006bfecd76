"""Flows: what becomes of the rows of topics on their way to the next topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamproc.define import joined
from streamproc.define.duration import Duration, milliseconds, patience
from streamproc.define.fields import Field, fields
from streamproc.define.flowing import Flowing, as_flow
from streamproc.define.operators import Operator
from streamproc.define.pipeline import Input, in_order
from streamproc.define.steps import Step
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.app import App
    from streamproc.define.topic import Topic


@dataclass(frozen=True, eq=False, slots=True)
class Flow(Flowing):
    """Rows of one topic or several on their way: inert, until it ends in :meth:`to` or in windows.

    Args:
        fields: what a row has.
        record: the type of records with just these fields; None: there is none.
        key: the field by which rows lie in partitions; None: there is none.
        time: the field with the event time; None: the record's timestamp.
        steps: what is done to each row after the operator.
        given: what a row has between the two.
        lost: why there is no ``key`` or ``time`` any more.
    """

    app: App = field(repr=False)
    inputs: tuple[Input, ...]
    fields: Mapping[str, Field] = field(repr=False)
    record: type[Record] | None
    key: str | None
    time: str | None
    operator: Operator | None = None
    steps: tuple[Step, ...] = ()
    given: Mapping[str, Field] | None = field(default=None, repr=False)
    grace: int = 0
    idle: int | None = None
    lost: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, topic: Topic, *, origins: int = 0) -> Flow:
        """A topic's records as they are; ``origins``: see :class:`~streamproc.define.pipeline.Input`."""
        known = fields(topic.record)
        given = Input(topic, (), known, topic.key or "", topic.time, origins)
        return cls(topic.app, (given,), known, topic.record, topic.key, topic.time)

    def _flow(self) -> Flow:
        return self

    @property
    def name(self) -> str:
        """The first input's topic's."""
        return self.inputs[0].topic.name

    @property
    def partitions(self) -> int:
        """The inputs' topics'."""
        return self.inputs[0].topic.partitions

    @property
    def what(self) -> str:
        """For messages."""
        plain = not (self.inputs[0].steps or self.operator or len(self.inputs) > 1)
        return f"topic {self.name!r}" if plain else f"flow of {self.name!r}"

    @property
    def owner(self) -> str:
        """Who has the fields, for messages."""
        return self.record.__name__ if self.record else "the flow"

    def then(
        self,
        step: Step,
        found: Mapping[str, Field],
        *,
        record: type[Record] | None,
        key: str | None,
        time: str | None,
        lost: str = "",
    ) -> Flow:
        """With one step more.

        Args:
            found: what a row has after it.
            lost: why ``key`` or ``time`` is gone, where it is.
        """
        gone = dict(self.lost)
        if self.key and not key:
            gone["key"] = f"it has {self.key} no more: {lost}"
        if self.time and not time:
            gone["time"] = f"it has {self.time} no more: {lost}"
        if self.operator is not None:
            return replace(self, steps=(*self.steps, step), fields=found, record=record, key=key, time=time, lost=gone)
        inputs = tuple(
            replace(given, steps=(*given.steps, step), fields=found, key=key or "", time=time) for given in self.inputs
        )
        return replace(self, inputs=inputs, fields=found, record=record, key=key, time=time, lost=gone)

    @property
    def fields_of_operator(self) -> Mapping[str, Field]:
        """What a row has after the operator, before the steps."""
        return self.inputs[0].fields if self.given is None else self.given

    # What those who take flows need of them.

    def ordering(self, grace: Duration, idle: Duration | None, what: str) -> tuple[int, int | None]:
        """Grace and idle of the stage, in milliseconds; those of an operator that has them already are that one's."""
        ms = milliseconds(grace, f"{what}, grace")
        if self.operator is not None:
            if ms:
                raise DefinitionError(f"{what}: grace= is for {self.operator.kind} to say, not here")
            return self.grace, self.idle
        if not in_order(self.inputs):
            if ms:
                raise DefinitionError(
                    f"{what}: grace= is for flows that were merged or rekeyed; this one goes by the log"
                )
            return 0, None
        self.check_time("rows are put in order of event time")
        return ms, patience(idle, f"{what}, idle")

    def check_single(self, why: str) -> None:
        """Raises DefinitionError where there is an operator already: a stage has one."""
        if self.operator is not None:
            raise DefinitionError(
                f"{self.what}: between {self.operator.kind} and {why} there must be a topic: .to(name, Record)"
            )

    def check_key(self, why: str) -> None:
        """Raises DefinitionError where there is no key."""
        if self.key is None:
            hint = f"{self.lost['key']}: keep it, or rekey()" if "key" in self.lost else "declare it with key="
            raise DefinitionError(f"{self.what}: {why}, and it has none: {hint}")

    def check_time(self, why: str) -> None:
        """Raises DefinitionError where the event time is gone."""
        if self.time is None and "time" in self.lost:
            raise DefinitionError(f"{self.what}: {why}, and it has none: {self.lost['time']}")


def merge(*flows: Flowing) -> Flow:
    """Rows of several flows as one, in order of their event times; of one time, in the order of the flows.

    Raises:
        DefinitionError: they are not of one app, have other columns, another key or time, or other counts of
            partitions.
    """
    return joined.merged([as_flow(flow) for flow in flows])
