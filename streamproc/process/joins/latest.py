"""Joins with the latest row: of a stream with a table as of event time, and of two tables.

Both keep the newest row of each key and input, as the rows before a call left it. Inside a call rows are put side by
side by key, and a running maximum finds the latest row of an input for all of them at once. Rows without a key meet
nobody.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from streamproc import compiled as kernels
from streamproc.columns import Column, Longs, Texts
from streamproc.define.fields import Field
from streamproc.define.operators import AsOf, Tables
from streamproc.define.pipeline import Pipeline
from streamproc.errors import StateError
from streamproc.process.events import Events, Ordered
from streamproc.process.joins.keyed import ByKey, codes_of, distinct
from streamproc.process.joins.newest import Newest
from streamproc.process.joins.pool import Mask, Numbers, nulls, pick
from streamproc.process.joins.results import Met, ResultForm
from streamproc.process.keys import key_codes
from streamproc.process.slots import grown
from streamproc.process.state import Changes, joined
from streamproc.process.words import keys_of, read_words, rest

_FORMAT = 1  # of rows of state
_MANY_KEYS = 4096  # from here on it pays to look for keys that have gone
_LOOKS = 8  # what is too old is looked for so often in the time of ``within``
_LEFT, _RIGHT = 0, 1


class LatestOperator(ABC):
    """What the two have in common.

    Args:
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """

    def __init__(self, definition: Pipeline, kept: Sequence[int], compiled: bool | None = None) -> None:
        self.definition = definition
        self.compiled = kernels.available() if compiled is None else compiled
        left = definition.inputs[_LEFT]
        self._key, self._key_type = left.key, left.fields[left.key].type
        self._codes = key_codes(self._key_type, self.compiled)
        self._sides = {number: Newest(number, self._payload(number), self.compiled) for number in kept}
        self._form = ResultForm(definition)
        self._scratch, self._mark = np.empty(0, np.int64), np.empty(0, np.bool_)
        self._known = 0  # keys, when those that have gone were last looked for

    def _payload(self, number: int) -> list[Field]:
        """The fields of an input that results have beside the key."""
        source = self.definition.inputs[number]
        return [field for name, field in source.fields.items() if name != source.key]

    @property
    def keys(self) -> int:
        """How many keys are known."""
        return len(self._codes)

    @abstractmethod
    def take(self, ordered: Ordered, frontier: int) -> Events:
        """Takes rows of both inputs; all rows before ``frontier`` have then been given. Gives results, in their
        order.
        """

    def _keys_of(self, ordered: Ordered) -> Longs:
        """int64[n]: the code of each row's key, -1 of those that have none."""
        codes = np.empty(len(ordered.of), np.int64)
        for number, events in enumerate(ordered.inputs):
            if len(events):
                codes[ordered.of == number] = codes_of(events.columns[self.definition.inputs[number].key], self._codes)
        count = max(1, len(self._codes))  # arrays of one element at least can be asked about -1
        for side in self._sides.values():
            side.grow(count)
        if count > len(self._scratch):
            self._scratch, self._mark = np.empty(2 * count, np.int64), grown(self._mark, 2 * count, False)
        return codes

    def _meet(self, number: int, codes: Longs, came: Longs, fresh: Events) -> Met:
        """Of rows with these key codes: ``came[i]`` is the latest of the input's new rows, ``fresh``, that row ``i``
        meets. Where there is none (-1), it is the one that is kept.
        """
        side = self._sides[number]
        at = np.flatnonzero((came < 0) & (codes >= 0) & side.there[codes])
        slots, places = distinct(codes[at], self._scratch)
        index = np.where(came >= 0, came + len(slots), -1)
        index[at] = places
        return Met(side.rows.pool(slots, fresh), index)

    # State.

    def version(self) -> str:
        meant = (_FORMAT, type(self).__name__, self._key_type.__name__, self._options())
        rows = [(number, side.rows.meaning) for number, side in self._sides.items()]
        return f"join-{_FORMAT}-{hashlib.sha256(repr((meant, rows)).encode()).hexdigest()[:16]}"

    def _options(self) -> object:
        """What else says which rows there are."""
        return None

    def header(self) -> dict[str, int | None]:
        return {}

    def changes(self) -> Changes:
        parts = [side.changes(self._codes) for side in self._sides.values()]
        return Changes(*(joined(texts) for texts in zip(*parts, strict=True)))

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        if not len(keys):
            return
        (numbers,) = read_words(keys, 1)
        codes = self._codes.codes(keys_of(rest(keys, 1), self._key_type, self.compiled))
        for number, side in self._sides.items():
            side.grow(len(self._codes))
            rows = np.flatnonzero(numbers == number)
            side.restore(codes[rows], values[rows])
        if not np.isin(numbers, list(self._sides)).all():
            raise StateError(f"rows of a join's state are of inputs {sorted(set(numbers.tolist()))}")

    def _forget_keys(self, *, more: bool = False) -> None:
        """Gives back the room of keys of which nothing is kept, once they are most of many. Looks when there are twice
        as many keys as there were at the last look, so that it costs little per key; and when ``more`` may have gone.
        """
        count = len(self._codes)
        if count < _MANY_KEYS or (count < 2 * self._known and not more):
            return
        live = np.flatnonzero(np.logical_or.reduce([side.held[:count] for side in self._sides.values()]))
        self._known = len(live)
        if 2 * len(live) <= count:
            self._codes.keep(live)
            for side in self._sides.values():
                side.keep(live)
            self._scratch, self._mark = np.empty(0, np.int64), np.empty(0, np.bool_)
        else:
            self._known = count


