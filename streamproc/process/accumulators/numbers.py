"""Parts of fixed size: measures, moments, decayed means, and counts by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc.columns import Column, Longs
from streamproc.compiled import loops
from streamproc.process.accumulators.inputs import Inputs, loops_of
from streamproc.process.accumulators.parts import Part, Word
from streamproc.process.accumulators.simple import ByOp, plain, without
from streamproc.process.dense import add_values
from streamproc.process.measures import Array, Measure, quiet

_HALVES = np.array(loops.HALVES)


class Measured(Part):
    """Measures, each the same as a pane's: sums in event order, least and greatest values."""

    def __init__(self, measures: list[Measure]) -> None:
        self.measures = measures
        super().__init__({f"{m.op} {m.field}": Word(m.dtype, m.identity) for m in measures})

    def add(self, inputs: Inputs) -> None:
        for measure, array in zip(self.measures, self.arrays.values(), strict=True):
            assert measure.field is not None
            dtype = np.int64 if measure.dtype is np.int64 and measure.op != "n" else np.float64
            cells, data = inputs.numbers(measure.field, dtype)
            add_values(measure, array, cells, data)

    def merge(self, into: Longs, other: Measured, cells: Longs) -> None:
        with quiet():
            for measure, (name, array) in zip(self.measures, self.arrays.items(), strict=True):
                measure.ufunc.at(array, into, other.arrays[name][cells])

    def kept(self, cells: Longs) -> ByOp:
        return {(m.op, m.field): a[cells] for m, a in zip(self.measures, self.arrays.values(), strict=True)}


_MOMENTS = {"count": Word(np.int64, 0), "mean": Word(np.float64, 0.0), "squares": Word(np.float64, 0.0)}


class Moments(Part):
    """Count, mean and sum of squared distances of a field. What is past all doubles may have either sign there."""

    def __init__(self, field: str, compiled: bool) -> None:
        super().__init__(_MOMENTS)
        self._field, self._loops = field, loops_of(compiled)

    def add(self, inputs: Inputs) -> None:
        cells, data = inputs.numbers(self._field, np.float64)
        self._loops.add_moments(cells, data, *self.arrays.values())

    def merge(self, into: Longs, other: Moments, cells: Longs) -> None:
        self._loops.merge_moments(into, cells, *self.arrays.values(), *other.arrays.values())

    def variance(self, cells: Longs, ddof: int) -> Column:
        counts, squares = self.arrays["count"][cells], self.arrays["squares"][cells]
        return _by_count(np.abs(squares), counts, ddof)

    def deviation(self, cells: Longs, ddof: int) -> Column:
        counts, squares = self.arrays["count"][cells], self.arrays["squares"][cells]
        return _by_count(np.abs(squares), counts, ddof, root=True)


_COMOMENTS = {
    "count": Word(np.int64, 0),
    "x_mean": Word(np.float64, 0.0),
    "y_mean": Word(np.float64, 0.0),
    "products": Word(np.float64, 0.0),
    "x_squares": Word(np.float64, 0.0),
    "y_squares": Word(np.float64, 0.0),
}


class CoMoments(Part):
    """The same of two fields, of the rows that have both; and the sum of the products of their distances."""

    def __init__(self, x: str, y: str, compiled: bool) -> None:
        super().__init__(_COMOMENTS)
        self._x, self._y, self._loops = x, y, loops_of(compiled)

    def add(self, inputs: Inputs) -> None:
        x, y = inputs.values(self._x, np.float64), inputs.values(self._y, np.float64)
        valid = x.valid if y.valid is None else y.valid if x.valid is None else x.valid & y.valid
        rows = (inputs.cells, x.data, y.data)
        if valid is not None:
            rows = (inputs.cells[valid], x.data[valid], y.data[valid])
        self._loops.add_comoments(*rows, *self.arrays.values())

    def merge(self, into: Longs, other: CoMoments, cells: Longs) -> None:
        self._loops.merge_comoments(into, cells, *self.arrays.values(), *other.arrays.values())

    def covariance(self, cells: Longs, ddof: int) -> Column:
        counts, products = self.arrays["count"][cells], self.arrays["products"][cells]
        return _by_count(products, counts, ddof)

    def correlation(self, cells: Longs) -> Column:
        counts, _, _, products, x, y = (array[cells] for array in self.arrays.values())
        some = (counts > 1) & (x != 0) & (y != 0)
        with quiet():
            found = products / np.where(some, np.sqrt(x) * np.sqrt(y), 1.0)
        return without(plain(np.clip(found, -1.0, 1.0)), some)


