"""Types of a table's keys and values: those that msgpack brings back exactly as they were.

What is written is checked to be of its type exactly, down to its innermost parts: msgpack knows no tuples, would read
an ``int`` into a ``float``, and leaves out what no field names. So a value that came back from a changelog never
differs from the one that was put there.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect as types

from streamproc.errors import DefinitionError

#: Where in a value something is wrong (``[3].x``), and what; None: nothing is.
Problem = tuple[str, str] | None
Check = Callable[[Any], Problem]

#: Types whose values never change and take a few bytes.
PLAIN = frozenset({type(None), bool, int, float})
_ATOMS = {
    types.NoneType: type(None),
    types.BoolType: bool,
    types.IntType: int,
    types.FloatType: float,
    types.StrType: str,
    types.BytesType: bytes,
}
_JSON_ATOMS = PLAIN | {str, bytes}
_JSON_KEYS = frozenset({str, int})
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, eq=False)
class RowType:
    """A type of keys or values.

    Args:
        type: as it was written.
        name: for people.
        signature: what the bytes of its values mean; differs where one type would misread the other's.
        plain: whether its values are only ints, floats, bools and None.
        fixed: whether its values can never change in place.
        check: finds what msgpack would not bring back as it is, but for ints past 64 bits and the like, which it
            refuses itself.
        proven: whether values must be read back to see that they are taken: their type has rules of its own.
    """

    type: Any
    name: str
    signature: str
    plain: bool
    fixed: bool
    check: Check
    proven: bool

    @cached_property
    def decode(self) -> Callable[[Any], Any]:
        """The value of its msgpack."""
        return msgspec.msgpack.Decoder(self.type).decode

    def pack(self, value: Any) -> bytes:
        """The value's msgpack. Raises ValueError that says what is wrong with it."""
        try:
            problem = self.check(value)
            if problem is None:
                packed = _encode(value)
                if not self.proven or _encode(self.decode(packed)) == packed:
                    return packed
                problem = "", "expected what is read back as it was; its type changes it"
        except (ValueError, OverflowError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            problem = "", f"msgpack does not take it: {error}"
        where, said = problem
        raise ValueError(f"{said} (at {where})" if where else said)


JSON = "JSON-like"


def value_type(kind: Any, what: str) -> RowType:
    """The type of a table's values. Raises DefinitionError where not all of its values come back as they were."""
    if kind is None or kind is Any:
        return RowType(Any, JSON, JSON, False, False, _json, False)
    try:
        info = types.type_info(kind)
        msgspec.msgpack.Decoder(kind)
        made = _Made(kind)
        signature = made.signature(info)
        check = made.check(info)
    except (TypeError, NameError, _Unsupported) as error:
        raise DefinitionError(
            f"{what}: expected a type of values that msgpack brings back exactly (int, float, str, bytes, bool, list, "
            f"dict, tuple, a Record, dataclass or NamedTuple of those …); got {_named(kind)}: {error}. "
            f"Any Python object can be kept with volatile=True, in memory only"
        ) from None
    plain = all(_ATOMS.get(type(part)) in PLAIN for part in getattr(info, "types", (info,)))
    return RowType(kind, _named(kind), signature, plain and not made.proven, made.fixed, check, made.proven)


def key_type(kind: Any, what: str) -> RowType:
    """The type of a table's keys: str, int, bytes, or a tuple of those."""
    if isinstance(kind, tuple):
        kind = tuple[kind]
    parts = get_args(kind) if get_origin(kind) is tuple else (kind,)
    if not parts or any(part not in (str, int, bytes) for part in parts):
        raise DefinitionError(f"{what}: expected keys of str, int, bytes or a tuple of those; got {_named(kind)}")
    return value_type(kind, what)


def type_of_default(default: Callable[[], Any] | None, what: str) -> Any:
    """The type of the values that ``default`` gives, as far as it says: a type, or a function's annotation."""
    if default is None:
        return None
    if isinstance(default, type):
        return default
    if not (inspect.isfunction(default) or inspect.ismethod(default)) or "return" not in default.__annotations__:
        return None
    try:
        return get_type_hints(default)["return"]
    except (NameError, TypeError) as error:
        raise DefinitionError(
            f"{what}: its default's annotation cannot be read ({error}): name the type, value=…"
        ) from None


class _Unsupported(Exception):
    """A type some of whose values would come back changed."""


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")


def _got(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '…'}"


def _json(value: Any) -> Problem:
    kind = type(value)
    if kind in _JSON_ATOMS:
        return None
    if kind is list:
        return None if _JSON_ATOMS.issuperset(map(type, value)) else _first(_json, enumerate(value))
    if kind is dict:
        if not _JSON_KEYS.issuperset(map(type, value)):
            key = next(key for key in value if type(key) not in _JSON_KEYS)
            return "", f"expected str or int as keys of a dict; got {_got(key)}"
        return None if _JSON_ATOMS.issuperset(map(type, value.values())) else _first(_json, value.items())
    return "", f"expected JSON-like values (None, bool, int, float, str, bytes, list, dict); got {_got(value)}"


def _first(check: Check, items: Any) -> Problem:
    """The first problem among items, with its place before it."""
    for place, item in items:
        if (problem := check(item)) is not None:
            return f"[{place!r}]{problem[0]}", problem[1]
    return None


class _Made:
    """The check and the signature of a type, from msgspec's description of it."""

    def __init__(self, kind: Any) -> None:
        self._name = _named(kind)
        self.fixed = True
        self.proven = False
        self._checks: dict[type, list[Check]] = {}  # of classes, which may hold themselves
        self._told: set[type] = set()

    def check(self, info: types.Type) -> Check:
        if any(getattr(info, bound, None) is not None for bound in _BOUNDS):
            self.proven = True
        if (atom := _ATOMS.get(type(info))) is not None:
            return _of_class(atom)
        match info:
            case types.AnyType():
                self.fixed = False
                return _json
            case types.ListType(item) | types.SetType(item) | types.FrozenSetType(item) | types.VarTupleType(item):
                kind = {types.ListType: list, types.SetType: set, types.VarTupleType: tuple}.get(type(info), frozenset)
                self.fixed &= kind in (tuple, frozenset)
                return _of_items(kind, self.check(item), _ATOMS.get(type(item)))
            case types.TupleType(items):
                return _of_tuple([self.check(item) for item in items])
            case types.DictType(key, value):
                self.fixed = False
                return _of_dict(_json_key if isinstance(key, types.AnyType) else self.check(key), self.check(value))
            case types.UnionType(parts):
                return _of_union(self._name_of(info), [self.check(part) for part in parts])
            case types.LiteralType(values):
                return _of_literal(values)
            case types.EnumType(cls) if not issubclass(cls, enum.Flag):
                return _of_class(cls)
            case types.DecimalType() | types.UUIDType() | types.DateType():
                return _of_class(self._class(info))
            case types.StructType() | types.DataclassType() | types.NamedTupleType() | types.TypedDictType():
                return self._fields(info)
        raise _Unsupported(f"{self._name_of(info)} is not one of these")

    def _fields(self, info: Any) -> Check:
        cls: type = info.cls
        if cls in self._checks:  # not made yet, where it holds itself
            made = self._checks[cls]
            return lambda value: made[0](value)
        self._checks[cls] = []
        if hasattr(cls, "__post_init__"):
            self.proven = True
        struct, data = getattr(cls, "__struct_config__", None), getattr(cls, "__dataclass_params__", None)
        if isinstance(info, types.TypedDictType) or not getattr(struct or data, "frozen", struct is data is None):
            self.fixed = False
        checks = [(field.name, self.check(field.type)) for field in info.fields]
        check = _of_keys(info.fields, checks) if isinstance(info, types.TypedDictType) else _of_fields(cls, checks)
        self._checks[cls].append(check)
        return check

    def signature(self, info: types.Type) -> str:
        """The type written out, with its classes' fields where they first come."""
        match info:
            case types.AnyType():
                return JSON
            case types.UnionType(parts):
                return " | ".join(sorted(map(self.signature, parts)))
            case types.LiteralType(values):
                return f"Literal{sorted(values, key=repr)}"
            case types.EnumType(cls):
                return f"{cls.__name__}{sorted((member.value for member in cls), key=repr)}"
        if fields := getattr(info, "fields", None):
            cls = info.cls  # type: ignore[attr-defined]
            if cls in self._told:
                return str(cls.__name__)
            self._told.add(cls)
            said = ", ".join(f"{field.encode_name}: {self.signature(field.type)}" for field in fields)
            how = "".join(
                f" {name}={value!r}" for name in ("tag", "array_like") if (value := getattr(info, name, None))
            )
            return f"{cls.__name__}({said}){how}"
        inner = [getattr(info, name) for name in ("key_type", "item_type", "value_type") if hasattr(info, name)]
        inner += getattr(info, "item_types", ())
        name = type(info).__name__.removesuffix("Type").lower()
        return f"{name}[{', '.join(map(self.signature, inner))}]" if inner else name

    def _name_of(self, info: types.Type) -> str:
        if isinstance(info, types.UnionType):
            return " | ".join(map(self._name_of, info.types))
        cls = getattr(info, "cls", None)
        return cls.__name__ if cls is not None else type(info).__name__.removesuffix("Type").lower()

    def _class(self, info: types.Type) -> type:
        import datetime
        import decimal
        import uuid

        if isinstance(info, types.DecimalType):
            return decimal.Decimal
        return uuid.UUID if isinstance(info, types.UUIDType) else datetime.date


def _json_key(key: Any) -> Problem:
    return None if type(key) in _JSON_KEYS else ("", f"expected str or int; got {_got(key)}")


def _of_class(cls: type) -> Check:
    def check(value: Any) -> Problem:
        return None if type(value) is cls else ("", f"expected {_named(cls)}; got {_got(value)}")

    return check


def _of_items(cls: Any, item: Check, atom: type | None) -> Check:
    """Of a list, set or tuple of any length; ``atom``: what its items are where that is all there is to see."""
    one = frozenset((atom,))

    def check(value: Any) -> Problem:
        if type(value) is not cls:
            return "", f"expected {cls.__name__}; got {_got(value)}"
        return None if one.issuperset(map(type, value)) else _first(item, enumerate(value))

    return check


def _of_tuple(items: list[Check]) -> Check:
    def check(value: Any) -> Problem:
        if type(value) is not tuple or len(value) != len(items):
            return "", f"expected a tuple of {len(items)}; got {_got(value)}"
        for i, item in enumerate(items):
            if (problem := item(value[i])) is not None:
                return f"[{i}]{problem[0]}", problem[1]
        return None

    return check


def _of_dict(key: Check, item: Check) -> Check:
    def check(value: Any) -> Problem:
        if type(value) is not dict:
            return "", f"expected dict; got {_got(value)}"
        for name in value:
            if (problem := key(name)) is not None:
                return "", f"as a key of the dict, {problem[1]}"
        return _first(item, value.items())

    return check


def _of_union(name: str, parts: list[Check]) -> Check:
    def check(value: Any) -> Problem:
        problems = [part(value) for part in parts]
        if None in problems:
            return None
        deeper = [problem for problem in problems if problem is not None and problem[0]]
        return deeper[0] if deeper else ("", f"expected {name}; got {_got(value)}")

    return check


def _of_literal(values: tuple[Any, ...]) -> Check:
    kinds = {(type(value), value) for value in values}

    def check(value: Any) -> Problem:
        known = type(value) in (str, int) and (type(value), value) in kinds
        return None if known else ("", f"expected one of {values}; got {_got(value)}")

    return check


def _of_fields(cls: type, checks: list[tuple[str, Check]]) -> Check:
    """Of a Struct, dataclass or NamedTuple."""
    names = frozenset(name for name, _ in checks)

    def check(value: Any) -> Problem:
        if type(value) is not cls:
            return "", f"expected {cls.__name__}; got {_got(value)}"
        for name, part in checks:
            if (problem := part(getattr(value, name))) is not None:
                return f".{name}{problem[0]}", problem[1]
        more: Mapping[str, Any] = getattr(value, "__dict__", {})
        if not names.issuperset(more):
            return "", f"expected the fields of {cls.__name__}; got {sorted(more.keys() - names)} beside them"
        return None

    return check


def _of_keys(fields: Any, checks: list[tuple[str, Check]]) -> Check:
    """Of a TypedDict."""
    by_name, needed = dict(checks), frozenset(field.name for field in fields if field.required)

    def check(value: Any) -> Problem:
        if type(value) is not dict:
            return "", f"expected dict; got {_got(value)}"
        if not (needed <= value.keys() <= by_name.keys()):
            return "", f"expected the keys {', '.join(by_name)}; got {_got(value)}"
        return _first(lambda name: by_name[name](value[name]), ((name, name) for name in value))

    return check
