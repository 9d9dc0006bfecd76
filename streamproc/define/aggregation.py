"""Windowed aggregations: a topic, a window, and what to compute of each key's events in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from streamproc.define.aggregates import Aggregate
from streamproc.define.duration import Duration, milliseconds, written
from streamproc.define.fields import Field, existing, fields, wanted
from streamproc.define.pipeline import Input, in_order, late_names, said, topics_of
from streamproc.define.windows import (
    AlignedWindow,
    CountWindow,
    GlobalWindow,
    SessionWindow,
    SlidingWindow,
    Updates,
    Window,
)
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.flow import Flow
    from streamproc.define.topic import Channel, Topic


@dataclass(frozen=True, eq=False, slots=True)
class Aggregation:
    """What a topology computes of the windows of a topic, or of several in order of event time.

    Results go to ``sink`` once, when event time passes a window's end plus ``grace``; with ``emit``, before that, too.
    Events later than that go to their input's topic of ``lates`` as they came; with headers ``missed`` and ``of``, how
    many of the windows that they belong to were closed already, where there is one input.

    Args:
        inputs: of equal columns.
    """

    inputs: tuple[Input, ...]
    sink: Channel
    lates: tuple[Topic, ...]
    window: Window
    grace: int
    idle: int | None
    aggregates: dict[str, Aggregate]
    emit: Updates | None = None

    @property
    def name(self) -> str:
        return self.sink.name

    @property
    def sinks(self) -> tuple[Topic, ...]:
        return (self.sink, *self.lates)

    @property
    def source(self) -> Topic:
        """The first input's topic."""
        return self.inputs[0].topic

    @property
    def late(self) -> Topic:
        """Where the first input's late events go."""
        return self.lates[0]

    @property
    def sources(self) -> tuple[Topic, ...]:
        """The topics that are read, each once."""
        return topics_of(self.inputs)

    @property
    def sequenced(self) -> bool:
        """Whether events are put in order of event time first."""
        return in_order(self.inputs)

    @property
    def fields(self) -> Mapping[str, Field]:
        """What an event has, after its input's steps."""
        return self.inputs[0].fields

    @property
    def key(self) -> str:
        """The field by which windows are."""
        return self.inputs[0].key

    @property
    def time(self) -> str | None:
        """The field with the event time; None: the record's timestamp."""
        return self.inputs[0].time

    def __str__(self) -> str:
        body = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates.items())
        emit = f", {self.emit}" if self.emit else ""
        over = f" over {said(self.inputs)}" if len(self.inputs) > 1 or self.inputs[0].steps else ""
        return f"{self.window} grace {written(self.grace)}{emit}{over}: {body}"


@dataclass(frozen=True, eq=False, slots=True)
class Windowed:
    """A flow cut into windows, not aggregated yet."""

    flow: Flow
    window: Window
    grace: int
    idle: int | None
    emit: Updates | None = None

    def agg(self, name: str, record: type[Record], /, **aggregates: Aggregate) -> Channel:
        """Results of every window, on a channel of that name.

        Args:
            name: the channel's, its Kafka topic's and the aggregation's name; the late output's is ``<name>-late``, of
                several inputs ``<name>-late-<topic>``.
            record: the results' type: the source's key field, ``start`` and ``end`` (ints, milliseconds), a field per
                aggregate; and, if it likes, ``final`` (a bool): whether the window is closed, and this its last result.
            aggregates: by the field of ``record`` that each fills.

        Raises:
            DefinitionError: a field is missing, left over, or of another type than the aggregate's.
        """
        flow = self.flow
        _check(name, record, flow, aggregates, self.window)
        sink = flow.app.channel(name, record, key=flow.key, time="end", partitions=flow.partitions)
        lates = tuple(
            late_topic(late, given) for late, given in zip(late_names(name, flow.inputs), flow.inputs, strict=True)
        )
        flow.app.add(
            Aggregation(flow.inputs, sink, lates, self.window, self.grace, self.idle, dict(aggregates), self.emit)
        )
        return sink


def windowed(flow: Flow, window: Any, grace: Duration, idle: Duration | None, emit: Any) -> Windowed:
    """A flow cut into windows. Raises DefinitionError as :meth:`streamproc.define.flowing.Flowing.window` says."""
    if not isinstance(window, Window):
        raise DefinitionError(
            f'{flow.what}: expected a window such as tumbling("10s"), hopping("10s", "1s"); got {window!r}'
        )
    flow.check_single("windows")
    flow.check_key("windows are per key")
    flow.check_time("windows are of event time")
    idle_ms = None if idle is None else milliseconds(idle, "idle")
    grace_ms = milliseconds(grace, "grace")
    if grace_ms and isinstance(window, CountWindow | GlobalWindow):
        raise DefinitionError(f"{flow.what}: {window} takes events in any order: it has no grace")
    if emit is not None and not isinstance(emit, Updates):
        raise DefinitionError(f'{flow.what}: expected emit=updates("1s") or None; got {emit!r}')
    if emit is not None and not isinstance(window, AlignedWindow | SessionWindow):
        raise DefinitionError(f"{flow.what}: {window} has no updates: each of its results is given at once")
    return Windowed(flow, window, grace_ms, idle_ms, emit)


