"""Where a flow ends: a stage, and the channel that its rows go to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamproc.define.aggregation import late_topic
from streamproc.define.duration import Duration
from streamproc.define.fields import Field, fields
from streamproc.define.pipeline import Pipeline, in_order, late_names
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.flow import Flow
    from streamproc.define.topic import Channel


def ended(
    flow: Flow,
    name: str,
    record: Any,
    key: str | None,
    time: str | None,
    cause: str | None,
    partitions: int | None,
    config: Mapping[str, str],
    grace: Duration,
    idle: Duration | None,
) -> Channel:
    """Makes the stage and its topics."""
    what = f"{flow.what}, to {name!r}"
    if not (isinstance(record, type) and issubclass(record, Record)):
        raise DefinitionError(f"{what}: expected a subclass of Record; got {record!r}")
    check_fit(flow, record, what)
    found, waits = flow.ordering(grace, idle, what)
    have, app = fields(record), flow.app
    sink = app.channel(
        name,
        record,
        key=_kept(have, flow.fields, flow.key) if key is None else key,
        time=_kept(have, flow.fields, flow.time) if time is None else time,
        cause=cause,
        partitions=flow.partitions if partitions is None else partitions,
        config=config,
    )
    late = tuple(
        late_topic(called, given) if in_order(flow.inputs) and not given.everywhere else None
        for called, given in zip(late_names(name, flow.inputs), flow.inputs, strict=True)
    )
    sinks = (sink, *(topic for topic in late if topic is not None))
    app.add(Pipeline(name, flow.inputs, flow.operator, flow.fields_of_operator, flow.steps, sinks, late, found, waits))
    return sink


def check_fit(flow: Flow, record: type[Record], what: str) -> None:
    """Raises DefinitionError where rows cannot be records of this type. Nulls that may come, but need not, and those
    that only data can tell, are for the run to see.
    """
    for name, field in fields(record).items():
        if name not in flow.fields:
            raise DefinitionError(
                f"{what}: {record.__name__} has a field {name}; the flow has {', '.join(flow.fields)}"
            )
        have = flow.fields[name]
        if have.type != field.type:
            hint = _hint(have, field)
            raise DefinitionError(f"{what}: expected {name} to be {field}, as in {record.__name__}; it is {have}{hint}")
        if have.nullable and not field.nullable:
            raise DefinitionError(
                f"{what}: expected {name} never to be null, as in {record.__name__}; it may be: say what then, with "
                f"fill_null or where(is_not_null), or make the field {field} | None"
            )


def _kept(have: Mapping[str, Field], known: Mapping[str, Field], name: str | None) -> str | None:
    return name if name is not None and name in have and have[name] == known[name] else None


def _hint(have: Field, field: Field) -> str:
    casts = {float: "pl.Float64", int: "pl.Int64", str: "pl.String"}
    return f": .cast({casts[field.type]})" if field.type in casts and have.type in (int, float, str, bool) else ""
