"""Which record types take every value that their schema takes."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec


def may_refuse(record: type[msgspec.Struct]) -> bool:
    """Whether a type may refuse a value of its schema: it has constraints, or code that runs when one is made. Then
    every record must be made to be known as good.
    """
    return _may_refuse(record, set())


def _may_refuse(hint: Any, seen: set[Any]) -> bool:
    if get_origin(hint) is Annotated:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint in seen:
            return False
        seen.add(hint)
        if hasattr(hint, "__post_init__"):
            return True
        return any(_may_refuse(part, seen) for part in get_type_hints(hint, include_extras=True).values())
    return any(_may_refuse(part, seen) for part in get_args(hint))
