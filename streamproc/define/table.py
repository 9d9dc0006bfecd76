"""Tables: state by key, owned by the task (agent and partition) that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, get_args

from streamproc.define.changes import ChangeStream, check_record
from streamproc.define.duration import Duration, milliseconds, written
from streamproc.define.row_types import RowType, key_type, type_of_default, value_type
from streamproc.errors import DefinitionError, StreamprocError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.app import App
    from streamproc.define.topic import Channel

V = TypeVar("V")
Store = Literal["memory", "disk"]  # where a table's rows lie while a worker runs


class Rows(Protocol):
    """What a task holds of one table."""

    def read(self, key: Any) -> Any:
        """The value; of a missing key the table's default, which is then its value."""

    def get(self, key: Any, default: Any) -> Any: ...

    def write(self, key: Any, value: Any) -> None: ...

    def remove(self, key: Any) -> None: ...

    def has(self, key: Any) -> bool: ...

    def keys(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class Tables(Protocol):
    """What a task holds of all tables."""

    held: dict[int, Any]  # Rows of tables, by their ``ident``, as far as they were asked for

    def rows(self, table: Table[Any]) -> Rows: ...


#: The tables of the task that is running: set once in each task's context.
tables_of_task: ContextVar[Tables] = ContextVar("tables_of_task")


class Table(MutableMapping[Any, V], Generic[V]):
    """A mapping from keys to values, in the order in which keys came. A missing key gets ``default()`` when
    ``table[key]`` reads it; ``get``, ``pop`` and ``setdefault`` never call it. All as in ``defaultdict``.

    Inside an agent it is the running task's own: two partitions never see each other's keys, and two agents that use
    one table each have their own rows. Use the topic's key as the table's key, so that all events of a key meet the
    same value.

    What an event did to it before it raised is undone. A value that was read may be changed in place until the event
    is done; then it lies encoded, and ``table[key]`` gives a fresh one to the next event. So read it anew for each
    event: what an agent still holds of an earlier one is only a copy.

    Args:
        key: the type of its keys: str, int, bytes, or a tuple of those.
        value: the type of its values, down to their innermost parts; None: the type that ``default`` says, or else
            JSON-like values. What is written must be exactly of it, for what comes back after a crash is.
        ttl: for how long a row is kept that is not written, in event time. None: for ever.
        volatile: whether it is kept in memory only, with any Python objects as values. What an event changed inside of
            such an object before it raised stays changed.
        store: ``"disk"``: rows lie in files of the worker's ``--state-dir``, and only some of them in memory. Keys come
            in the order of their msgpack's bytes then. Nothing else differs.

    The time that counts is the highest event time which the task has seen, the event in work included; never the
    clock. A row written at ``t`` is gone once it is ``t + ttl``. A batch counts as one moment of 64 to the shortest
    ttl of the app: a batch never reaches over two of them, it sees the rows as they are when its moment begins, and
    what it writes counts as written when its moment ends.
    """

    def __init__(
        self,
        name: str,
        default: Callable[[], V] | None = None,
        *,
        key: Any = str,
        value: Any = None,
        ttl: Duration | None = None,
        volatile: bool = False,
        store: Store = "memory",
    ) -> None:
        what = f"table {name!r}"
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200:
            raise DefinitionError(f"table: expected a name of 1 to 200 printable characters; got {name!r}")
        if default is not None and not callable(default):
            raise DefinitionError(f"{what}: expected a default that is called for each missing key; got {default!r}")
        if volatile and value is not None:
            raise DefinitionError(f"{what}: it is volatile, and so takes any Python object: leave its value out")
        if store not in get_args(Store):
            raise DefinitionError(f"{what}: expected a store of {' or '.join(get_args(Store))}; got {store!r}")
        if volatile and store == "disk":
            raise DefinitionError(f"{what}: it is volatile, and so takes any Python object: those have no form on disk")
        self.name = name
        self.default = default
        self.key: RowType = key_type(key, what)
        if value is None and not volatile:
            value = type_of_default(default, what)
        self.value: RowType = value_type(value, what)
        self.ttl = None if ttl is None else milliseconds(ttl, f"{what}: ttl")
        if self.ttl == 0:
            raise DefinitionError(f"{what}: expected a ttl of 1 ms or more; got {ttl!r}")
        self.volatile = volatile
        self.store: Store = store
        self.ident = id(self)
        self.app: App | None = None  # that declares it
        self.change_stream: ChangeStream | None = None

    def changes(
        self,
        name: str,
        record: type[Record],
        *,
        partitions: int | None = None,
        config: Mapping[str, str] = MappingProxyType({}),
    ) -> Channel:
        """Declares a channel of this table's changes: with each flush, the last value of every row that changed since
        the one before, in the same transaction as the state. Whoever takes them over, in order, has the table.

        Args:
            name: the channel's.
            record: with the fields ``key``; ``value``, which is null where a row is gone; ``written``, in milliseconds:
                event time where the table has a ttl, else when it was kept; and, if wanted, ``stage`` and
                ``partition``: the agent whose row it is, and the partition of its source.
            partitions: of the channel's topic; the app's, when None.
            config: of the channel's topic: ``{"cleanup.policy": "compact"}`` keeps each row's last change for ever.

        Raises:
            DefinitionError: the record does not fit the table, or the table has a change stream, or nothing is kept.
        """
        what = f"changes of table {self.name!r}"
        if self.app is None:
            raise DefinitionError(f"{what}: it is no app's: make it by app.table(…)")
        if self.app.flush is None:
            raise DefinitionError(f"{what}: the app has flush=None, so nothing of it is ever kept or told")
        if self.change_stream is not None:
            raise DefinitionError(f"{what}: they go to {self.change_stream.channel.name!r} already")
        found = check_record(self, record, what)
        channel = self.app.channel(name, record, key="key", time="written", partitions=partitions, config=config)
        self.change_stream = ChangeStream(self, channel, found)
        return channel

    def _rows(self) -> Rows:
        try:
            tables = tables_of_task.get()
        except LookupError:
            raise StreamprocError(
                f"table {self.name!r} was used outside an agent: its state belongs to a running task"
            ) from None
        return tables.rows(self)

    def __getitem__(self, key: Any) -> V:
        try:
            rows = tables_of_task.get().held[self.ident]
        except LookupError:
            rows = self._rows()
        return rows.read(key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: V) -> None:
        try:
            rows = tables_of_task.get().held[self.ident]
        except LookupError:
            rows = self._rows()
        rows.write(key, value)

    def __delitem__(self, key: Any) -> None:
        self._rows().remove(key)

    # MutableMapping's own would read the key, and so make a default of each one that is asked about.

    def get(self, key: Any, default: Any = None) -> Any:
        return self._rows().get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        rows = self._rows()
        if not rows.has(key):
            if default:
                return default[0]
            raise KeyError(key)
        value = rows.read(key)
        rows.remove(key)
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        rows = self._rows()
        if not rows.has(key):
            rows.write(key, default)
        return rows.read(key)

    def clear(self) -> None:
        for key in list(self):  # the inherited one would look for the first key again and again
            del self[key]

    def __contains__(self, key: object) -> bool:
        return self._rows().has(key)

    def __iter__(self) -> Iterator[Any]:
        return self._rows().keys()

    def __len__(self) -> int:
        return len(self._rows())

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"Table({self.name!r})"

    def __str__(self) -> str:
        """Name, types and how long rows are kept, for people."""
        value = "any object" if self.volatile else self.value.name
        ttl = f", ttl {written(self.ttl)}" if self.ttl is not None else ""
        where = ", volatile" if self.volatile else ", on disk" if self.store == "disk" else ""
        return f"{self.name}: {self.key.name} to {value}{ttl}{where}"
