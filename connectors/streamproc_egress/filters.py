"""Filters of subscriptions: trees of comparisons of a result's fields, checked against the channel's type.

A node is a comparison, ``{"key", "cmp", "val" | "vals"}``, or an operator over others, ``{"op": "and" | "or" | "not",
"nodes"}``. Source: Centrifugo's documentation, "Server-side publication filtering" (FilterNode). There, fields are tags
with texts; here they are those of the record, so numbers are compared as numbers.

A field that is null, and every field of a tombstone, is equal to nothing: ``neq``, ``nin`` and ``nex`` hold, the others
do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from streamproc.avro.codec import field_of
from streamproc.define.fields import fields
from streamproc.edge.words import MALFORMED
from streamproc.record import Record

KEY = "$key"  # the result's Kafka key, as text
DEPTH, NODES, VALUES = 8, 64, 256
_Compare = Literal["eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte"]
_Value = str | int | float | bool
_TEXT = {"sw": str.startswith, "ew": str.endswith, "ct": str.__contains__}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda have, value: have > value,
    "gte": lambda have, value: have >= value,
    "lt": lambda have, value: have < value,
    "lte": lambda have, value: have <= value,
}
_NEGATIVE = {"neq": "eq", "nin": "in", "nex": "ex"}


class FilterError(Exception):
    """A filter that the channel cannot have. ``field`` is the place inside it."""

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        super().__init__(text)


class Node(Struct, forbid_unknown_fields=True):
    """One node, as it comes."""

    op: Literal["", "and", "or", "not"] = ""
    key: str = ""
    cmp: _Compare | Literal[""] = ""
    val: _Value | UnsetType = UNSET
    vals: list[_Value] | UnsetType = UNSET
    nodes: list[Node] | UnsetType = UNSET


class Seen(NamedTuple):
    """What a filter looks at: a result's key as text, and its record, which a tombstone has not."""

    key: str | None
    record: Record | None


