"""Windowed aggregations: a topic, a window, and what to compute of each key's events in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamproc.define.aggregates import Aggregate
from streamproc.define.duration import written
from streamproc.define.fields import Field, fields, require
from streamproc.define.topic import Channel, Topic
from streamproc.define.windows import Window
from streamproc.errors import DefinitionError
from streamproc.record import Record


@dataclass(frozen=True, eq=False, slots=True)
class Aggregation:
    """What a topology computes of one topic's windows.

    Results go to ``sink`` once, when event time passes a window's end plus ``grace``. Events later than that go to
    ``late`` as they came, with headers ``missed`` and ``of``: how many of the windows that they belong to were closed
    already.
    """

    source: Topic
    sink: Channel
    late: Topic
    window: Window
    grace: int
    idle: int | None
    aggregates: dict[str, Aggregate]

    @property
    def name(self) -> str:
        return self.sink.name

    @property
    def sinks(self) -> tuple[Topic, ...]:
        return (self.sink, self.late)

    def __str__(self) -> str:
        body = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates.items())
        return f"{self.window} grace {written(self.grace)}: {body}"


@dataclass(frozen=True, eq=False, slots=True)
class Windowed:
    """A topic cut into windows, not aggregated yet."""

    source: Topic
    window: Window
    grace: int
    idle: int | None

    def agg(self, name: str, record: type[Record], /, **aggregates: Aggregate) -> Channel:
        """Final results of every window, on a channel of that name.

        Args:
            name: the channel's, its Kafka topic's and the aggregation's name; the late output's is ``<name>-late``.
            record: the results' type: the source's key field, ``start`` and ``end`` (ints, milliseconds), and a field
                per aggregate.
            aggregates: by the field of ``record`` that each fills.

        Raises:
            DefinitionError: a field is missing, left over, or of another type than the aggregate's.
        """
        source = self.source
        assert source.key is not None  # Topic.window has checked
        _check(name, record, source, aggregates)
        app = source.app
        sink = app.channel(name, record, key=source.key, time="end", partitions=source.partitions)
        late = app.topic(
            f"{name}-late", source.record, key=source.key, time=source.time, partitions=source.partitions, publish=False
        )
        app.add(Aggregation(source, sink, late, self.window, self.grace, self.idle, dict(aggregates)))
        return sink


def _check(name: str, record: type[Record], source: Topic, aggregates: dict[str, Aggregate]) -> None:
    if not aggregates:
        raise DefinitionError(f"aggregation {name!r}: expected at least one aggregate, such as n=count()")
    if not (isinstance(record, type) and issubclass(record, Record)):
        raise DefinitionError(f"aggregation {name!r}: expected a subclass of Record for its results; got {record!r}")
    have = fields(record)
    key = fields(source.record)[source.key or ""]
    if key.name in ("start", "end"):
        raise DefinitionError(
            f"aggregation {name!r}: its results need start and end, so the key cannot be {key.name!r}"
        )
    if clash := {key.name, "start", "end"} & set(aggregates):
        raise DefinitionError(f"aggregation {name!r}: {', '.join(sorted(clash))} cannot be an aggregate's name")
    want: dict[str, Field] = {
        key.name: key,
        "start": Field("start", int, False),
        "end": Field("end", int, False),
        **{field: _result(name, field, aggregate, source) for field, aggregate in aggregates.items()},
    }
    for field in want.values():
        if field.name not in have:
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__} to have a field {field.name}: {field}; "
                f"it has {', '.join(have)}"
            )
        found = have[field.name]
        if found.type != field.type or (field.nullable and not found.nullable):
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__}.{field.name} to be {field}; it is {found}"
            )
    if left := [f for f in have if f not in want]:
        raise DefinitionError(f"aggregation {name!r}: nothing fills {', '.join(left)} of {record.__name__}")


def _result(name: str, field: str, aggregate: Any, source: Topic) -> Field:
    if not isinstance(aggregate, Aggregate):
        raise DefinitionError(
            f"aggregation {name!r}: {field}: expected an aggregate such as mean('s1'); got {aggregate!r}"
        )
    if aggregate.field is None:
        return Field(field, int, False)
    what = f"aggregation {name!r}, {field}={aggregate}"
    given = require(source.record, aggregate.field, (int, float), what, nullable=True)
    if aggregate.kind == "mean":
        return Field(field, float, given.nullable)
    return Field(field, given.type, given.nullable and aggregate.kind != "sum")
