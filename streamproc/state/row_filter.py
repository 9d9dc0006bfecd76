"""Which rows of tables are wanted: those whose keys begin with a text, and whose fields compare as asked."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from streamproc.errors import SettingsError
from streamproc.state.table_rows import TableRow

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*((?:key|value|written)(?:\.[^.<>=!\s]+)*)\s*(==|!=|<=|>=|=|<|>)\s*(.+?)\s*")
_MISSING = object()

Wanted = Callable[[TableRow], bool]


def wanted(prefix: str | None, conditions: Sequence[str]) -> Wanted:
    """What takes a row, or not: it must meet all conditions.

    Args:
        prefix: of keys; of tuples', of their first parts.
        conditions: such as ``value > 3``, ``value.limit == null``, ``key.1 = 7``: a path into key, value or written,
            and a JSON value, or a text without quotes. A row that has no such field, or one of another type, is not
            taken, but by ``!=``.

    Raises:
        SettingsError: a condition is none.
    """
    checks = [_condition(text) for text in conditions]
    if prefix is not None:
        checks.append(lambda row: _first(row.key).startswith(prefix))
    return lambda row: all(check(row) for check in checks)


def _first(key: Any) -> str:
    while isinstance(key, list):
        key = key[0]
    return str(key)


def _condition(text: str) -> Wanted:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise SettingsError(f"--where: expected such as 'value > 3' or 'value.name == x'; got {text!r}")
    root, *names = found[1].split(".")
    compare = _OPERATORS[found[2]]
    try:
        other = json.loads(found[3])
    except ValueError:
        other = found[3]

    def check(row: TableRow) -> bool:
        value = _at(getattr(row, root), names)
        if compare is operator.ne:
            return bool(value != other)  # also of what is not there
        if value is _MISSING or not _comparable(value, other):
            return False
        return compare(value, other)

    def _comparable(one: Any, two: Any) -> bool:
        if compare is operator.eq:
            return True
        numbers = isinstance(one, int | float) and isinstance(two, int | float)
        return numbers or (isinstance(one, str) and isinstance(two, str))

    return check


def _at(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _MISSING
    return value
