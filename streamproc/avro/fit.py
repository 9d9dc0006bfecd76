"""Whether values fit a schema, exactly. fastavro writes what it is given where it can be forced: 1.5 as the long 1,
None as false, 2**40 as an "int", 1e300 as an infinite "float". A log must not hold what nobody said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from streamproc.avro.ports import Schema

#: The path, below a value, of what does not fit: "" for the value itself, None when all fits.
Check = Callable[[Any], str | None]


def checker(schema: Schema, names: dict[str, Check] | None = None) -> Check:
    """The check of values of a schema, without logical types and with full names."""
    names = {} if names is None else names
    if isinstance(schema, list):
        return _union([checker(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _PLAIN.get(schema) or (lambda value: names[schema](value))
    kind = schema["type"]
    if kind == "record":
        return _record(schema, names)
    if kind == "array":
        return _array(checker(schema["items"], names))
    if kind == "map":
        return _map(checker(schema["values"], names))
    if kind in ("enum", "fixed"):
        return names.setdefault(schema["name"], _enum(schema) if kind == "enum" else _fixed(schema["size"]))
    return checker(kind, names)


def _is(fits: Callable[[Any], bool]) -> Check:
    return lambda value: None if fits(value) else ""


def _integer(bits: int) -> Check:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return _is(lambda value: (type(value) is int or isinstance(value, np.integer)) and low <= int(value) <= high)


def _double(value: Any) -> bool:
    if type(value) is float or isinstance(value, np.floating):
        return True
    return type(value) is int and abs(value) <= 1 << 1023 and int(float(value)) == value


def _float(value: Any) -> bool:
    return _double(value) and (not math.isfinite(value) or abs(float(value)) < 2.0**128 - 2.0**103)


def _string(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


_PLAIN: dict[str, Check] = {
    "null": _is(lambda value: value is None),
    "boolean": _is(lambda value: value is True or value is False),
    "int": _integer(32),
    "long": _integer(64),
    "float": _is(_float),
    "double": _is(_double),
    "string": _is(_string),
    "bytes": _is(lambda value: isinstance(value, bytes)),
}


def _fixed(size: int) -> Check:
    return _is(lambda value: isinstance(value, bytes) and len(value) == size)


def _enum(schema: dict[str, Any]) -> Check:
    symbols = frozenset(schema["symbols"])
    return _is(lambda value: isinstance(value, str) and value in symbols)


def _union(branches: list[Check]) -> Check:
    def check(value: Any) -> str | None:
        below = ""
        for branch in branches:
            found = branch(value)
            if found is None:
                return None
            below = found or below
        return below

    return check


def _array(item: Check) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, list):
            return ""
        for index, each in enumerate(value):
            if (found := item(each)) is not None:
                return f"[{index}]{found}"
        return None

    return check


def _map(item: Check) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return ""
        for key, each in value.items():
            found = item(each) if _string(key) else ""
            if found is not None:
                return f"[{key!r}]{found}"
        return None

    return check


def _record(schema: dict[str, Any], names: dict[str, Check]) -> Check:
    fields: list[tuple[str, Check]] = []

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return ""
        for name, fits in fields:
            found = fits(value[name]) if name in value else ""
            if found is not None:
                return f".{name}{found}"
        return None

    names[schema["name"]] = check
    fields += [(field["name"], checker(field["type"], names)) for field in schema["fields"]]
    return check
