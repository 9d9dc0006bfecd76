"""Pairs of rows of two sides whose times lie near each other: ``low <= right's time - left's <= high``.

Rows come in the order of the sequence: by event time, then side, then as they came. A pair is a result of its later
row; a row without a match is one of the moment from which on nothing can match it any more. Results come by moment; of
one moment pairs first, by their later rows and then by the other ones, then rows of the left that are alone, then those
of the right. So they do not depend on how the sequence was cut, nor on how the frontier got where it is.

What a take costs follows the rows that are new, match or go, and not those that are kept. Beside these it holds the
rows that it was given, and one part of its results: :data:`streamproc.process.joins.interval_matches.AT_ONCE` pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from streamproc import compiled as kernels
from streamproc.columns import Column, Longs, Texts
from streamproc.define.fields import Field
from streamproc.define.operators import Interval
from streamproc.define.pipeline import Input, Pipeline
from streamproc.define.row_types import value_type
from streamproc.errors import DefinitionError, StateError
from streamproc.process.events import Events, Ordered
from streamproc.process.joins import interval_matches
from streamproc.process.joins.interval_chunks import Chunks, stored
from streamproc.process.joins.interval_columns import Mask
from streamproc.process.joins.interval_matches import NO_PAIRS, Matches, Pairs, RunMatches
from streamproc.process.joins.interval_results import Results, joined_events
from streamproc.process.joins.interval_side import Side
from streamproc.process.keys import key_codes
from streamproc.process.state import Changes, binary

_FORMAT: Final = 1  # of rows of state
_FARTHEST: Final = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums stay in 64 bits
_NEVER: Final = -_FARTHEST - 1  # before all times
_SIDES: Final = ("left", "right")
_MANY_KEYS: Final = 4096  # from here on it pays to look for keys that have gone


class IntervalOperator:
    """An interval join of one partition.

    Args:
        compiled: whether kernels do the work; None: where they are available. Results and state are the same.
    """

    def __init__(self, definition: Pipeline, compiled: bool | None = None) -> None:
        operator = definition.operator
        assert isinstance(operator, Interval)
        self._operator = operator
        self._inputs = left, right = definition.inputs
        self.compiled = kernels.available() if compiled is None else compiled
        self._kind = left.fields[left.key].type
        self._codes = key_codes(self._kind, self.compiled)
        self._sides = (
            self._side(left, max(operator.high, 0), operator.how in ("left", "outer")),
            self._side(right, max(-operator.low, 0), operator.how == "outer"),
        )
        self._matches = self._new_matches()
        self._chunks = [
            Chunks(number, side, self._codes, self._kind, compiled=self.compiled)
            for number, side in enumerate(self._sides)
        ]
        self._results = Results(definition, self._sides, self._codes, self._kind)
        self._frontier = _NEVER
        self._gone = 0  # rows, since keys that have gone were last looked for
        self._in_work = False

    def _side(self, given: Input, reach: int, alone: bool) -> Side:
        fields = {name: field for name, field in given.fields.items() if name != given.key}
        return Side(fields, reach=reach, alone=alone, compiled=self.compiled)

    def _new_matches(self) -> Matches:
        given = (*self._sides, self._operator.low, self._operator.high)
        if not self.compiled:
            return RunMatches(*given)
        from streamproc.process.joins.interval_chains import ChainMatches

        return ChainMatches(*given)

    @property
    def kept(self) -> int:
        """How many rows may still match, or be results of their own."""
        return sum(map(len, self._sides))

    @property
    def keys(self) -> int:
        return len(self._codes)

    @property
    def chunks(self) -> int:
        """How many chunks of rows the changelog has, as of the last changes."""
        return sum(map(len, self._chunks))

    def take(self, ordered: Ordered, frontier: int) -> Events:
        """Takes in the next rows of the sequence; all that come later have a time of ``frontier`` or more. Gives what
        this brings.

        Raises:
            ValueError: a row's time is below the frontier, or below that of a row before it.
        """
        parts = list(self.parts(ordered, frontier))
        return joined_events(parts) if parts else self._results.of(NO_PAIRS)

    def parts(self, ordered: Ordered, frontier: int) -> Iterator[Events]:
        """The same as :meth:`take`, as it is made: it must be gone through to its end."""
        if self._in_work:
            raise RuntimeError("the results of the rows before have not all been asked for")
        of, times = self._in_order(ordered)
        self._in_work = True
        of = self._append(ordered, of)
        reached = int(times[-1]) if len(times) else _NEVER
        self._frontier = max(self._frontier, reached, min(frontier, 2 * _FARTHEST))
        told = [side.first for side in self._sides]
        made = self._matches.pairs(of)
        pairs = next(made, NO_PAIRS)
        while (following := next(made, None)) is not None:
            moments = self._note(pairs)
            yield from self._pieces(self._with_alone(pairs, moments, told, int(moments[-1])))
            pairs = following
        yield from self._pieces(self._with_alone(pairs, self._note(pairs), told, self._frontier))
        self._drop(told)
        self._in_work = False

    # New rows.

    def _in_order(self, ordered: Ordered) -> tuple[Longs, Longs]:
        """Which side each row is of, and its time."""
        of = np.ascontiguousarray(ordered.of, np.int64)
        times = np.empty(len(of), np.int64)
        for number, events in enumerate(ordered.inputs):
            times[of == number] = np.clip(events.times, -_FARTHEST, _FARTHEST)
        if len(of) and (int(times[0]) < min(self._frontier, _FARTHEST) or (times[1:] < times[:-1]).any()):
            raise ValueError("rows of a join must come in the order of their times, none before the frontier")
        return of, times

    def _append(self, ordered: Ordered, of: Longs) -> Longs:
        """Keeps the rows; gives which side those are of that are kept."""
        kept = np.ones(len(of), np.bool_)
        for number, (side, given, events) in enumerate(zip(self._sides, self._inputs, ordered.inputs, strict=True)):
            if not len(events):
                continue
            there = _not_null(events.columns[given.key])
            if there is not None and side.matched is None:  # without a key it is no result
                kept[of == number] = there
                events, there = events.take(np.flatnonzero(there)), None
            keys = events.columns[given.key]
            if there is None:
                codes = self._codes.codes(keys)
            else:
                codes = np.full(len(events), -1, np.int64)
                codes[there] = self._codes.codes(keys[np.flatnonzero(there)])
            side.append(np.clip(events.times, -_FARTHEST, _FARTHEST), events.stamps, codes, events.columns)
        return of if kept.all() else of[kept]

    # Results.

    def _note(self, pairs: Pairs) -> Longs:
        """Notes which rows have matched; gives the pairs' moments."""
        times = []
        for side, chunks, numbers in zip(self._sides, self._chunks, pairs, strict=True):
            rows = numbers - side.origin
            times.append(side.times[rows])
            if side.matched is not None:
                chunks.match(numbers[~side.matched[rows]])
                side.matched[rows] = True
        return np.maximum(*times)

    def _with_alone(self, pairs: Pairs, moments: Longs, told: list[int], until: int) -> Pairs:
        """Pairs, and among them rows that are alone and whose moments are before ``until``: with -1 for the other row.
        ``told`` is, of each side, the first row that was not looked at yet.
        """
        lefts, rights, all_moments = [pairs.left], [pairs.right], [moments]
        for number, side in enumerate(self._sides):
            stop = max(side.over(until), told[number])
            alone = side.alone(told[number], stop)
            told[number] = stop
            if len(alone):
                nobody = np.full(len(alone), -1, np.int64)
                lefts.append(nobody if number else alone)
                rights.append(alone if number else nobody)
                all_moments.append(side.times[alone - side.origin] + side.reach)
        if len(lefts) == 1:
            return pairs
        order = np.argsort(np.concatenate(all_moments), kind="stable")
        return Pairs(np.concatenate(lefts)[order], np.concatenate(rights)[order])

    def _pieces(self, rows: Pairs) -> Iterator[Events]:
        most = interval_matches.AT_ONCE
        for start in range(0, len(rows.left), most):
            yield self._results.of(Pairs(*(numbers[start : start + most] for numbers in rows)))

    # What is gone.

    def _drop(self, firsts: list[int]) -> None:
        self._matches.drop(*firsts)
        for side, first in zip(self._sides, firsts, strict=True):
            self._gone += first - side.first
            side.drop(first)
        if len(self._codes) >= _MANY_KEYS and self._gone >= len(self._codes) + self.kept:
            self._forget_keys()

    def _forget_keys(self) -> None:
        """Gives back the room of keys that no row has, once they are most of many."""
        self._gone = 0
        held = np.zeros(len(self._codes) + 1, np.bool_)  # the last is for rows without a key, whose code is -1
        for side in self._sides:
            held[side.codes[side.live]] = True
        live = np.flatnonzero(held[:-1])
        if len(live) > len(self._codes) // 2:
            return
        fresh = np.full(len(held), -1, np.int64)
        fresh[live] = np.arange(len(live))
        for side in self._sides:
            side.codes[side.live] = fresh[side.codes[side.live]]
        self._codes.keep(live)
        self._matches.load()

    # State.

    def version(self) -> str:
        operator = self._operator
        sides = [(given.key, [_meaning(field) for field in given.fields.values()]) for given in self._inputs]
        meant = (_FORMAT, operator.low, operator.high, operator.how, sides)
        return f"interval-{_FORMAT}-{hashlib.sha256(repr(meant).encode()).hexdigest()[:16]}"

    def header(self) -> dict[str, int | None]:
        """The frontier; of each side how many rows there were, and how many of them are kept."""
        found = {"join_frontier": None if self._frontier == _NEVER else self._frontier}
        for name, side in zip(_SIDES, self._sides, strict=True):
            found |= {f"join_{name}": side.end, f"join_{name}_kept": len(side)}
        return found

    def changes(self) -> Changes:
        if self._in_work:
            raise RuntimeError("the results of the rows before have not all been asked for")
        put: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for chunks in self._chunks:
            chunks.changes(put, gone)
        return Changes(binary(list(put)), binary(list(put.values())), binary(gone))

    def settled(self) -> tuple[Texts, Texts]:
        """The rows that are kept, one by one."""
        rows = [row for chunks in self._chunks for row in chunks.single()]
        return binary([key for key, _ in rows]), binary([value for _, value in rows])

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        frontier = header["join_frontier"]
        self._frontier = _NEVER if frontier is None else frontier
        for number, found in enumerate(stored(keys, values)):
            side, name = self._sides[number], f"join_{_SIDES[number]}"
            self._chunks[number].restore(found, header[name] or 0)
            side.drop(side.over(self._frontier))
            if len(side) != header[f"{name}_kept"]:
                raise StateError(f"rows of a join: expected {header[f'{name}_kept']} that are kept; got {len(side)}")
        self._matches.load()


def _not_null(column: Column) -> Mask | None:
    """Which values are not null; None: all."""
    if isinstance(column, np.ndarray):
        return None
    if isinstance(column, Texts):
        there = column.sizes >= 0
        return None if there.all() else there
    return column.is_not_null().to_numpy() if column.null_count() else None


def _meaning(field: Field) -> tuple[str, str]:
    """What a field's bytes mean."""
    try:
        return field.name, value_type(field.type, field.name).signature
    except DefinitionError:
        return field.name, str(field)
