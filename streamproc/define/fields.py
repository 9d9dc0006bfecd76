"""The fields of record types, as definitions need to know them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
import polars as pl

from streamproc.errors import DefinitionError
from streamproc.record import Record


class Field(NamedTuple):
    """A field's Python type without ``None``, and whether ``None`` is allowed."""

    name: str
    type: Any
    nullable: bool

    def __str__(self) -> str:
        return f"{getattr(self.type, '__name__', self.type)}{' | None' if self.nullable else ''}"


@cache
def fields(record: type[Record]) -> Mapping[str, Field]:
    """The fields of a record type, in order."""
    found = {f.encode_name: _field(f.encode_name, f.type) for f in msgspec.structs.fields(record)}
    return types.MappingProxyType(found)


def _field(name: str, kind: Any) -> Field:
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        rest = tuple(arg for arg in get_args(kind) if arg is not type(None))
        return Field(name, rest[0] if len(rest) == 1 else Union[rest], True)  # noqa: UP007
    return Field(name, kind, False)


def require(record: type[Record], name: str, allowed: tuple[Any, ...], what: str, *, nullable: bool = False) -> Field:
    """The field of that name, if it has one of the allowed types.

    Raises:
        DefinitionError: no such field, another type, or it may be null where that is not allowed.
    """
    return wanted(fields(record), record.__name__, name, allowed, what, nullable=nullable)


def wanted(
    known: Mapping[str, Field], owner: str, name: str, allowed: tuple[Any, ...], what: str, *, nullable: bool = False
) -> Field:
    """As :func:`require`, of fields that ``owner`` has."""
    field = existing(known, owner, name, what)
    if field.type not in allowed or (field.nullable and not nullable):
        expected = " or ".join(t.__name__ for t in allowed)
        raise DefinitionError(f"{what}: expected {owner}.{name} to be {expected}; it is {field}")
    return field


def existing(known: Mapping[str, Field], owner: str, name: str, what: str) -> Field:
    """The field of that name. Raises DefinitionError where ``owner`` has none."""
    if name not in known:
        raise DefinitionError(f"{what}: {owner} has no field {name!r}; it has {', '.join(known)}")
    return known[name]


def annotation(field: Field) -> Any:
    """A field's type as it would be written, with ``None`` where it may be null."""
    return Union[field.type, None] if field.nullable else field.type  # noqa: UP007


def polars_type(field: Field) -> Any:
    """The polars type of a field's column; Object where there is none of its own."""
    return _POLARS.get(field.type, pl.Object)


_POLARS: Mapping[Any, Any] = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean, bytes: pl.Binary}
