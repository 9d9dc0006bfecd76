"""Joins: what two flows give together, checked where they are defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from streamproc.define.duration import Duration, milliseconds, patience
from streamproc.define.fields import Field, wanted
from streamproc.define.operators import AsOf, Interval, Join, Lookup, Tables
from streamproc.define.pipeline import Input
from streamproc.define.steps import Select
from streamproc.errors import DefinitionError

if TYPE_CHECKING:
    from streamproc.define.flow import Flow
    from streamproc.define.latest import Latest

_HOWS = ("inner", "left", "outer")


def interval(
    left: Flow, right: Flow, within: Any, how: Any, grace: Duration, idle: Duration | None, suffix: str
) -> Flow:
    """Pairs of rows of one key whose times lie near each other."""
    what = f"{left.what}, join"
    if within is None:
        raise DefinitionError(
            f'{what}: expected within=, such as within="10m" or within=("-5m", "0s"): how far apart the two may be; '
            "or the other topic as a table: .latest()"
        )
    low, high = _bounds(within, what)
    operator = Interval(low, high, _how(how, _HOWS, what), suffix)
    return _joined(left, right, operator, grace, idle, what)


def as_of(
    left: Flow,
    right: Flow,
    within: Duration | None,
    how: Any,
    grace: Duration,
    idle: Duration | None,
    suffix: str,
    called: str = "as_of",
) -> Flow:
    """Each row of the left with its key's newest one of the right, of its time or before."""
    what = f"{left.what}, {called}"
    age = None if within is None else milliseconds(within, f"{what}, within")
    return _joined(left, right, AsOf(age, _how(how, _HOWS[:2], what), suffix), grace, idle, what)


def latest(
    left: Flow, right: Latest, on: str | None, how: Any, grace: Duration, idle: Duration | None, suffix: str
) -> Flow:
    """Each row of the left with the newest one of a table's, at its time."""
    what = f"{left.what}, join"
    if not right.everywhere:
        if on is not None:
            raise DefinitionError(
                f"{what}: on= is for a table that is everywhere, such as {right.flow.name}.latest(everywhere=True); "
                f"this one is joined by key"
            )
        return as_of(left, right.flow, None, how, grace, idle, suffix, "join")
    if on is None and (on := left.key) is None:
        raise DefinitionError(f"{what}: expected on=, the field that has the keys of {right.flow.name}")
    operator = Lookup(on, _how(how, _HOWS[:2], what), suffix)
    return _joined(left, right.flow, operator, grace, idle, what)


def tables(left: Latest, right: Any, how: Any, grace: Duration, idle: Duration | None, suffix: str) -> Flow:
    """A row for every change of either of two tables."""
    what = f"{left.flow.what}, latest().join"
    if not hasattr(right, "everywhere"):
        raise DefinitionError(f"{what}: expected another table, such as limits.latest(); got {right!r}")
    if left.everywhere or right.everywhere:
        raise DefinitionError(f"{what}: tables are joined by key, partition by partition: leave everywhere= out")
    return _joined(left.flow, right.flow, Tables(_how(how, _HOWS, what), suffix), grace, idle, what)


def enriched(
    left: Flow,
    right: Latest,
    names: tuple[str, ...],
    renamed: Mapping[str, str],
    on: str | None,
    grace: Duration,
    idle: Duration | None,
) -> Flow:
    """A left join with a table, of these fields of its only."""
    what = f"{left.what}, enrich"
    taken = {**{name: name for name in names}, **renamed}
    table = right.flow
    if not taken:
        raise DefinitionError(f'{what}: expected fields of {table.owner}, such as "country" or limit="credit_limit"')
    for name, column in taken.items():
        if not isinstance(column, str) or column not in table.fields:
            raise DefinitionError(f"{what}: {table.owner} has no field {column!r}; it has {', '.join(table.fields)}")
        if name in left.fields:
            raise DefinitionError(
                f"{what}: {left.owner} has a field {name} already: give the other one another name, such as "
                f"{name}_of_{table.name.replace('-', '_').replace('.', '_')}={column!r}"
            )
    table.check_key("a table is per key")
    # What is not asked for is not kept in the join's state. The key and the time are, under names that nobody has.
    hidden = "_"
    while any(name.endswith(hidden) for name in (*left.fields, *table.fields, *taken)):
        hidden += "_"
    kept = {name + 2 * hidden: pl.col(name) for name in (table.key, table.time) if name is not None}
    small = table.select(**kept, **{name + hidden: pl.col(column) for name, column in taken.items()})
    found = latest(left, replace(right, flow=small), on, "left", grace, idle, hidden)
    return found.select(*left.fields, **{name: name + hidden for name in taken})


def merged(flows: Sequence[Flow]) -> Flow:
    """Rows of several flows of equal columns, in order of event time."""
    if len(flows) < 2:
        raise DefinitionError(f"merge: expected two flows or more; got {len(flows)}")
    first, what = flows[0], "merge"
    for flow in flows:
        flow.check_single("a merge")
        flow.check_time("a merge is in order of event time")
    for flow in flows[1:]:
        if flow.app is not first.app:
            raise DefinitionError(f"{what}: expected flows of one app; {flow.name} is of app {flow.app.name!r}")
        for name in [*first.fields, *(name for name in flow.fields if name not in first.fields)]:
            one, other = first.fields.get(name), flow.fields.get(name)
            if one is None or other is None or one.type != other.type:
                raise DefinitionError(
                    f"{what}: expected flows of equal columns; {name} is {one or 'not'} in {first.what}, "
                    f"{other or 'not'} in {flow.what}"
                )
        for word, here, there in (("key", first.key, flow.key), ("time", first.time, flow.time)):
            if here != there:
                raise DefinitionError(
                    f"{what}: expected flows of one {word}; {first.what} has {here or 'none'}, {flow.what} "
                    f"{there or 'none'}"
                )
        if flow.partitions != first.partitions:
            raise DefinitionError(f"{what}: {_apart(first, flow)}")
    found = {
        name: field._replace(nullable=any(flow.fields[name].nullable for flow in flows))
        for name, field in first.fields.items()
    }
    same = all(flow.record is first.record for flow in flows)
    inputs = tuple(replace(_ordered(given, tuple(found)), fields=found) for flow in flows for given in flow.inputs)
    return replace(first, inputs=inputs, fields=found, record=first.record if same else None)


