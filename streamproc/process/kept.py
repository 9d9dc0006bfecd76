"""Events that are kept as they came: their times and the fields that aggregates read, by slot; and where they lie in
the log, if somebody may refuse them.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.batch import Batch
from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import annotation, polars_type
from streamproc.process.measures import values_of
from streamproc.process.slots import grown
from streamproc.process.state import binary, items
from streamproc.process.words import behind, read_words, rest, words

_NUMBERS = {int: np.int64, float: np.float64}


class KeptEvents:
    """Numbers lie in arrays, with what is not null beside them; everything else as Python objects."""

    def __init__(self, definition: Aggregation, names: frozenset[str]) -> None:
        known = definition.fields
        self.times = np.empty(0, np.int64)
        # Only where classes of one's own may refuse an event; its complement once that was told.
        self._offsets = np.empty(0, np.int64)
        self._with_offsets = any(aggregate.kind == "own" for aggregate in definition.aggregates.values())
        self._numbers = sorted(name for name in names if known[name].type in _NUMBERS)
        self._others = sorted(names.difference(self._numbers))
        self._polars = {name: polars_type(known[name]) for name in names}
        types = {name: annotation(known[name]) for name in names}
        other: Any = tuple[tuple(types[name] for name in self._others)]  # type: ignore[misc]
        self._decoder = msgspec.msgpack.Decoder(other)  # records in records come back as such
        self._valid = {name: np.empty(0, np.bool_) for name in self._numbers}
        self._data: dict[str, NDArray[Any]] = {
            **{name: np.empty(0, _NUMBERS[known[name].type]) for name in self._numbers},
            **{name: np.empty(0, np.object_) for name in self._others},
        }

    def room(self, slots: int) -> None:
        self.times = grown(self.times, slots, 0)
        if self._with_offsets:
            self._offsets = grown(self._offsets, slots, 0)
        self._valid = {name: grown(valid, slots, True) for name, valid in self._valid.items()}
        self._data = {
            name: grown(data, slots, None if data.dtype == np.object_ else 0) for name, data in self._data.items()
        }

    def put(self, slots: Longs, times: Longs, batch: Batch) -> None:
        """Keeps a batch's rows."""
        self.times[slots] = times
        if self._with_offsets:
            self._offsets[slots] = batch.offsets
        for name in self._numbers:
            data, valid = values_of(batch.column(name), self._data[name].dtype.type)
            self._data[name][slots] = data
            self._valid[name][slots] = True if valid is None else valid
        for name in self._others:
            self._data[name][slots] = _objects(_listed(batch.column(name)))

    def columns(self, slots: Longs) -> dict[str, Column]:
        """The fields of these."""
        found: dict[str, Column] = {}
        for name in self._numbers:
            data, valid = self._data[name][slots], self._valid[name][slots]
            found[name] = data if valid.all() else pl.Series(data).set(pl.Series(~valid), None)
        for name in self._others:
            found[name] = pl.Series(self._data[name][slots].tolist(), dtype=self._polars[name])
        return found

    def told(self, slot: int) -> int | None:
        """Where a refused event lies in the log; None when that was asked before."""
        offset = int(self._offsets[slot])
        if offset < 0:
            return None
        self._offsets[slot] = ~offset
        return offset

    def clear(self, slots: Longs) -> None:
        for name in self._others:
            self._data[name][slots] = None

    def pack(self, slots: Longs) -> Texts:
        """Time, offset, numbers, and whether each is there, as words; behind them all else as msgpack."""
        fixed = words(
            self.times[slots],
            *([self._offsets[slots]] if self._with_offsets else []),
            *(self._data[name][slots] for name in self._numbers),
            *(self._valid[name][slots].astype(np.int64) for name in self._numbers),
        )
        if not self._others:
            return fixed
        rows = zip(*(self._data[name][slots].tolist() for name in self._others), strict=True)
        return behind(fixed, binary([msgspec.msgpack.encode(row) for row in rows]))

    def unpack(self, slots: Longs, values: Texts) -> None:
        count = len(self._numbers)
        size = 1 + self._with_offsets + 2 * count
        self.times[slots], *found = read_words(values, size)
        if self._with_offsets:
            self._offsets[slots] = found.pop(0)
        for name, data, valid in zip(self._numbers, found[:count], found[count:], strict=True):
            self._data[name][slots] = data.view(self._data[name].dtype)
            self._valid[name][slots] = valid != 0
        if self._others and len(slots):
            rows = [self._decoder.decode(row) for row in items(rest(values, size))]
            for name, column in zip(self._others, zip(*rows, strict=True), strict=True):
                self._data[name][slots] = _objects(column)


def _listed(column: Column) -> list[Any]:
    if isinstance(column, Texts):
        return column.values()
    return column.tolist() if isinstance(column, np.ndarray) else column.to_list()


def _objects(values: Any) -> NDArray[Any]:
    found = np.empty(len(values), np.object_)
    for i, value in enumerate(values):  # not all at once: numpy would take lists apart
        found[i] = value
    return found
