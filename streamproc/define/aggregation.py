"""Windowed aggregations: a topic, a window, and what to compute of each key's events in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from streamproc.define.aggregates import Aggregate
from streamproc.define.duration import written
from streamproc.define.fields import Field, fields, require
from streamproc.define.topic import Channel, Topic
from streamproc.define.windows import AlignedWindow, SlidingWindow, Updates, Window
from streamproc.errors import DefinitionError
from streamproc.record import Record


@dataclass(frozen=True, eq=False, slots=True)
class Aggregation:
    """What a topology computes of one topic's windows.

    Results go to ``sink`` once, when event time passes a window's end plus ``grace``; with ``emit``, before that, too.
    Events later than that go to ``late`` as they came, with headers ``missed`` and ``of``: how many of the windows that
    they belong to were closed already.
    """

    source: Topic
    sink: Channel
    late: Topic
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
        return (self.sink, self.late)

    def __str__(self) -> str:
        body = ", ".join(f"{name}={aggregate}" for name, aggregate in self.aggregates.items())
        emit = f", {self.emit}" if self.emit else ""
        return f"{self.window} grace {written(self.grace)}{emit}: {body}"


@dataclass(frozen=True, eq=False, slots=True)
class Windowed:
    """A topic cut into windows, not aggregated yet."""

    source: Topic
    window: Window
    grace: int
    idle: int | None
    emit: Updates | None = None

    def agg(self, name: str, record: type[Record], /, **aggregates: Aggregate) -> Channel:
        """Results of every window, on a channel of that name.

        Args:
            name: the channel's, its Kafka topic's and the aggregation's name; the late output's is ``<name>-late``.
            record: the results' type: the source's key field, ``start`` and ``end`` (ints, milliseconds), a field per
                aggregate; and, if it likes, ``final`` (a bool): whether the window is closed, and this its last result.
            aggregates: by the field of ``record`` that each fills.

        Raises:
            DefinitionError: a field is missing, left over, or of another type than the aggregate's.
        """
        source = self.source
        assert source.key is not None  # Topic.window has checked
        _check(name, record, source, aggregates, self.window)
        app = source.app
        sink = app.channel(name, record, key=source.key, time="end", partitions=source.partitions)
        late = app.topic(
            f"{name}-late", source.record, key=source.key, time=source.time, partitions=source.partitions, publish=False
        )
        app.add(Aggregation(source, sink, late, self.window, self.grace, self.idle, dict(aggregates), self.emit))
        return sink


_OURS = ("start", "end", "final")


def _check(name: str, record: type[Record], source: Topic, aggregates: dict[str, Aggregate], window: Window) -> None:
    if not aggregates:
        raise DefinitionError(f"aggregation {name!r}: expected at least one aggregate, such as n=count()")
    if not (isinstance(record, type) and issubclass(record, Record)):
        raise DefinitionError(f"aggregation {name!r}: expected a subclass of Record for its results; got {record!r}")
    have = fields(record)
    key = fields(source.record)[source.key or ""]
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
        want[field] = result_field(f"aggregation {name!r}", field, aggregate, source.record, window)
    for wanted in want.values():
        if wanted.name not in have:
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__} to have a field {wanted.name}: {wanted}; "
                f"it has {', '.join(have)}"
            )
        found = have[wanted.name]
        if found.type != wanted.type or (wanted.nullable and not found.nullable):
            raise DefinitionError(
                f"aggregation {name!r}: expected {record.__name__}.{wanted.name} to be {wanted}; it is {found}"
            )
    if left := [f for f in have if f not in want]:
        raise DefinitionError(f"aggregation {name!r}: nothing fills {', '.join(left)} of {record.__name__}")


def result_field(what: str, name: str, aggregate: Any, record: type[Record], window: Window) -> Field:
    """What an aggregate of a record's fields gives, as field ``name``.

    Raises:
        DefinitionError: it is no aggregate, or the record has no such field, or one of another type.
    """
    if not isinstance(aggregate, Aggregate):
        raise DefinitionError(f"{what}: {name}: expected an aggregate such as mean('s1'); got {aggregate!r}")
    what = f"{what}, {name}={aggregate}"
    kind = aggregate.kind
    if kind == "rate" and not isinstance(window, AlignedWindow | SlidingWindow):
        raise DefinitionError(f"{what}: a rate is for windows of one length; this one is {window}")
    if kind == "own":
        for field in aggregate.fields:
            _known(record, field, what)
        return _optional(name, aggregate.option("type"))
    if not aggregate.fields:
        return Field(name, float if kind == "rate" else int, False)
    given = [require(record, field, _TAKES.get(kind, (int, float)), what, nullable=True) for field in aggregate.fields]
    nullable = any(field.nullable for field in given)
    if kind == "occurrences" and type(aggregate.option("of")[0]) is not given[0].type:
        raise DefinitionError(
            f"{what}: expected values of the field's type; {record.__name__}.{given[0].name} is {given[0]}"
        )
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


def _known(record: type[Record], name: str, what: str) -> None:
    if name not in (known := fields(record)):
        raise DefinitionError(f"{what}: {record.__name__} has no field {name!r}; it has {', '.join(known)}")


def _optional(name: str, kind: Any) -> Field:
    """A type as a field's: ``float | None`` is a float that may be null."""
    made = msgspec.defstruct("Result", [(name, kind)], bases=(Record,))
    return fields(made)[name]