def late_topic(name: str, given: Input) -> Topic:
    """Declares the topic of an input's late records."""
    topic = given.topic
    return topic.app.topic(
        name, topic.record, key=topic.key, time=topic.time, partitions=topic.partitions, publish=False, ahead=None
    )


_OURS = ("start", "end", "final")


def _check(name: str, record: type[Record], flow: Flow, aggregates: dict[str, Aggregate], window: Window) -> None:
    if not aggregates:
        raise DefinitionError(f"aggregation {name!r}: expected at least one aggregate, such as n=count()")
    if not (isinstance(record, type) and issubclass(record, Record)):
        raise DefinitionError(f"aggregation {name!r}: expected a subclass of Record for its results; got {record!r}")
    have = fields(record)
    key = flow.fields[flow.key or ""]
    if key.name in _OURS:
        raise DefinitionError(
            f"aggregation {name!r}: its results need start and end, and may have final, so the key cannot be "
            f"{key.name!r}"
        )
    if clash := {key.name, *_OURS} & set(aggregates):
        raise DefinitionError(f"aggregation {name!r}: {', '.join(sorted(clash))} cannot be an aggregate's name")
    want: dict[str, Field] = {key.name: key, "start": Field("start", int, False), "end": Field("end", int, False)}
    if "final" in have:
        want["final"] = Field("final", bool, False)
    for field, aggregate in aggregates.items():
        want[field] = result_field(f"aggregation {name!r}", field, aggregate, flow.fields, window, flow.owner)
    for each in want.values():
        if each.name not in have:
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__} to have a field {each.name}: {each}; "
                f"it has {', '.join(have)}"
            )
        found = have[each.name]
        if found.type != each.type or (each.nullable and not found.nullable):
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__}.{each.name} to be {each}; it is {found}"
            )
    if left := [f for f in have if f not in want]:
        raise DefinitionError(f"aggregation {name!r}: nothing fills {', '.join(left)} of {record.__name__}")


def result_field(
    what: str,
    name: str,
    aggregate: Any,
    of: type[Record] | Mapping[str, Field],
    window: Window,
    owner: str = "the flow",
) -> Field:
    """What an aggregate of a record's fields, or of those of ``owner``, gives as field ``name``.

    Raises:
        DefinitionError: it is no aggregate, or there is no such field, or one of another type.
    """
    if isinstance(of, type):
        owner, of = of.__name__, fields(of)
    if not isinstance(aggregate, Aggregate):
        raise DefinitionError(f"{what}: {name}: expected an aggregate such as mean('s1'); got {aggregate!r}")
    what = f"{what}, {name}={aggregate}"
    kind = aggregate.kind
    if kind == "rate" and not isinstance(window, AlignedWindow | SlidingWindow):
        raise DefinitionError(f"{what}: a rate is for windows of one length; this one is {window}")
    if kind == "own":
        for field in aggregate.fields:
            existing(of, owner, field, what)
        return _optional(name, aggregate.option("type"))
    if not aggregate.fields:
        return Field(name, float if kind == "rate" else int, False)
    takes = _TAKES.get(kind, (int, float))
    given = [wanted(of, owner, field, takes, what, nullable=True) for field in aggregate.fields]
    nullable = any(field.nullable for field in given)
    if kind == "occurrences" and type(aggregate.option("of")[0]) is not given[0].type:
        raise DefinitionError(f"{what}: expected values of the field's type; {owner}.{given[0].name} is {given[0]}")
    if kind in ("sum", "min", "max", "first", "last"):
        return Field(name, given[0].type, nullable and kind != "sum")
    if kind in ("variance", "deviation", "covariance"):
        return Field(name, float, nullable or aggregate.option("ddof") > 0)
    if kind == "correlation":
        return Field(name, float, True)
    if kind == "quantiles" and aggregate.option("qs"):
        return Field(name, list[float], nullable)
    type_, never_null = _GIVES.get(kind, (float, False))
    return Field(name, type_, nullable and not never_null)


_ANY = (int, float, str, bool, bytes)
_TAKES: dict[str, tuple[Any, ...]] = {
    "first": _ANY,
    "last": _ANY,
    "distinct": _ANY,
    "top": (int, str),
    "occurrences": (int, str),
    "count_min": (int, str),
}
_GIVES: dict[str, tuple[Any, bool]] = {  # and whether it is never null, though its field may be
    "rate": (float, True),
    "histogram": (list[int], True),
    "distinct": (int, True),
    "top": (dict[str, int], True),
    "occurrences": (dict[str, int], True),
    "count_min": (bytes, True),
}


def _optional(name: str, kind: Any) -> Field:
    """A type as a field's: ``float | None`` is a float that may be null."""
    made = msgspec.defstruct("Result", [(name, kind)], bases=(Record,))
    return fields(made)[name]