class AsOfOperator(LatestOperator):
    """The left input's rows, each with the latest right row of its key at or before it. Rows of one time are expected
    with the right ones first.
    """

    def __init__(self, definition: Pipeline, compiled: bool | None = None) -> None:
        super().__init__(definition, [_RIGHT], compiled)
        assert isinstance(definition.operator, AsOf)
        self._how, self._within = definition.operator.how, definition.operator.within
        self._newest = self._sides[_RIGHT]
        self._looked: int | None = None  # up to when what is too old has been let go

    def _options(self) -> object:
        return self._within

    def take(self, ordered: Ordered, frontier: int) -> Events:
        if not len(ordered.of):
            self._drop_old(frontier)
            return self._form.nothing()
        left, right = ordered.inputs
        codes = self._keys_of(ordered)
        is_right = ordered.of == _RIGHT
        row = np.cumsum(is_right) - 1  # of a right row: its number
        latest, last = self._latest(codes, is_right)
        came = np.where(latest >= 0, row[latest], -1)[~is_right]
        results = self._form.nothing()
        if len(left):
            met = self._within_reach(left, self._meet(_RIGHT, codes[~is_right], came, right))
            results = self._form.attached(left, met, self._how)
        self._newest.put(codes[last], right, row[last])
        self._drop_old(frontier)
        self._forget_keys()
        return results

    def _latest(self, codes: Longs, is_right: Mask) -> tuple[Longs, Longs]:
        """Of each row the latest right row among these, or -1; and the last one of each key."""
        latest = np.full(len(codes), -1)
        keys = codes[is_right]
        keys = keys[keys >= 0]
        if not len(keys):
            return latest, keys
        self._mark[keys] = True
        rows = np.flatnonzero(self._mark[codes] & (codes >= 0))  # the others meet what is kept
        self._mark[keys] = False
        found, last = ByKey.of(codes[rows], len(self._codes)).latest(is_right[rows])
        latest[rows] = np.where(found >= 0, rows[found], -1)
        return latest, rows[last]

    def _within_reach(self, left: Events, met: Met) -> Met:
        if self._within is None or not len(met.pool.times):
            return met
        near = left.times - met.pool.times[met.rows] <= self._within
        return Met(met.pool, np.where((met.rows >= 0) & near, met.rows, -1))

    def _drop_old(self, frontier: int) -> None:
        """Lets go of rows that no row from the frontier on can meet. Looks where the frontier passes multiples of a
        step, so that what is kept does not depend on how rows were cut into calls.
        """
        if self._within is None:
            return
        step = max(1, self._within // _LOOKS)
        upto = frontier // step * step
        if upto != self._looked:
            self._looked = upto
            self._newest.drop_before(upto - self._within)
            self._forget_keys(more=True)


class TablesOperator(LatestOperator):
    """The newest rows of both inputs, whenever one of them changes."""

    def __init__(self, definition: Pipeline, compiled: bool | None = None) -> None:
        super().__init__(definition, [_LEFT, _RIGHT], compiled)
        assert isinstance(definition.operator, Tables)
        self._how = definition.operator.how

    def take(self, ordered: Ordered, frontier: int) -> Events:
        if not len(ordered.of):
            return self._form.nothing()
        codes = self._keys_of(ordered)
        keyed = np.flatnonzero(codes >= 0)
        by_key = ByKey.of(codes[keyed], len(self._codes))
        times, stamps = np.empty(len(codes), np.int64), np.full(len(codes), np.iinfo(np.int64).min)
        mets: list[Met] = []
        for number, side in self._sides.items():
            fresh = ordered.inputs[number]
            own = ordered.of == number
            times[own] = fresh.times
            row = np.cumsum(own) - 1
            found, last = by_key.latest(own[keyed])
            came = np.where(own, row, -1)
            came[keyed] = np.where(found >= 0, row[keyed[found]], -1)
            met = self._meet(number, codes, came, fresh)
            mets.append(met)
            stamps = met.latest(stamps)
            last = keyed[last]
            side.put(codes[last], fresh, row[last])
        results = self._joined(codes, times, stamps, mets)
        self._forget_keys()
        return results

    def _joined(self, codes: Longs, times: Longs, stamps: Longs, mets: list[Met]) -> Events:
        left, right = mets
        wanted = np.ones(len(codes), np.bool_)
        if self._how != "outer":
            wanted &= left.rows >= 0
        if self._how == "inner":
            wanted &= right.rows >= 0
        rows = np.flatnonzero(wanted)
        columns: dict[str, Column] = {self._key: self._key_column(codes[rows])}
        for number, met in enumerate(mets):
            columns |= self._form.picked(number, met.take(rows))
        return self._form.events(columns, times[rows], stamps[rows])

    def _key_column(self, codes: Longs) -> Column:
        there = codes >= 0
        if not there.any():
            return nulls(self._key_type, len(codes))
        column = self._codes.column(codes[there])
        if there.all():
            return column
        source = Numbers(column) if isinstance(column, np.ndarray) else column
        return pick(source, self._key_type, np.where(there, np.cumsum(there) - 1, -1), there)