def _ordered(given: Input, names: tuple[str, ...]) -> Input:
    """With columns in this order."""
    if tuple(given.fields) == names:
        return given
    return replace(given, steps=(*given.steps, Select(tuple(map(pl.col, names)))))


def _apart(left: Flow, right: Flow) -> str:
    return (
        f"expected topics of equally many partitions; {left.name} has {left.partitions}, {right.name} "
        f"{right.partitions}: rekey one of them, with partitions="
    )


def right_names(left: Input, right: Input, suffix: str) -> dict[str, str]:
    """What the right side's fields are called in results: all but its key, with the suffix where the left has one of
    that name.
    """
    return {name: name + suffix if name in left.fields else name for name in right.fields if name != right.key}


def _joined(left: Flow, right: Any, operator: Join, grace: Duration, idle: Duration | None, what: str) -> Flow:
    if not hasattr(right, "inputs"):
        raise DefinitionError(f"{what}: expected a topic or a flow; got {right!r}")
    _check_sides(left, right, operator, what)
    (one,), (two,) = left.inputs, right.inputs
    if isinstance(operator, Lookup):
        two = replace(two, everywhere=True)
    if not isinstance(operator.suffix, str) or not operator.suffix:
        raise DefinitionError(f'{what}: expected a suffix such as "_right"; got {operator.suffix!r}')
    waits = patience(idle, f"{what}, idle")
    found = _fields(one, two, operator, what)
    no_field = isinstance(operator, Tables) or operator.how == "outer"  # is the event time of every row
    return replace(
        left,
        inputs=(one, two),
        fields=found,
        given=found,
        record=None,
        time=None if no_field else left.time,
        operator=operator,
        grace=milliseconds(grace, f"{what}, grace"),
        idle=waits,
    )


def _check_sides(left: Flow, right: Flow, operator: Join, what: str) -> None:
    if left.app is not right.app:
        raise DefinitionError(f"{what}: expected two flows of one app; {right.name} is of app {right.app.name!r}")
    for side in (left, right):
        side.check_single("a join")
        if len(side.inputs) > 1:
            raise DefinitionError(
                f"{what}: {side.what} is a merge: give it a topic of its own first: .to(name, Record)"
            )
        side.check_time("a join is of event time")
    if isinstance(operator, Lookup):
        right.check_key("a table is per key")
        on = wanted(left.fields, left.owner, operator.on, (str, int), f"{what}, on", nullable=True)
        _check_types(on, right, what)
        if right.inputs[0].origins:
            raise DefinitionError(f"{what}: {right.name} was rekeyed: as it is everywhere, it need not be")
        return
    for side in (left, right):
        side.check_key("a join is by key")
    assert left.key is not None
    _check_types(left.fields[left.key], right, what)
    if left.partitions != right.partitions:
        raise DefinitionError(f"{what}: {_apart(left, right)}")


def _check_types(left: Field, right: Flow, what: str) -> None:
    assert right.key is not None
    key = right.fields[right.key]
    if key.type is not left.type:
        raise DefinitionError(
            f"{what}: expected keys of one type; {left.name} is {left.type.__name__}, {right.name}'s {key.name} is "
            f"{key.type.__name__}"
        )


def _fields(left: Input, right: Input, operator: Join, what: str) -> dict[str, Field]:
    found = {
        name: field._replace(nullable=field.nullable or (operator.how == "outer" and name != left.key))
        for name, field in left.fields.items()
    }
    for name, called in right_names(left, right, operator.suffix).items():
        if called in found:
            raise DefinitionError(
                f"{what}: both sides have {called}: give another suffix=, or rename one with select()"
            )
        field = right.fields[name]
        found[called] = Field(called, field.type, field.nullable or operator.how != "inner")
    return found


def _how(how: Any, allowed: tuple[str, ...], what: str) -> Any:
    if how not in allowed:
        raise DefinitionError(f"{what}: expected how to be {' or '.join(map(repr, allowed))}; got {how!r}")
    return how


def _bounds(within: Any, what: str) -> tuple[int, int]:
    """Of how far the right may lie from the left, in milliseconds."""
    what = f"{what}, within"
    if not isinstance(within, tuple | list):
        ms = milliseconds(within, what)
        return -ms, ms
    if len(within) != 2:
        raise DefinitionError(f'{what}: expected one duration, or two such as ("-5m", "0s"); got {within!r}')
    low, high = (_signed(one, what) for one in within)
    if low > high:
        raise DefinitionError(f'{what}: expected two durations that ascend, such as ("-5m", "0s"); got {within!r}')
    return low, high


def _signed(duration: Any, what: str) -> int:
    """A duration that may be negative, in milliseconds."""
    if isinstance(duration, str):
        text = duration.strip()
        return -milliseconds(text[1:], what) if text.startswith("-") else milliseconds(text, what)
    if isinstance(duration, bool) or not hasattr(duration, "__neg__"):
        return milliseconds(duration, what)  # raises
    zero = type(duration)(0)
    return -milliseconds(-duration, what) if duration < zero else milliseconds(duration, what)
