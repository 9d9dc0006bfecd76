"""Deduplication: the first of each id passes, and for some time no other one of that id.

What passed is held by the id's code: a time and three flags in arrays, and the id's bytes in the table of codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc import compiled as kernels
from streamproc.columns import Column, Columns, Longs, Texts
from streamproc.define.operators import Deduplicate
from streamproc.define.pipeline import Pipeline
from streamproc.process.keys import key_codes
from streamproc.process.slots import grown
from streamproc.process.state import NO_TEXTS, Changes
from streamproc.process.words import key_bytes, keys_of, read_words, words

_FARTHEST = 1 << 61  # ms; event times beyond (73 million years) count as this, so that sums of times stay in 64 bits
_NONE = -(1 << 63)  # the time of an id that nothing is known of: before every other
_ROUNDS = 4  # in each, an id passes once more; what is left then goes row by row
_LEAST = 64  # ids that there is room for; and rows, before expired ids are looked for
_LOOKED = 4  # ids are looked through in less than the time that it takes to judge one row
_FORMAT = 1  # of rows of state


class DeduplicateOperator:
    """Which rows are the first of their id.

    Rows are judged one after the other. The stream time is the highest event time so far, the row's own included.
    A row passes when its id is not remembered; then the id is remembered with the row's event time, ``passed``, and
    forgotten as soon as the stream time is above ``passed + within``. Rows that do not pass change nothing but the
    stream time: an id that keeps coming passes again once ``within`` is over. So:

    - in rows in order of event time, an id passes at most once in any ``within``, both ends included;
    - a row that is itself more than ``within`` behind the stream time passes, and is not remembered;
    - a row whose id is null passes always: there is nothing to judge it by.

    Results depend on the rows and their order alone, never on how they were cut into batches.

    A row of state is an id and its ``passed``. It means the same with another ``within``, which may be changed; a
    longer one does not bring back ids that are forgotten.

    Args:
        definition: its operator says the field of ids, str or int, and how long they are remembered.
        compiled: whether kernels do the work; None: where they are available. Results are the same to the bit.
    """

    def __init__(self, definition: Pipeline, compiled: bool | None = None) -> None:
        operator = definition.operator
        assert isinstance(operator, Deduplicate)
        self._id = operator.id
        self._type = definition.inputs[0].fields[self._id].type
        self._within = min(operator.within, 2 * _FARTHEST)
        self._compiled = kernels.available() if compiled is None else compiled
        self._codes = key_codes(self._type, self._compiled)
        self._passed = np.full(_LEAST, _NONE, np.int64)  # by code
        self._first = np.zeros(_LEAST, np.int64)  # by code; only used within a round
        self._changed = np.zeros(_LEAST, np.bool_)  # since the changelog asked
        self._stored = np.zeros(_LEAST, np.bool_)  # the changelog has a row
        self._gone = np.zeros(_LEAST, np.bool_)  # it has one of an id that is forgotten
        self._since = 0  # rows since expired ids were looked for
        self.stream_time: int | None = None

    @property
    def ids(self) -> int:
        """How many ids are held; some may be about to be forgotten."""
        return len(self._codes)

    def take(self, columns: Columns, times: Longs) -> Longs:
        """int64[m]: which rows pass, ascending.

        Args:
            times: int64[n], their event times.
        """
        if not len(times):
            return np.empty(0, np.int64)
        times = np.clip(times, -_FARTHEST, _FARTHEST)
        seen = np.maximum.accumulate(times)
        if self.stream_time is not None and self.stream_time > seen[0]:
            np.maximum(seen, self.stream_time, out=seen)
        self.stream_time = int(seen[-1])
        column, there = _without_nulls(columns[self._id])
        if there is None:
            passing = self._judge(column, times, seen)
        else:
            passing = ~there
            passing[there] = self._judge(column, times[there], seen[there])
        self._forget(len(times))
        return np.flatnonzero(passing).astype(np.int64)

    def _judge(self, ids: Column, times: Longs, seen: Longs) -> NDArray[np.bool_]:
        """Which rows pass: their ids, none of which is null, event times, and the stream time at each."""
        passing = np.zeros(len(times), np.bool_)
        if not len(times):
            return passing
        codes = self._codes.codes(ids)
        self._room(len(self._codes))
        due = seen - self._within  # what passed before that is forgotten
        # Once an id is forgotten at a row, it is at every later one, as stream time only rises: so of these rows, the
        # first of each id passes, and the others have to be judged by it.
        rows = np.flatnonzero(self._passed[codes] < due)
        for _ in range(_ROUNDS):
            if not len(rows):
                return passing
            of = codes[rows]
            self._first[of[::-1]] = rows[::-1]  # the last one written stays
            is_first = self._first[of] == rows
            first = rows[is_first]
            self._pass(codes[first], times[first])
            passing[first] = True
            rows = rows[~is_first]
            rows = rows[self._passed[codes[rows]] < due[rows]]
        passing[self._judge_one_by_one(rows, codes, times, due)] = True
        return passing

    def _judge_one_by_one(self, rows: Longs, codes: Longs, times: Longs, due: Longs) -> list[int]:
        """The same for ids that pass many times in one batch."""
        passed: dict[int, int] = {}
        passing: list[int] = []
        for row, code, time, since in zip(
            rows.tolist(), codes[rows].tolist(), times[rows].tolist(), due[rows].tolist(), strict=True
        ):
            if passed.get(code, _NONE) < since:  # the first of each passes: that was found already
                passed[code] = time
                passing.append(row)
        self._pass(np.array(list(passed), np.int64), np.array(list(passed.values()), np.int64))
        return passing

    def _pass(self, codes: Longs, times: Longs) -> None:
        self._passed[codes] = times
        self._changed[codes] = True
        self._gone[codes] = False

    def _room(self, ids: int) -> None:
        if ids > (have := len(self._passed)):
            room = max(ids, 2 * have)
            self._passed, self._first = grown(self._passed, room, _NONE), grown(self._first, room, 0)
            self._changed, self._stored = grown(self._changed, room, False), grown(self._stored, room, False)
            self._gone = grown(self._gone, room, False)

    # Forgetting.

    def _forget(self, rows: int) -> None:
        """Forgets what is over, once so many rows have come that looking costs little beside them."""
        self._since += rows
        ids = len(self._codes)
        if self._since < max(_LEAST, ids // _LOOKED) or self.stream_time is None:
            return
        self._since = 0
        passed = self._passed[:ids]
        over = np.flatnonzero(passed < self.stream_time - self._within)
        self._passed[over] = _NONE
        self._changed[over] = False
        self._gone[over] = self._stored[over]
        self._keep()

    def _keep(self) -> None:
        """Gives back the room of forgotten ids, once they are most. The changelog must have heard of them before."""
        ids = len(self._codes)
        live = np.flatnonzero((self._passed[:ids] != _NONE) | self._stored[:ids]).astype(np.int64)
        if ids <= _LEAST or len(live) > ids // 2:
            return
        self._codes.keep(live)
        room = max(_LEAST, len(self._passed) // 4, 2 * len(live))  # step by step: as many may come again
        self._passed = grown(self._passed[live], room, _NONE)
        self._first = np.zeros(room, np.int64)
        self._changed, self._stored = grown(self._changed[live], room, False), grown(self._stored[live], room, False)
        self._gone = grown(self._gone[live], room, False)

    # State.

    def version(self) -> str:
        meant = (_FORMAT, self._id, self._type.__name__)
        return f"deduplicate-{_FORMAT}-{hashlib.sha256(repr(meant).encode()).hexdigest()[:16]}"

    def header(self) -> dict[str, int | None]:
        return {"stream_time": self.stream_time}

    def changes(self) -> Changes:
        """The rows that changed, and forgets that they did."""
        changed = np.flatnonzero(self._changed).astype(np.int64)
        gone = np.flatnonzero(self._gone).astype(np.int64)
        found = Changes(self._keys(changed), words(self._passed[changed]), self._keys(gone))
        self._changed[changed], self._stored[changed] = False, True
        self._gone[gone] = self._stored[gone] = False
        if len(gone):
            self._keep()
        return found

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        """Takes all rows, each id once, in any order, into a state that is empty."""
        self.stream_time = header["stream_time"]
        if not len(keys):
            return
        (passed,) = read_words(values, 1)
        codes = self._codes.codes(keys_of(keys, self._type, self._compiled))
        self._room(len(self._codes))
        self._passed[codes] = passed
        self._stored[codes] = True

    def settled(self) -> tuple[Texts, Texts]:
        """All ids that are remembered, without those that are over and were not looked for yet."""
        due = _NONE if self.stream_time is None else self.stream_time - self._within
        passed = self._passed[: len(self._codes)]
        live = np.flatnonzero((passed != _NONE) & (passed >= due)).astype(np.int64)
        return self._keys(live), words(self._passed[live])

    def _keys(self, codes: Longs) -> Texts:
        return key_bytes(self._codes.column(codes)) if len(codes) else NO_TEXTS


def _without_nulls(column: Column) -> tuple[Column, NDArray[np.bool_] | None]:
    """A column's values that are not null, and which rows have them; None for all."""
    if isinstance(column, Texts):
        there = column.sizes >= 0
        return (column, None) if there.all() else (column[np.flatnonzero(there)], there)
    if isinstance(column, pl.Series) and column.null_count():
        return column.drop_nulls(), column.is_not_null().to_numpy()
    return column, None
