"""Steps of flows: what ``where``, ``with_columns``, ``select``, ``map``, ``flat_map`` and ``branch`` make of a flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from streamproc.define.expressions import Made, condition, made
from streamproc.define.fields import Field, annotation, fields
from streamproc.define.probing import never_null
from streamproc.define.steps import FlatMap, Map, Select, Where, WithColumns
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.flow import Flow


def filtered(flow: Flow, expr: Any, called: str = "where") -> Flow:
    """The rows for which it is true."""
    expr = condition(expr, flow.fields, flow.owner, f"{flow.what}, {called}")
    return _filtered(flow, expr)


def _filtered(flow: Flow, expr: pl.Expr) -> Flow:
    left = {name: field._replace(nullable=False) for name, field in never_null(expr, flow.fields).items()}
    return flow.then(Where(expr), {**flow.fields, **left}, record=flow.record, key=flow.key, time=flow.time)


def branched(flow: Flow, exprs: tuple[Any, ...]) -> tuple[Flow, ...]:
    """A flow for each condition, of the rows for which it is the first that is true; and one of the rest."""
    what = f"{flow.what}, branch"
    if not exprs:
        raise DefinitionError(f'{what}: expected at least one condition, such as pl.col("x") > 0')
    found = []
    rest: pl.Expr | None = None
    for expr in exprs:
        holds = condition(expr, flow.fields, flow.owner, what).fill_null(False)
        found.append(_filtered(flow, holds if rest is None else rest & holds))
        rest = ~holds if rest is None else rest & ~holds
    assert rest is not None
    return (*found, _filtered(flow, rest))


def widened(flow: Flow, given: tuple[Any, ...], named: Mapping[str, Any]) -> Flow:
    """With columns more, or others in the place of those of the same names."""
    columns = made(given, named, flow.fields, flow.owner, f"{flow.what}, with_columns")
    step = WithColumns(tuple(one.expr for one in columns.values()))
    kept = {name: Made(pl.col(name), field, name) for name, field in flow.fields.items()}
    return _with(flow, step, {**kept, **columns}, "with_columns")


def selected(flow: Flow, given: tuple[Any, ...], named: Mapping[str, Any]) -> Flow:
    """With these columns only."""
    columns = made(given, named, flow.fields, flow.owner, f"{flow.what}, select")
    return _with(flow, Select(tuple(one.expr for one in columns.values())), columns, "select")


def mapped(flow: Flow, step: type[Map] | type[FlatMap], out: Any, fn: Callable[[Any], Any]) -> Flow:
    """Records made of rows by a function."""
    called = "map" if step is Map else "flat_map"
    what = f"{flow.what}, {called}"
    if not (isinstance(out, type) and issubclass(out, Record)):
        raise DefinitionError(f"{what}: expected a subclass of Record for what the function gives; got {out!r}")
    _check_function(fn, what)
    found = fields(out)
    key = flow.key if flow.key and found.get(flow.key) == flow.fields[flow.key] else None
    time = flow.time if flow.time and found.get(flow.time) == flow.fields[flow.time] else None
    lost = f"{called} makes {out.__name__}, without it"
    return flow.then(step(row_type(flow), out, fn, key), found, record=out, key=key, time=time, lost=lost)


def row_type(flow: Flow) -> type[msgspec.Struct]:
    """What a function gets of each row: the record type, or a struct of the flow's columns."""
    if flow.record is not None:
        return flow.record
    columns = [(name, annotation(field)) for name, field in flow.fields.items()]
    return msgspec.defstruct("Row", columns, frozen=True)


def _with(flow: Flow, step: WithColumns | Select, columns: Mapping[str, Made], called: str) -> Flow:
    found = {name: one.field for name, one in columns.items()}
    key, time = _followed(columns, flow.key), flow.time
    if time is not None and not (time in found and found[time] == Field(time, int, False)):
        time = _followed(columns, time)
    lost = f"{called} leaves it out, or makes another of it"
    return flow.then(step, found, record=_same(flow.record, found), key=key, time=time, lost=lost)


def _followed(columns: Mapping[str, Made], name: str | None) -> str | None:
    """What a column is called now: as before, or else the first that it was renamed to."""
    if name is None or (name in columns and columns[name].column == name):
        return name
    return next((now for now, one in columns.items() if one.column == name), None)


def _same(record: type[Record] | None, found: Mapping[str, Field]) -> type[Record] | None:
    """The record type, if it has these fields and no others."""
    if record is None or fields(record).keys() != found.keys():
        return None
    fits = all(
        one.type == found[name].type and (one.nullable or not found[name].nullable)
        for name, one in fields(record).items()
    )
    return record if fits else None


def _check_function(fn: Any, what: str) -> None:
    if not callable(fn):
        raise DefinitionError(f"{what}: expected a function of one record; got {fn!r}")
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(f"{what}: expected a plain function; {fn.__name__} is async: that is for an agent")
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        raise DefinitionError(f"{what}: expected a function of one record; got {fn!r}") from None
    except ValueError:
        pass  # of a builtin nothing is known
