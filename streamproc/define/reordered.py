"""Rows by another key, and the first row of each id."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamproc.define.duration import Duration, milliseconds
from streamproc.define.ending import check_fit
from streamproc.define.fields import existing, wanted
from streamproc.define.operators import Deduplicate, Rekey
from streamproc.define.pipeline import Pipeline
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.flow import Flow


def deduplicated(flow: Flow, id: Any, within: Duration, grace: Duration, idle: Duration | None) -> Flow:
    """The first row of each id."""
    what = f"{flow.what}, deduplicate"
    flow.check_single("a deduplication")
    flow.check_key("rows are deduplicated partition by partition, that is by key")
    flow.check_time("a deduplication is of event time")
    wanted(flow.fields, flow.owner, id, (str, int), what, nullable=True)
    ms = milliseconds(within, f"{what}, within")
    if not ms:
        raise DefinitionError(f"{what}: expected within= above zero; got {within!r}")
    found, waits = flow.ordering(grace, idle, what)
    return replace(flow, operator=Deduplicate(id, ms), grace=found, idle=waits)


def rekeyed(flow: Flow, key: Any, record: type[Record] | None, name: str | None, partitions: int | None) -> Flow:
    """By another field, through a topic."""
    what = f"{flow.what}, rekey"
    flow.check_single("a rekeying")
    flow.check_time("event time is told along")
    if len(flow.inputs) > 1:
        raise DefinitionError(f"{what}: it is a merge: rekey the flows first, and merge what comes of that")
    if flow.inputs[0].origins:
        raise DefinitionError(f"{what}: it was rekeyed already: rekey the flow before, or go on from .to(name, Record)")
    existing(flow.fields, flow.owner, key, what)
    if record is None and (record := flow.record) is None:
        raise DefinitionError(
            f"{what}: its columns are not its record type's any more, but {', '.join(flow.fields)}: give the new one, "
            f"such as rekey({key!r}, Record)"
        )
    check_fit(flow, record, what)
    name = f"{flow.name}-by-{re.sub(r'[^A-Za-z0-9._-]', '-', key)}" if name is None else name
    app, given = flow.app, flow.inputs[0]
    if f"{app.name}-{name}" in app.topics:
        raise DefinitionError(f"{what}: topic '{app.name}-{name}' is there already: give this one another name=")
    topic = app.topic(
        f"{app.name}-{name}",
        record,
        key=key,
        time=flow.time,
        partitions=flow.partitions if partitions is None else partitions,
        publish=False,
        ahead=None,
    )
    app.add(Pipeline(name, flow.inputs, Rekey(), flow.fields, (), (topic,), (None,)))
    return flow.of(topic, origins=given.topic.partitions)