_DECAYED = {"sum": Word(np.float64, 0.0), "weight": Word(np.float64, 0.0), "time": Word(np.int64, 0)}


class Decayed(Part):
    """Sums of values and of weights, as they are at the time of the latest value."""

    def __init__(self, field: str, half_life: int, compiled: bool) -> None:
        super().__init__(_DECAYED)
        self._field, self._half_life, self._loops = field, half_life, loops_of(compiled)

    def add(self, inputs: Inputs) -> None:
        data, valid = inputs.values(self._field, np.float64)
        cells, times = inputs.cells, inputs.times
        if valid is not None:
            cells, times, data = cells[valid], times[valid], data[valid]
        self._take(cells, times, data, np.ones(len(data)))

    def merge(self, into: Longs, other: Decayed, cells: Longs) -> None:
        sums, weights, times = (array[cells] for array in other.arrays.values())
        self._take(into, times, sums, weights)

    def _take(self, cells: Longs, times: Longs, sums: Array, weights: Array) -> None:
        self._loops.add_decayed(cells, times, sums, weights, self._half_life, _HALVES, *self.arrays.values())

    def mean(self, cells: Longs) -> Column:
        sums, weights = self.arrays["sum"][cells], self.arrays["weight"][cells]
        with quiet():
            return without(plain(sums / np.where(weights > 0, weights, 1.0)), weights > 0)


class Counts(Part):
    """How many values of a field are of each class."""

    def __init__(self, field: str, classes: int) -> None:
        super().__init__({"counts": Word(np.int64, 0, classes)})
        self._field, self._classes = field, classes

    def merge(self, into: Longs, other: Counts, cells: Longs) -> None:
        np.add.at(self.arrays["counts"], into, other.arrays["counts"][cells])

    def counts(self, cells: Longs) -> list[list[int]]:
        found: list[list[int]] = self.arrays["counts"][cells].tolist()
        return found

    def _count(self, cells: Longs, classes: Any) -> None:
        np.add.at(self.arrays["counts"].reshape(-1), cells * self._classes + classes, 1)


class Histogram(Counts):
    """By the edges between which a value lies."""

    def __init__(self, field: str, edges: tuple[float, ...]) -> None:
        super().__init__(field, len(edges) + 1)
        self._edges = np.array(edges)

    def add(self, inputs: Inputs) -> None:
        cells, data = inputs.numbers(self._field, np.float64)
        if (wrong := np.isnan(data)).any():
            cells, data = cells[~wrong], data[~wrong]
        self._count(cells, np.searchsorted(self._edges, data, side="right"))


class Occurrences(Counts):
    """By which of some values it is."""

    def __init__(self, field: str, values: tuple[Any, ...]) -> None:
        super().__init__(field, len(values))
        self._places = {value: i for i, value in enumerate(values)}

    def add(self, inputs: Inputs) -> None:
        rows, codes, values = inputs.coded(self._field)
        if not len(rows):
            return
        classes = np.array([self._places.get(value, -1) for value in values], np.int64)[codes]
        wanted = classes >= 0
        self._count(inputs.cells[rows[wanted]], classes[wanted])


def _by_count(sums: Array, counts: Longs, ddof: int, *, root: bool = False) -> Column:
    """Null where there are not more than ``ddof`` values."""
    with quiet():
        found = sums / np.maximum(counts - ddof, 1)
        return without(plain(np.sqrt(found) if root else found), np.maximum(counts - ddof, 0))
