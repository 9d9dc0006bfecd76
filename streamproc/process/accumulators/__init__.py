"""What is kept of aggregates for cells numbered 0, 1, 2 …: the arrays behind panes, sessions and counted windows.

Rows are added in their order and cells are merged in theirs, so results are the same to the bit however the rows were
cut into calls, with kernels and without, and after cells were packed and unpacked. What a cell is, its owner knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from streamproc.columns import Column, Longs, Texts
from streamproc.define.aggregates import Aggregate
from streamproc.define.aggregation import Aggregation, result_field
from streamproc.errors import StateError
from streamproc.process.accumulators.inputs import Inputs
from streamproc.process.accumulators.own import Failure, Own
from streamproc.process.accumulators.parts import Part
from streamproc.process.accumulators.simple import column_of
from streamproc.process.measures import SIMPLE, measures_for
from streamproc.process.state import binary

Lengths = int | Longs | None  # of windows, in milliseconds
Result = Callable[[Longs, Longs, Lengths], Column]
P = TypeVar("P", bound=Part)


class Beside(NamedTuple):
    """What rows bring beside measures: their event times, the columns, and the numbers by which failures are told."""

    times: Longs
    columns: Mapping[str, Column]
    rows: Longs

    def part(self, rows: slice | Longs) -> Beside:
        """Those of some rows."""
        return Beside(self.times[rows], {name: column[rows] for name, column in self.columns.items()}, self.rows[rows])


class Accumulators:
    """Aggregates of one aggregation, by cell. A cell holds nothing until a row is added to it.

    Args:
        aggregates: by name; those that are wanted of the definition's.
        compiled: whether kernels do the work.
    """

    def __init__(self, definition: Aggregation, aggregates: Mapping[str, Aggregate], compiled: bool) -> None:
        self.fields = frozenset(field for aggregate in aggregates.values() for field in aggregate.fields)
        self.unclosed: list[Failure] = []  # results that could not be had, of the last call
        self._failures: list[Failure] = []
        self._compiled = compiled
        self._definition, self._aggregates = definition, aggregates
        self._known = definition.fields
        self._parts: dict[Any, Part] = {}
        measures = measures_for(aggregates.values(), self._known)
        if measures:
            from streamproc.process.accumulators.numbers import Measured

            self._measured = self._part("measures", lambda: Measured(measures))
        self._results = {name: self._result(name, aggregate) for name, aggregate in aggregates.items()}
        self._owns = [part for part in self._parts.values() if isinstance(part, Own)]
        self._words = sum(part.packed_words for part in self._parts.values())
        self._with_blobs = [part for part in self._parts.values() if part.has_blobs]

    def fresh(self) -> Accumulators:
        """Another one for the same aggregates, without any cells."""
        return Accumulators(self._definition, self._aggregates, self._compiled)

    @property
    def nbytes(self) -> int:
        """Memory held, about."""
        return sum(part.nbytes for part in self._parts.values())

    def room(self, cells: int) -> None:
        """There are at least so many cells from now on."""
        for part in self._parts.values():
            part.room(cells)

    def shrink(self, cells: int) -> None:
        """There are not more than so many from now on; the others hold nothing."""
        for part in self._parts.values():
            part.shrink(cells)

    def clear(self, cells: Longs) -> None:
        """These cells hold nothing."""
        for part in self._parts.values():
            part.clear(cells)

    def add(self, cells: Longs, times: Longs, columns: Mapping[str, Column], rows: Longs | int = 0) -> None:
        """Row ``i`` goes into cell ``cells[i]`` at event time ``times[i]``, in the order of rows. What a class of one's
        own does not take is told by :meth:`failures`, under ``rows[i]``, or ``rows + i``.
        """
        if not len(cells):
            return
        inputs = Inputs(np.ascontiguousarray(cells), np.ascontiguousarray(times), columns, self._compiled)
        for part in self._parts.values():
            part.add(inputs)
        for own in self._owns:
            for failure in own.failures:
                row = rows + failure.row if isinstance(rows, int) else rows[failure.row]
                self._failures.append(failure._replace(row=int(row)))
            own.failures = []

    def failures(self) -> list[Failure]:
        """What classes of one's own raised when rows were added, since this was last asked; by row."""
        found, self._failures = sorted(self._failures, key=lambda failure: failure.row), []
        return found

    def merge(self, into: Longs, other: Accumulators, cells: Longs) -> None:
        """``other``'s cell ``cells[i]`` goes into cell ``into[i]``, one after the other. ``other`` may be self, when no
        cell is in both. What comes later came later in the log, as far as event times are the same.
        """
        into, cells = np.ascontiguousarray(into), np.ascontiguousarray(cells)
        for key, part in self._parts.items():
            part.merge(into, other._parts[key], cells)

    def move(self, cells: Longs, to: Longs) -> None:
        """Cell ``cells[i]`` is cell ``to[i]`` from now on; each number once, and those that are no cell's now hold
        nothing.
        """
        for part in self._parts.values():
            part.move(cells, to)

    def results(self, cells: Longs, rows: Longs, lengths: Lengths) -> dict[str, Column]:
        """By name: one value per cell, to which ``rows[i]`` rows were added, of a window of this length. Where a class
        of one's own gives none it is null, and ``unclosed`` says why.
        """
        self.unclosed = []
        return {name: result(cells, rows, lengths) for name, result in self._results.items()}

    def pack(self, cells: Longs) -> Texts:
        """What cells hold, as byte strings: exact to the bit."""
        parts = [part.pack(cells) for part in self._parts.values()]
        size = 8 * self._words
        words = np.concatenate(parts, axis=1) if parts else np.empty((len(cells), 0), np.int64)
        data = np.ascontiguousarray(words).astype("<i8", copy=False).view(np.uint8).reshape(-1)
        if not self._with_blobs:
            starts = size * np.arange(len(cells), dtype=np.int64)
            return Texts(data, starts, np.full(len(cells), size, np.int64), binary=True)
        fixed, blobs = data.tobytes(), [part.blobs(cells) for part in self._with_blobs]
        found = []
        for row, texts in enumerate(zip(*blobs, strict=True)):
            found.append(fixed[row * size : (row + 1) * size])
            found += [piece for text in texts for piece in (len(text).to_bytes(4, "little"), text)]
        step = 1 + 2 * len(blobs)
        return binary([b"".join(found[at : at + step]) for at in range(0, len(found), step)])

    def unpack(self, cells: Longs, values: Texts) -> None:
        """Takes back what :meth:`pack` gave, into cells that hold nothing.

        Raises:
            StateError: it is not of these aggregates.
        """
        size = 8 * self._words
        if ((values.sizes < size) if self._with_blobs else (values.sizes != size)).any():
            raise self._foreign()
        if size:
            words = values.data[values.starts[:, None] + np.arange(size)].view("<i8").astype(np.int64, copy=False)
            at = 0
            for part in self._parts.values():
                part.unpack(cells, words[:, at : at + part.packed_words])
                at += part.packed_words
        if self._with_blobs:
            rows = [self._blobs(values, row, size) for row in range(len(values))]
            for part, blobs in zip(self._with_blobs, zip(*rows, strict=True), strict=False):
                part.take_blobs(cells, blobs)

    def _blobs(self, values: Texts, row: int, at: int) -> list[bytes]:
        start, end = int(values.starts[row]), int(values.starts[row] + values.sizes[row])
        data = values.data[start:end].tobytes()
        found = []
        for _ in self._with_blobs:
            size = int.from_bytes(data[at : at + 4], "little")
            found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        if at != len(data):
            raise self._foreign()
        return found

    def _foreign(self) -> StateError:
        return StateError(f"state of {self._definition.name!r}: what was kept is not of these aggregates")

    def _result(self, name: str, aggregate: Aggregate) -> Result:
        """How the result of an aggregate is had; makes the part that it needs."""
        if aggregate.kind in SIMPLE:
            return lambda cells, rows, lengths: column_of(aggregate, self._kept(cells), rows, lengths)
        make: Callable[[str, Aggregate], Result] = getattr(self, f"_{aggregate.kind}")
        return make(name, aggregate)

    def _kept(self, cells: Longs) -> Any:
        return self._measured.kept(cells) if "measures" in self._parts else {}

    def _part(self, key: Any, make: Callable[[], P]) -> P:
        """Aggregates that need the same share it."""
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = make()
        return found  # type: ignore[return-value]

    def _variance(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.numbers import Moments

        field, ddof = aggregate.fields[0], aggregate.option("ddof")
        part = self._part(("moments", field), lambda: Moments(field, self._compiled))
        found = part.variance if aggregate.kind == "variance" else part.deviation
        return lambda cells, rows, lengths: found(cells, ddof)

    _deviation = _variance

    def _covariance(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.numbers import CoMoments

        x, y = aggregate.fields
        part = self._part(("comoments", x, y), lambda: CoMoments(x, y, self._compiled))
        if aggregate.kind == "correlation":
            return lambda cells, rows, lengths: part.correlation(cells)
        return lambda cells, rows, lengths: part.covariance(cells, aggregate.option("ddof"))

    _correlation = _covariance

    def _ewma(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.numbers import Decayed

        field, half_life = aggregate.fields[0], aggregate.option("half_life")
        part = self._part(("ewma", field, half_life), lambda: Decayed(field, half_life, self._compiled))
        return lambda cells, rows, lengths: part.mean(cells)

    def _histogram(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.numbers import Histogram

        field, edges = aggregate.fields[0], aggregate.option("edges")
        part = self._part(("histogram", field, edges), lambda: Histogram(field, edges))
        return lambda cells, rows, lengths: pl.Series(part.counts(cells), dtype=pl.List(pl.Int64))

    def _occurrences(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.numbers import Occurrences

        field, of = aggregate.fields[0], aggregate.option("of")
        part = self._part(("occurrences", field, of), lambda: Occurrences(field, of))
        names = [str(value) for value in of]

        def found(cells: Longs, rows: Longs, lengths: Lengths) -> Column:
            return pl.Series([dict(zip(names, n, strict=True)) for n in part.counts(cells)], dtype=pl.Object)

        return found

    def _first(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.ends import Ends

        field, latest = aggregate.fields[0], aggregate.kind == "last"
        kind = self._known[field].type
        part = self._part((aggregate.kind, field), lambda: Ends(field, kind, latest, self._compiled))
        return lambda cells, rows, lengths: part.values(cells)

    _last = _first

    def _distinct(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.registers import Registers

        field, precision = aggregate.fields[0], aggregate.option("precision")
        part = self._part(("distinct", field, precision), lambda: Registers(field, precision, self._compiled))
        return lambda cells, rows, lengths: part.estimates(cells)

    def _quantiles(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.kll import Quantiles

        field, k, qs = aggregate.fields[0], aggregate.option("k"), aggregate.option("qs")
        part = self._part(("quantiles", field, k), lambda: Quantiles(field, k))
        if qs:
            return lambda cells, rows, lengths: part.quantiles(cells, qs)
        return lambda cells, rows, lengths: part.quantile(cells, aggregate.option("q"))

    def _top(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.frequent import Frequent

        field, size = aggregate.fields[0], aggregate.option("size")
        part = self._part(("top", field, size), lambda: Frequent(field, size))
        return lambda cells, rows, lengths: part.top(cells, aggregate.option("k"))

    def _count_min(self, _: str, aggregate: Aggregate) -> Result:
        from streamproc.process.accumulators.frequent import CountMin

        field = aggregate.fields[0]
        limits = aggregate.option("relative_error"), aggregate.option("confidence")
        part = self._part(("count_min", field, *limits), lambda: CountMin(field, *limits))
        return lambda cells, rows, lengths: part.sketches(cells)

    def _own(self, name: str, aggregate: Aggregate) -> Result:
        definition = self._definition
        field = result_field(definition.name, name, aggregate, definition.fields, definition.window)
        part = self._part(("own", name), lambda: Own(name, aggregate, field.type, field.nullable))

        def found(cells: Longs, rows: Longs, lengths: Lengths) -> Column:
            column, failures = part.results(cells)
            self.unclosed += failures
            return column

        return found
