"""Every aggregate over rows of every type of field."""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import numpy as np
import polars as pl
from hypothesis import strategies as st

from streamproc import App, Record, tumbling
from streamproc.batch import column_types
from streamproc.define import aggregates as a
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation, result_field
from streamproc.define.fields import fields
from streamproc.process.accumulators import Accumulators

WINDOW = tumbling("10s")
_SCHEMAS = tempfile.TemporaryDirectory(prefix="streamproc-schemas-")
_AVRO = {int: "long", float: "double", bool: "boolean", str: "string", bytes: "bytes"}


class Written(Record):
    """A record type whose schema is written for it."""

    @classmethod
    def home(cls) -> Path:
        folder = Path(_SCHEMAS.name)
        schema = _record(cls)
        path = folder / "schemas" / f"{cls.schema_name()}.avsc"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema))
        return folder


def _record(kind: type[Record]) -> Any:
    made = [{"name": name, "type": _avro(*field[1:])} for name, field in fields(kind).items()]
    return {"type": "record", "name": kind.__name__, "fields": made}


def _avro(kind: Any, nullable: bool) -> Any:
    if nullable:
        return ["null", _avro(kind, False)]
    if isinstance(kind, type) and issubclass(kind, Record):
        return _record(kind)
    if get_origin(kind) is list:
        return {"type": "array", "items": _avro(get_args(kind)[0], False)}
    return {"type": "map", "values": _avro(get_args(kind)[1], False)} if get_origin(kind) is dict else _AVRO[kind]


class Row(Written):
    unit: str
    ts: int
    i: int
    f: float
    g: float
    b: bool
    s: str
    y: bytes
    ni: int | None = None
    nf: float | None = None
    ns: str | None = None

    @classmethod
    def of(cls, n: int, **changes: Any) -> Row:
        """The nth of some rows that are always the same, but for these fields."""
        x = math.fmod(n * 0.6180339887498949, 1.0)
        none = n % 5 == 0
        s = f"s{n * n % 97}"
        row = cls(
            unit=f"u{n % 3}",
            ts=n * 7 + n * 31 % 50,
            i=n * n - 40,
            f=100 * x - 30,
            g=7.5 - 2 * x + n % 4,
            b=n % 3 == 0,
            s=s,
            y=s.encode(),
            ni=None if none else n % 11,
            nf=None if none else x,
            ns=None if none else s[::-1],
        )
        return msgspec.structs.replace(row, **changes)


class Spread:
    """The greatest less the least; a class of one's own."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def add(self, value: float, note: str | None) -> None:
        if not math.isnan(value) and note != "skip":
            self.seen = [min([*self.seen, value]), max([*self.seen, value])]

    def merge(self, other: Spread) -> None:
        for value in other.seen:
            self.add(value, None)

    def close(self) -> float | None:
        return self.seen[-1] - self.seen[0] if self.seen and all(map(math.isfinite, self.seen)) else None


class Longest:
    """The longest strings' length and how many rows there were; by columns, with slots, and kept in its own way."""

    __slots__ = ("longest", "rows")

    def __init__(self) -> None:
        self.longest, self.rows = 0, 0

    def add(self, text: str) -> None:
        self.longest, self.rows = max(self.longest, len(text)), self.rows + 1

    def add_columns(self, texts: Any) -> None:
        self.longest, self.rows = max(self.longest, *map(len, texts)), self.rows + len(texts)

    def merge(self, other: Longest) -> None:
        self.longest, self.rows = max(self.longest, other.longest), self.rows + other.rows

    def close(self) -> dict[str, int]:
        return {"longest": self.longest, "rows": self.rows}

    def dump(self) -> bytes:
        return b"%d %d" % (self.longest, self.rows)

    @classmethod
    def load(cls, data: bytes) -> Longest:
        made = cls()
        made.longest, made.rows = map(int, data.split())
        return made


