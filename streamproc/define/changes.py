"""Change streams: the changes of a table as a channel's results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamproc.define.fields import fields
from streamproc.errors import DefinitionError
from streamproc.record import Record

if TYPE_CHECKING:
    from streamproc.define.table import Table
    from streamproc.define.topic import Channel

#: The fields that a record of changes may have beside key and value, by their types; only ``written`` must be there.
_BESIDE = {"written": int, "stage": str, "partition": int}


@dataclass(frozen=True, eq=False, slots=True)
class ChangeStream:
    """What becomes of a table's changes: a record each in ``channel``."""

    table: Table[Any]
    channel: Channel
    fields: frozenset[str]  # of its record


def check_record(table: Table[Any], record: type[Record], what: str) -> frozenset[str]:
    """The fields of a record that can tell a table's changes.

    Raises:
        DefinitionError: it cannot.
    """
    if table.volatile:
        raise DefinitionError(f"{what}: the table is volatile: nothing is kept of it, so nothing is told")
    if table.key.type not in (str, int):
        raise DefinitionError(f"{what}: expected a table with keys of str or int; it has {table.key.name}")
    if table.value.type is Any:
        raise DefinitionError(f"{what}: the table takes any {table.value.name} value: say its type, value=…")
    if table.value.check(None) is None:
        raise DefinitionError(f"{what}: the table's values may be None, which tells that a row is gone")
    if not (isinstance(record, type) and issubclass(record, Record)):
        raise DefinitionError(f"{what}: expected a subclass of Record; got {record!r}")
    known = fields(record)
    wanted = {"key": (table.key.type, False), "value": (table.value.type, True)}
    wanted |= {name: (kind, False) for name, kind in _BESIDE.items() if name in known or name == "written"}
    for name, (kind, nullable) in wanted.items():
        expected = f"{getattr(kind, '__name__', kind)}{' | None' if nullable else ''}"
        field = known.get(name)
        if field is None or field.type != kind or field.nullable is not nullable:
            found = "it has none of that name" if field is None else f"it is {field}"
            raise DefinitionError(f"{what}: expected {record.__name__}.{name} to be {expected}; {found}")
    if more := sorted(known.keys() - wanted.keys()):
        raise DefinitionError(
            f"{what}: {record.__name__} has {', '.join(more)}; of a change are told key, value, {', '.join(_BESIDE)}"
        )
    return frozenset(known)
