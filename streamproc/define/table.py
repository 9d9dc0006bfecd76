"""Tables: state by key, owned by the task (agent and partition) that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from streamproc.errors import StreamprocError

V = TypeVar("V")

#: The tables of the task that is running, by name: set once in each task's context.
tables_of_task: ContextVar[dict[str, dict[Any, Any]]] = ContextVar("tables_of_task")


class Table(MutableMapping[Any, V], Generic[V]):
    """A mapping from keys to values. A missing key gets ``default()`` when ``table[key]`` reads it; ``get``, ``pop``
    and ``setdefault`` never call it. All as in ``defaultdict``.

    Inside an agent it is the running task's own: two partitions never see each other's keys. Use the topic's key as
    the table's key, so that all events of a key meet the same value.

    What an event did to it before it raised stays done.
    """

    def __init__(self, name: str, default: Callable[[], V] | None = None) -> None:
        self.name = name
        self.default = default

    def _state(self) -> dict[Any, V]:
        try:
            return tables_of_task.get().setdefault(self.name, {})
        except LookupError:
            raise StreamprocError(
                f"table {self.name!r} was used outside an agent: its state belongs to a running task"
            ) from None

    def __getitem__(self, key: Any) -> V:
        state = self._state()
        try:
            return state[key]
        except KeyError:
            if self.default is None:
                raise
            value = state[key] = self.default()
            return value

    def __setitem__(self, key: Any, value: V) -> None:
        self._state()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._state()[key]

    # MutableMapping's own would read the key, and so make a default of each one that is asked about.

    def get(self, key: Any, default: Any = None) -> Any:
        return self._state().get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        return self._state().pop(key, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        return self._state().setdefault(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._state()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._state())

    def __len__(self) -> int:
        return len(self._state())

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"Table({self.name!r})"