AGGREGATES: dict[str, Aggregate] = {
    "n": a.count(),
    "i_sum": a.total("i"),
    "f_sum": a.total("f"),
    "ni_sum": a.total("ni"),
    "i_mean": a.mean("i"),
    "nf_mean": a.mean("nf"),
    "i_min": a.minimum("i"),
    "f_max": a.maximum("f"),
    "nf_min": a.minimum("nf"),
    "i_range": a.value_range("i"),
    "f_range": a.value_range("f"),
    "ni_range": a.value_range("ni"),
    "variance": a.variance("f"),
    "variance_of_all": a.variance("f", ddof=0),
    "i_deviation": a.deviation("i"),
    "nf_deviation": a.deviation("nf", ddof=0),
    "covariance": a.covariance("f", "g"),
    "nf_covariance": a.covariance("f", "nf", ddof=0),
    "correlation": a.correlation("f", "g"),
    "ni_correlation": a.correlation("ni", "nf"),
    "ewma": a.ewma("f", "1s"),
    "nf_ewma": a.ewma("nf", "37ms"),
    "histogram": a.histogram("f", [-1, 0, 1.5, 100]),
    "ni_histogram": a.histogram("ni", [3]),
    "rate": a.rate(),
    "f_rate": a.rate("f", per="1m"),
    "ni_rate": a.rate("ni"),
    "occurrences": a.occurrences("s", ["a", "s1", ""]),
    "ni_occurrences": a.occurrences("ni", [0, 5]),
    "count_min": a.count_min("ns", relative_error=0.1),
    "i_count_min": a.count_min("i", relative_error=0.1),
    "distinct": a.distinct("s"),
    "f_distinct": a.distinct("f", precision=4),
    "ns_distinct": a.distinct("ns", precision=6),
    "b_distinct": a.distinct("b"),
    "quantile": a.quantile("f", 0.5, k=8),
    "quantiles": a.quantiles("nf", [0, 0.25, 1], k=8),
    "top_text": a.top_k("s", 4, size=8),
    "top_int": a.top_k("ni", 2, size=8),
    "own": a.own(Spread, "f", "ns", type=float | None),
    "own_columns": a.own(Longest, "s", type=dict[str, int]),
}
for _name in ("i", "f", "b", "s", "y", "ni", "nf", "ns"):
    AGGREGATES[f"first_{_name}"] = a.first(_name)
    AGGREGATES[f"last_{_name}"] = a.last(_name)


@cache
def definition() -> Aggregation:
    return aggregation(Row, AGGREGATES)


def aggregation(record: type[Record], aggregates: dict[str, Aggregate], window: Any = WINDOW) -> Aggregation:
    """With results of the types that these aggregates give."""
    app = App("aggregates")
    source = app.topic("rows", record, key="unit", time="ts")
    types: list[tuple[str, Any]] = [("unit", str), ("start", int), ("end", int)]
    for name, aggregate in aggregates.items():
        field = result_field("", name, aggregate, record, window)
        types.append((name, field.type | None if field.nullable else field.type))
    sink = msgspec.defstruct("Out", types, bases=(Written,), kw_only=True)
    source.window(window).agg("out", sink, **aggregates)
    found = app.agents["out"]
    assert isinstance(found, Aggregation)
    return found


def accumulators(compiled: bool, only: Sequence[str] | None = None) -> Accumulators:
    wanted = AGGREGATES if only is None else {name: AGGREGATES[name] for name in only}
    return Accumulators(definition(), wanted, compiled)


def columns(found: Sequence[Record]) -> dict[str, pl.Series]:
    """Rows as columns."""
    kind = type(found[0])
    return {
        name: pl.Series(name, [getattr(row, name) for row in found], dtype=dtype)
        for name, dtype in column_types(kind).items()
    }


def add(made: Accumulators, cells: Sequence[int], found: Sequence[Any]) -> None:
    if len(found):
        times = np.array([row.ts for row in found], np.int64)
        made.add(np.array(cells, np.int64), times, columns(found))


def results(made: Accumulators, cells: Sequence[int], rows: Sequence[int] | None = None) -> dict[str, list[Any]]:
    """As Python's values."""
    counts = np.array([1] * len(cells) if rows is None else rows, np.int64)
    found = made.results(np.array(cells, np.int64), counts, WINDOW.size)
    return {
        name: column.tolist() if isinstance(column, np.ndarray) else column.to_list() for name, column in found.items()
    }


def bits(value: Any) -> Any:
    """A value such that those are equal that are the same to the bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list) else (type(value), value)


floats = st.one_of(
    st.floats(-1e6, 1e6),
    st.floats(),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1.5]),
)
ints = st.one_of(st.integers(-20, 20), st.integers(-(1 << 63), (1 << 63) - 1))
words = st.one_of(st.sampled_from(["", "a", "b", "skip"]), st.text(max_size=10))


def rows() -> st.SearchStrategy[Row]:
    """Any rows."""
    return st.builds(
        Row,
        unit=st.just("u"),
        ts=st.one_of(st.integers(0, 5000), st.integers(-(1 << 61), 1 << 61)),
        i=ints,
        f=floats,
        g=floats,
        b=st.booleans(),
        s=words,
        y=st.binary(max_size=9),
        ni=st.none() | ints,
        nf=st.none() | floats,
        ns=st.none() | words,
    )
