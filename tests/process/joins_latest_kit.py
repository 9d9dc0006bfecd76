"""What the tests of joins with the latest row share: rows of every type, cut and kept anywhere."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from hypothesis import strategies as st

from streamproc import compiled
from streamproc.columns import Column, Columns, Texts
from streamproc.define.fields import Field
from streamproc.process.events import Events, Ordered
from streamproc.process.state import binary, items

WAYS = [True, False] if compiled.available() else [False]
Changelog = dict[bytes, bytes]


class Spot(msgspec.Struct):
    x: float
    tags: list[str] = []


class Row(NamedTuple):
    """A row of an input: its values as in ``fields``, when it happened and when it was taken in."""

    number: int
    time: int
    stamp: int
    values: dict[str, Any]


def fields(**types: Any) -> dict[str, Field]:
    return {name: Field(name, kind, True) for name, kind in types.items()}


LEFT = {"id": int, "n": int, "x": float}
RIGHT = {"n": int, "x": float, "y": float, "flag": bool, "name": str, "raw": bytes, "spot": Spot}
#: Of all types but the key's: in results right's ``n`` and ``x`` have the suffix.
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.sampled_from([0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)]),
    float: st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 0.1, 5e-324]),
    bool: st.booleans(),
    str: st.sampled_from(["", "a", "ä\x00", "long " * 20]),
    bytes: st.sampled_from([b"", b"\xff\x00", b"long" * 20]),
    Spot: st.builds(Spot, st.sampled_from([1.5, math.inf]), st.lists(st.sampled_from(["a", "b"]), max_size=2)),
}


def pipeline(operator: Any, key: type, left: dict[str, Any] = LEFT, right: dict[str, Any] = RIGHT) -> Any:
    """Keys are ``card`` on the left and ``number`` on the right."""
    return SimpleNamespace(
        operator=operator,
        inputs=(
            SimpleNamespace(fields=fields(card=key, **left), key="card"),
            SimpleNamespace(fields=fields(number=key, **right), key="number"),
        ),
    )


@st.composite
def rows(draw: st.DrawFn, key: type, types: Sequence[dict[str, Any]] = (LEFT, RIGHT), most: int = 40) -> list[Row]:
    """Rows of both inputs by time; of those of one time, as they are given."""
    keys = st.sampled_from([None, 0, 1, -7, 2**40] if key is int else [None, "", "a", "b", "ü" * 9])
    found = []
    time = draw(st.sampled_from([0, -50, 10**12]))
    nulls = draw(st.booleans())
    for at in range(draw(st.integers(0, most))):
        time += draw(st.sampled_from([0, 0, 1, 1, 3, 20]))
        number = draw(st.integers(0, 1))
        values = {"card" if number == 0 else "number": draw(keys)}
        for name, kind in types[number].items():
            values[name] = draw(st.none() | VALUES[kind]) if nulls else draw(VALUES[kind])
        found.append(Row(number, time, draw(st.integers(0, 9)) + at, values))
    return found


def ranked(found: list[Row], first: int) -> list[Row]:
    """In the sequencer's order, with one input's rows first at each time."""
    return sorted(found, key=lambda row: (row.time, row.number != first))


def column(values: list[Any], kind: Any, texts: bool) -> Column:
    if kind in (str, bytes) and texts:
        there = [value.encode() if kind is str else value for value in values if value is not None]
        parts = iter(binary([b"gap", *there])[1:].starts.tolist())
        places = [(0, -1) if v is None else (next(parts), len(v.encode() if kind is str else v)) for v in values]
        data = np.frombuffer(b"".join([b"gap", *there]), np.uint8)
        starts, sizes = (np.array([place[i] for place in places], np.int64) for i in range(2))
        return Texts(data, starts, sizes, binary=kind is bytes)
    if kind in (int, float) and None not in values:
        return np.array(values, np.dtype(kind))
    dtypes = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String, bytes: pl.Binary}
    return pl.Series(values, dtype=dtypes.get(kind, pl.Object))


def events(some: Sequence[Row], known: dict[str, Field], texts: bool) -> Events:
    columns = {name: column([row.values[name] for row in some], field.type, texts) for name, field in known.items()}
    times, stamps = (np.array([row[i] for row in some], np.int64) for i in (1, 2))
    return Events(Columns(columns if some else {}, len(some)), times, stamps)


def ordered(definition: Any, some: Sequence[Row], texts: bool) -> Ordered:
    of = np.array([row.number for row in some], np.int64)
    both = [events([row for row in some if row.number == i], definition.inputs[i].fields, texts) for i in (0, 1)]
    return Ordered((both[0], both[1]), of)


def bits(value: Any) -> Any:
    """A value that is equal only to itself, to the bit."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack(">d", value)
    return msgspec.msgpack.encode(value) if isinstance(value, Spot) else value


Result = tuple[Any, ...]


def listed(results: Events) -> list[Result]:
    """Each result: its time, its stamp and its values by name."""
    names = list(results.columns)
    values = [results.columns.values(name) for name in names]
    assert all(len(column) == len(results) for column in values)
    found = zip(results.times.tolist(), results.stamps.tolist(), *values, strict=True)
    return [(time, stamp, *zip(names, map(bits, row), strict=True)) for time, stamp, *row in found]


def note(operator: Any, kept: Changelog) -> None:
    """Brings a changelog up to date."""
    changes = operator.changes()
    put = dict(zip(items(changes.keys), items(changes.values), strict=True))
    gone = items(changes.gone)
    assert not put.keys() & set(gone)
    assert len(put) == len(changes.keys)
    kept.update(put)
    for key in gone:
        del kept[key]


def restored(operator: Any, header: dict[str, int | None], kept: Changelog) -> Any:
    operator.restore(header, binary(list(kept)), binary(list(kept.values())))
    return operator