class Filter:
    """A filter in one form, whatever way it was written: like ones are equal, and hash alike."""

    __slots__ = ("_form", "_hash", "matches")

    def __init__(self, form: tuple[Any, ...]) -> None:
        self._form = form
        self._hash = hash(form)
        #: Whether a result is wanted.
        self.matches: Callable[[Seen], bool] = _compiled(form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self._form == other._form

    def __hash__(self) -> int:
        return self._hash


_decode = msgspec.json.Decoder(Node).decode


def filter_of(raw: Raw | bytes, record: type[Record]) -> Filter:
    """A filter out of its JSON.

    Raises:
        FilterError: no filter; a field that the record has not, a comparison that its type does not have, or a value
            that is none of it; or more than :data:`DEPTH` levels, :data:`NODES` nodes or :data:`VALUES` values.
    """
    try:
        root = _decode(raw)
    except MALFORMED as error:
        if not isinstance(error, msgspec.ValidationError):
            raise FilterError("filter", f"filter: not JSON, or nested too deeply: {error}") from None
        field, text = field_of(str(error))
        raise FilterError(_inside("filter", field), f"{_inside('filter', field)}: {text}") from None
    return Filter(_Check(record).form(root, "filter", 1))


class _Check:
    """Turns nodes into their form, counting them."""

    def __init__(self, record: type[Record]) -> None:
        self._record = record
        self._nodes = self._values = 0

    def form(self, node: Node, at: str, depth: int) -> tuple[Any, ...]:
        self._nodes += 1
        if depth > DEPTH or self._nodes > NODES:
            raise FilterError(at, f"{at}: a filter has at most {DEPTH} levels and {NODES} nodes")
        return self._operator(node, at, depth) if node.op else self._comparison(node, at)

    def _operator(self, node: Node, at: str, depth: int) -> tuple[Any, ...]:
        if node.key or node.cmp or node.val is not UNSET or node.vals is not UNSET:
            raise FilterError(at, f"{at}: {node.op!r} has nodes, and no key, cmp, val or vals")
        given = [] if isinstance(node.nodes, UnsetType) else node.nodes
        if not given or (node.op == "not" and len(given) != 1):
            many = "one node" if node.op == "not" else "at least one node"
            raise FilterError(f"{at}.nodes", f"{at}.nodes: expected {many}; got {len(given)}")
        forms = [self.form(inner, f"{at}.nodes[{n}]", depth + 1) for n, inner in enumerate(given)]
        if node.op == "not":
            return forms[0][1] if forms[0][0] == "not" else ("not", forms[0])
        flat = {part for form in forms for part in (form[1] if form[0] == node.op else (form,))}
        return flat.pop() if len(flat) == 1 else (node.op, tuple(sorted(flat, key=repr)))

    def _comparison(self, node: Node, at: str) -> tuple[Any, ...]:
        if node.nodes is not UNSET:
            raise FilterError(at, f"{at}: nodes need an op: and, or, not")
        if not node.cmp:
            raise FilterError(f"{at}.cmp", f"{at}.cmp: expected a comparison such as eq, or an op with nodes")
        kind = self._kind(node.key, f"{at}.key")
        compare, negative = _NEGATIVE.get(node.cmp, node.cmp), node.cmp in _NEGATIVE
        values = self._values_of(node, at)
        if compare in _TEXT and kind is not str:
            raise FilterError(f"{at}.cmp", f"{at}.cmp: {node.cmp!r} is for texts; {node.key!r} is {_name(kind)}")
        if compare in _ORDER and kind not in (int, float):
            raise FilterError(f"{at}.cmp", f"{at}.cmp: {node.cmp!r} is for numbers; {node.key!r} is {_name(kind)}")
        if compare in ("eq", "in") and kind not in (str, int, float, bool):
            text = f"{at}.cmp: {node.cmp!r} is for texts, numbers and booleans; {node.key!r} is {_name(kind)}"
            raise FilterError(f"{at}.cmp", text)
        typed = {_typed(value, kind, at) for value in values}
        name = "in" if compare == "eq" else compare
        form = (name, tuple(node.key.split(".")), tuple(sorted(typed)))
        return ("not", form) if negative else form

    def _values_of(self, node: Node, at: str) -> list[_Value]:
        many, none = node.cmp in ("in", "nin"), node.cmp in ("ex", "nex")
        wrong, right = ("val", "vals") if many else ("vals", "val")
        if none and (node.val is not UNSET or node.vals is not UNSET):
            raise FilterError(at, f"{at}: {node.cmp!r} has neither val nor vals")
        if none:
            return []
        if getattr(node, wrong) is not UNSET or getattr(node, right) is UNSET:
            raise FilterError(f"{at}.{right}", f"{at}: {node.cmp!r} has {right}, and no {wrong}")
        values: list[_Value] = list(getattr(node, right)) if many else [getattr(node, right)]
        self._values += len(values)
        if self._values > VALUES:
            raise FilterError(f"{at}.vals", f"{at}.vals: a filter has at most {VALUES} values")
        return values

    def _kind(self, path: str, at: str) -> Any:
        """The type of what a path leads to, without None."""
        if path == KEY:
            return str
        kind: Any = self._record
        for part in path.split("."):
            known = fields(kind) if isinstance(kind, type) and issubclass(kind, Struct) else {}
            if part not in known:
                names = ", ".join([*known][:20]) or "nothing: it is no record"
                raise FilterError(at, f"{at}: {path!r}: expected {KEY}, or one of {names}")
            kind = known[part].type
        return kind


def _typed(value: _Value, kind: Any, at: str) -> _Value:
    """A value as one of the field's type; numbers and booleans may come as texts."""
    try:
        if kind is bool and value in (True, False, "true", "false"):
            return value in (True, "true")
        if kind is str and isinstance(value, str):
            return value
        if kind in (int, float) and not isinstance(value, bool):
            if isinstance(value, int) or re.fullmatch(r"[+-]?\d{1,40}", str(value)):
                return int(value)  # a float would round it
            found = float(value)
            if found == found:  # nothing is equal to what is no number, and nothing comes before or after it
                return found
    except (ValueError, OverflowError):
        pass
    raise FilterError(f"{at}.val", f"{at}.val: expected {_name(kind)}; got {value!r}")


def _compiled(form: tuple[Any, ...]) -> Callable[[Seen], bool]:
    kind = form[0]
    if kind == "not":
        inner = _compiled(form[1])
        return lambda seen: not inner(seen)
    if kind in ("and", "or"):
        parts, every = [_compiled(part) for part in form[1]], all if kind == "and" else any
        return lambda seen: every(part(seen) for part in parts)
    get, values = _getter(form[1]), form[2]
    if kind == "ex":
        return lambda seen: get(seen) is not None
    if kind == "in":
        wanted = frozenset(values)
        return lambda seen: get(seen) in wanted
    compare, value = _TEXT.get(kind) or _ORDER[kind], values[0]

    def compares(seen: Seen) -> bool:
        have = get(seen)
        return have is not None and compare(have, value)

    return compares


def _getter(path: tuple[str, ...]) -> Callable[[Seen], Any]:
    if path == (KEY,):
        return lambda seen: seen.key

    def get(seen: Seen) -> Any:
        found: Any = seen.record
        for part in path:
            if found is None:
                return None
            found = getattr(found, part)
        return found

    return get


def _inside(at: str, field: str | None) -> str:
    return f"{at}.{field}" if field else at


def _name(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, f"of type {getattr(kind, '__name__', kind)}")
