"""Compares what a run has given with what it should have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from streamproc.avro.codec import Codec
from streamproc.state.head import decode as decode_head
from streamproc.state.rows import HEAD, ROW
from tests.consistency.oracle import Oracle
from tests.consistency.reading import Came

_SHOWN = 5


class Wrong(AssertionError):
    """A run has given something that it should not have, or has not what it should."""


class Sink:
    """The results of a sink, or of one partition of it: what has come, against what is expected.

    Args:
        identity: the fields by which a result is told from others.
        repeats: whether a result may come again, as long as it is the same.
    """

    def __init__(self, short: str, codec: Codec, identity: Sequence[str], *, repeats: bool) -> None:
        self._short, self._codec, self._repeats = short, codec, repeats
        self._identity = attrgetter(*identity)
        self._early: list[
            tuple[tuple[object, ...], tuple[object, ...], int]
        ] = []  # came before the oracle knew of them
        self._missing: dict[Hashable, tuple[object, ...]] = {}
        self._done: dict[Hashable, int] = {}  # hashes of what has come
        self.repeated = 0

    def expect(self, results: dict[Hashable, tuple[object, ...]]) -> None:
        self._missing.update(results)

    def take(self, came: Iterable[Came]) -> None:
        """Raises Wrong where a result is another one than expected, or came twice."""
        found = self._early  # those that came before are tried once more
        for record in came:
            value = self._codec.decode(record.value or b"")
            values = tuple(getattr(value, name) for name in value.__struct_fields__)
            identity = self._identity(value)
            found.append((identity if isinstance(identity, tuple) else (identity,), values, record.offset))
        self._early = []
        for identity, values, offset in found:
            wanted = self._missing.pop(identity, None)
            if wanted is not None:
                if wanted != values:
                    raise Wrong(f"{self._short}: offset {offset}: expected {wanted}; found {values}")
                self._done[identity] = hash(values)
            elif identity in self._done:
                if not self._repeats:
                    raise Wrong(f"{self._short}: offset {offset}: came twice: {values}")
                if self._done[identity] != hash(values):
                    raise Wrong(f"{self._short}: offset {offset}: came again, and is another one: {values}")
                self.repeated += 1
            else:
                self._early.append((identity, values, offset))

    @property
    def settled(self) -> bool:
        return not self._missing and not self._early

    def open(self) -> str:
        """What is not settled."""
        missing, early = list(self._missing.values()), [values for _, values, _ in self._early]
        said = [
            f"{len(some)} {what}, such as {some[:_SHOWN]}"
            for what, some in (("lost", missing), ("that should not be there", early))
            if some
        ]
        return f"{self._short}: {'; '.join(said)}"


class Quick:
    """Windows that the clock may close: no event is lost or counted twice, whichever were late."""

    def __init__(self, windows: Codec, late: Codec, *, repeats: bool) -> None:
        self._windows, self._late, self._repeats = windows, late, repeats
        self._n: Counter[str] = Counter()
        self._seen: dict[tuple[object, ...], int] = {}

    def take(self, windows: Iterable[Came], late: Iterable[Came]) -> None:
        """Raises Wrong where a result came twice, or came again with other values."""
        for record in windows:
            window: Any = self._windows.decode(record.value or b"")
            self._add((window.unit, window.start), window.unit, window.n)
        for record in late:
            event: Any = self._late.decode(record.value or b"")
            self._add((event.id,), event.unit, 1)

    def _add(self, identity: tuple[object, ...], unit: str, n: int) -> None:
        if identity in self._seen:
            if not self._repeats or self._seen[identity] != n:
                raise Wrong(f"quick: {identity}: {n} after {self._seen[identity]}")
            return
        self._seen[identity] = n
        self._n[unit] += n

    def differs(self, oracle: Oracle) -> dict[str, int]:
        """By unit, how many events too many, or too few."""
        return {unit: self._n[unit] - n for unit, n in oracle.of_unit.items() if self._n[unit] != n}


def check_head(stage: str, rows: dict[bytes, bytes], position: int) -> None:
    """Raises Wrong where a changelog partition's rows are not of this position in the source."""
    head = decode_head(rows[HEAD]) if HEAD in rows else None
    if head is None or [*head.positions.values()] != [position]:
        raise Wrong(f"{stage}: the state is of {head and head.positions}; expected {position}")


def check_table(stage: str, rows: dict[bytes, bytes], table: str, wanted: dict[str, Any]) -> None:
    """Raises Wrong where a changelog partition's rows are not the table's."""
    found: dict[str, Any] = {}
    for key, value in rows.items():
        if key[:1] == ROW:
            names = msgspec.msgpack.decode(key[1:])
            if len(names) == 2 and names[0] == table:
                found[names[1]] = msgspec.msgpack.decode(value)[1]
    if found != wanted:
        keys = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
        shown = {key: (found.get(key), wanted.get(key)) for key in keys[:_SHOWN]}
        raise Wrong(f"{stage}: table {table}: found and expected: {shown}")
