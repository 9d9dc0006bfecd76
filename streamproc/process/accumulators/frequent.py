"""Which values came most often, and a sketch to ask how often any did."""

from __future__ import annotations

import heapq
from typing import Any

import msgspec
import polars as pl

from streamproc.columns import Column, Longs
from streamproc.process.accumulators.inputs import Inputs
from streamproc.process.accumulators.parts import Objects

Counters = dict[Any, int]  # by value


class Frequent(Objects):
    """Misra-Gries by cell: a counter for each of at most ``size`` values. A value for which there is none left takes
    one from all of them.

    Sources: Misra, Gries, "Finding repeated elements", 1982; merging as in Agarwal and others, "Mergeable summaries",
    https://doi.org/10.1145/2500128.
    """

    def __init__(self, field: str, size: int) -> None:
        super().__init__()
        self._field, self._size = field, size

    def add(self, inputs: Inputs) -> None:
        coded = inputs.coded(self._field)
        cells, codes, counts = inputs.pairs(self._field)
        fresh: dict[int, int] = {}  # by cell: values that have no counter
        values = [coded.values[code] for code in codes]
        for cell, value in zip(cells, values, strict=True):
            if (held := self.held[cell]) is None:
                held = self.held[cell] = {}
            fresh[cell] = fresh.get(cell, len(held)) + (value not in held)
        full = {cell for cell, count in fresh.items() if count > self._size}
        for cell, value, count in zip(cells, values, counts, strict=True):
            if cell not in full:  # then their order does not matter
                held = self.held[cell]
                held[value] = held.get(value, 0) + count
        if full:
            self._add_in_order(full, inputs.cells[coded.rows].tolist(), [coded.values[c] for c in coded.codes.tolist()])

    def _add_in_order(self, full: set[int], cells: list[int], values: list[Any]) -> None:
        for cell, value in zip(cells, values, strict=True):
            if cell not in full:
                continue
            held = self.held[cell]
            if value in held:
                held[value] += 1
            elif len(held) < self._size:
                held[value] = 1
            else:
                self.held[cell] = {value: count - 1 for value, count in held.items() if count > 1}

    def size_of(self, item: Counters) -> int:
        return 64 + 160 * len(item)

    def copy_of(self, item: Counters) -> Counters:
        return dict(item)

    def merge_item(self, item: Counters, other: Counters) -> Counters:
        for value, count in other.items():
            item[value] = item.get(value, 0) + count
        if len(item) > self._size:
            less = sorted(item.values(), reverse=True)[self._size]
            item = {value: count - less for value, count in item.items() if count > less}
        return item

    def dump(self, item: Counters) -> bytes:
        return msgspec.msgpack.encode([list(item), list(item.values())])

    def load(self, data: bytes) -> Counters:
        values, counts = msgspec.msgpack.decode(data)
        return dict(zip(values, counts, strict=True))

    def top(self, cells: Longs, k: int) -> Column:
        found = []
        for cell in cells.tolist():
            held = (self.held[cell] or {}).items()
            best = heapq.nsmallest(k, held, key=lambda item: (-item[1], item[0]))
            found.append({str(value): count for value, count in best})
        return pl.Series(found, dtype=pl.Object)


class CountMin(Objects):
    """Apache DataSketches' count-min sketch by cell; see ``docs/decisions/sketches.md`` for what it must be given."""

    def __init__(self, field: str, relative_error: float, confidence: float) -> None:
        super().__init__()
        import datasketches

        self._field, self._kind = field, datasketches.count_min_sketch
        self._hashes = max(1, self._kind.suggest_num_hashes(confidence))
        self._buckets = max(3, self._kind.suggest_num_buckets(relative_error))

    def add(self, inputs: Inputs) -> None:
        values = inputs.coded(self._field).values
        for cell, code, count in zip(*inputs.pairs(self._field), strict=True):
            if (sketch := self.held[cell]) is None:
                sketch = self.held[cell] = self._fresh()
            sketch.update(values[code], float(count))  # with an int, "12" would be taken for 12

    def size_of(self, item: Any) -> int:
        return 64 + 8 * int(self._hashes * self._buckets)

    def copy_of(self, item: Any) -> Any:
        return self.load(item.serialize())

    def merge_item(self, item: Any, other: Any) -> Any:
        item.merge(other)
        return item

    def dump(self, item: Any) -> bytes:
        found: bytes = item.serialize()
        return found

    def load(self, data: bytes) -> Any:
        return self._kind.deserialize(data)

    def sketches(self, cells: Longs) -> Column:
        empty = self._fresh().serialize()
        found = [empty if (item := self.held[cell]) is None else item.serialize() for cell in cells.tolist()]
        return pl.Series(found, dtype=pl.Binary)

    def _fresh(self) -> Any:
        return self._kind(self._hashes, self._buckets)
