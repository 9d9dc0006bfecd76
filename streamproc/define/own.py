"""Classes of one's own as aggregates: what they must be, and how their instances are kept."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, Protocol

import msgspec

from streamproc.errors import DefinitionError


class Accumulator(Protocol):
    """What a class of one's own needs to be an aggregate: see :func:`streamproc.define.aggregates.own`."""

    def add(self, *values: Any) -> None:
        """Takes one event's fields in."""

    def merge(self, other: Any) -> None:
        """Takes in what another one has, which is not to change; its events come later, or from a later pane."""

    def close(self) -> Any:
        """The result. It may be asked for more than once, and more may be added afterwards."""


def check(maker: type[Accumulator], fields: tuple[str, ...]) -> None:
    """Raises DefinitionError where it is no class to aggregate with."""
    for method in ("add", "merge", "close"):
        if not callable(getattr(maker, method, None)):
            raise DefinitionError(f"own: expected a class with add, merge and close; {maker!r} has no {method}")
    if not inspect.isclass(maker):
        raise DefinitionError(f"own: expected a class, of which instances can be made; got {maker!r}")
    if not fields or not all(isinstance(field, str) for field in fields):
        raise DefinitionError(f"own: expected the fields that {maker.__name__}.add takes, by name; got {fields!r}")
    if callable(getattr(maker, "dump", None)) != callable(getattr(maker, "load", None)):
        raise DefinitionError(f"own: expected {maker.__name__} to have both dump and load, or neither")
    try:
        loaded(maker, dumped(maker()))
    except Exception as error:
        raise DefinitionError(
            f"own: expected {maker.__name__}() to make what can be kept; {error.__class__.__name__}: {error}"
        ) from error


def dumped(instance: Any) -> bytes:
    """An instance of a class of one's own, as bytes.

    Raises:
        TypeError: it holds what is not kept as it is.
    """
    if callable(dump := getattr(instance, "dump", None)):
        if not isinstance(found := dump(), bytes):
            raise TypeError(f"expected bytes of dump; got {found!r}")
        return found
    state = {name: getattr(instance, name) for name in _slots(type(instance)) if hasattr(instance, name)}
    state.update(getattr(instance, "__dict__", {}))
    for name, value in state.items():
        _check_plain(name, value)
    return msgspec.msgpack.encode(state)


def loaded(maker: type[Accumulator], data: bytes) -> Any:
    """The instance of which these are the bytes."""
    if callable(load := getattr(maker, "load", None)):
        return load(data)
    instance = object.__new__(maker)
    for name, value in msgspec.msgpack.decode(data).items():
        object.__setattr__(instance, name, value)
    return instance


def _check_plain(name: str, value: Any) -> None:
    kind = type(value)
    if kind is list:
        for item in value:
            _check_plain(name, item)
    elif kind is dict:
        for key, item in value.items():
            _check_plain(name, key)
            _check_plain(name, item)
    elif kind not in (NoneType, bool, int, float, str, bytes):
        raise TypeError(f"{name} is a {kind.__name__}, which is not kept; give the class dump and load")


def _slots(kind: type) -> list[str]:
    found: list[str] = []
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return [name for name in found if name not in ("__dict__", "__weakref__")]
