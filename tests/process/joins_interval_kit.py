"""What the tests of interval joins share: rows of every type, in takes that are cut anywhere, kept and brought back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np
import polars as pl

from streamproc import compiled as kernels
from streamproc.columns import Column, Columns, Texts
from streamproc.define.fields import Field
from streamproc.define.operators import Interval
from streamproc.process.events import Events, Ordered
from streamproc.process.joins import interval, interval_chunks, interval_columns, interval_matches, interval_side
from streamproc.process.joins.interval import IntervalOperator
from streamproc.process.state import binary, items
from tests.process.joins_oracle import Paired

WAYS = [False, True] if kernels.available() else [False]
FOREVER = 2**62


class Spot(msgspec.Struct):
    x: float | None
    tags: list[str] = []


LEFT: dict[str, Any] = {"t": int, "n": int, "s": str, "raw": bytes, "spot": Spot}
RIGHT: dict[str, Any] = {"t": int, "n": int, "f": float, "s": str, "flag": bool, "more": dict[str, int]}
_POLARS: dict[Any, Any] = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean, bytes: pl.Binary}


class Row(NamedTuple):
    """An event of side 0 or 1; ``values`` as in LEFT or RIGHT, without ``t``."""

    side: int
    key: Any
    time: int
    values: tuple[Any, ...] = ()


def definition(
    low: int,
    high: int,
    how: Any,
    key: type = str,
    left: dict[str, Any] = LEFT,
    right: dict[str, Any] = RIGHT,
) -> Any:
    """Left's key is ``k`` and right's ``other``."""
    sides = [
        SimpleNamespace(fields={name: Field(name, kind, True) for name, kind in {own: key, **types}.items()}, key=own)
        for own, types in (("k", left), ("other", right))
    ]
    return SimpleNamespace(operator=Interval(low, high, how, "_right"), inputs=tuple(sides))


def ordered(rows: Sequence[Row], definition: Any, texts: bool = False) -> Ordered:
    """Rows as an operator takes them: strings as Texts or as Series, numbers as arrays where none is null."""
    sides = []
    for number, given in enumerate(definition.inputs):
        mine = [(at, row) for at, row in enumerate(rows) if row.side == number]
        if not mine:
            sides.append(Events(Columns({}, 0), np.empty(0, np.int64), np.empty(0, np.int64)))
            continue
        table = {given.key: [row.key for _, row in mine]}
        names = [name for name in given.fields if name not in (given.key, "t")]
        table |= {name: [row.values[i] for _, row in mine] for i, name in enumerate(names)}
        times = np.array([row.time for _, row in mine], np.int64)
        if "t" in given.fields:
            table["t"] = times.tolist()
        columns = {name: _column(values, given.fields[name].type, texts) for name, values in table.items()}
        sides.append(Events(Columns(columns, len(mine)), times, times + 1))
    return Ordered(tuple(sides), np.array([row.side for row in rows], np.int64))


def _column(values: list[Any], kind: Any, texts: bool) -> Column:
    if texts and kind in (str, bytes):
        encoded = [None if value is None else value.encode() if kind is str else value for value in values]
        sizes = np.array([-1 if value is None else len(value) for value in encoded], np.int64)
        data = b"between".join(value or b"" for value in encoded)
        starts = np.cumsum(np.maximum(sizes, 0) + len(b"between")) - np.maximum(sizes, 0) - len(b"between")
        return Texts(np.frombuffer(data, np.uint8), starts, sizes, binary=kind is bytes)
    if kind in (int, float) and None not in values:
        return np.array(values, _NUMPY[kind])
    return pl.Series(values, dtype=_POLARS.get(kind, pl.Object))


_NUMPY = {int: np.int64, float: np.float64}


class Result(NamedTuple):
    values: dict[str, Any]
    time: int
    stamp: int


def results(events: Events) -> list[Result]:
    names = list(events.columns)
    columns = [events.columns.values(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        assert len(column) == len(events), name
    rows = zip(*columns, strict=True)
    words = zip(rows, events.times.tolist(), events.stamps.tolist(), strict=True)
    return [Result(dict(zip(names, row, strict=True)), time, stamp) for row, time, stamp in words]


def expected(rows: Sequence[Row], pairs: Iterable[Paired], definition: Any) -> list[Result]:
    """What these pairs of rows are as results."""
    left, right = definition.inputs
    found = []
    for pair in pairs:
        first, second = (None if at is None else rows[at] for at in pair)
        there = [row for row in (first, second) if row is not None]
        values = {"k": there[0].key, **_values(first, left)}
        for name, value in _values(second, right).items():
            values[name + "_right" if name in left.fields else name] = value
        time = max(row.time for row in there)
        found.append(Result({name: values[name] for name in _names(definition)}, time, time + 1))
    return found


def _names(definition: Any) -> list[str]:
    left, right = definition.inputs
    others = [name for name in right.fields if name != right.key]
    return [*left.fields, *(name + "_right" if name in left.fields else name for name in others)]


def _values(row: Row | None, given: Any) -> dict[str, Any]:
    names = [name for name in given.fields if name != given.key]
    if row is None:
        return dict.fromkeys(names)
    rest = iter(row.values)
    return {name: row.time if name == "t" else next(rest) for name in names}


class Kept:
    """A changelog: what an operator gave it, and operators made of that."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.header: dict[str, int | None] = {}
        self.version = ""

    def flush(self, operator: IntervalOperator) -> int:
        """Takes its changes; says how many rows they are."""
        changes = operator.changes()
        put, gone = items(changes.keys), items(changes.gone)
        assert len({*put, *gone}) == len(put) + len(gone), "a key twice"
        assert self.rows.keys() >= set(gone), "a row that never was is deleted"
        for key in gone:
            del self.rows[key]
        self.rows.update(zip(put, items(changes.values), strict=True))
        self.header, self.version = operator.header(), operator.version()
        return len(put) + len(gone)

    def brought_back(self, definition: Any, compiled: bool, seed: int = 0) -> IntervalOperator:
        operator = IntervalOperator(definition, compiled)
        assert operator.version() == self.version
        rows = list(self.rows.items())
        random.Random(seed).shuffle(rows)
        operator.restore(self.header, binary([key for key, _ in rows]), binary([value for _, value in rows]))
        return operator


@contextmanager
def small(pairs: int, chunk: int, longer: int) -> Iterator[None]:
    """Everything that happens to many rows happens to few."""
    with (
        patch.object(interval_matches, "AT_ONCE", pairs),
        patch.object(interval_matches, "_LONGER", longer),
        patch.object(interval_chunks, "_LARGEST", chunk),
        patch.object(interval_chunks, "_PIECE", chunk),
        patch.object(interval_chunks, "_SMALL", chunk // 8),
        patch.object(interval_columns, "LEAST", 1),
        patch.object(interval_side, "LEAST", 1),
        patch.object(interval_side, "_SPARE", 3),
        patch.object(interval, "_MANY_KEYS", 2),
    ):
        yield
