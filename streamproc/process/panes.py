"""Panes: the pieces that windows are sums of, ``gcd(size, step)`` long.

Only panes that hold events take memory. Values are added one by one in event order, and panes in their order, so that
float sums do not depend on how the events were cut into batches, nor on which implementation adds them.

With the kernels panes are :class:`~streamproc.process.cells.CellPanes`. Without them they are arrays of (pane, key),
or, where most of those would be empty, dictionaries: whichever fits what comes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from streamproc.columns import Longs, Texts
from streamproc.process.accumulators import Accumulators, Beside
from streamproc.process.dense import DensePanes
from streamproc.process.measures import Array, Measure, Values
from streamproc.process.sparse import SparsePanes

_FEW = 1 << 16  # cells; with fewer, arrays are never too large


class Panes(Protocol):
    """State of one partition's panes."""

    def __len__(self) -> int:
        """How many panes hold events."""

    @property
    def measures(self) -> list[Measure]:
        """What is kept; first of all the number of rows."""

    @property
    def work(self) -> int:
        """How many cells there are to look through for keys."""

    @property
    def nbytes(self) -> int:
        """Memory held."""

    def live(self) -> Longs:
        """Numbers of the panes that hold events, ascending."""

    def add(
        self, times: Longs, codes: Longs, keys: int, values: dict[str, Values], beside: Beside | None = None
    ) -> None:
        """Adds rows: the time and key code of each, and the fields' values; ``keys`` codes exist. ``beside`` is what
        accumulators need, where there are any.
        """

    def combine(self, first: Longs, count: int, beside: Accumulators | None = None) -> Found:
        """What windows hold that begin at pane ``first[i]`` and are ``count`` panes long: window by window, and in each
        by the pane in which a key first came, then in order of coming. What there is beside the measures goes into
        ``beside``, of row ``i`` into cell ``i``.
        """

    def pack(self, panes: Longs, rows: Longs) -> Texts:
        """What there is beside the measures, as bytes, in these of the rows that ``combine(panes, 1)`` gives."""

    def drop(self, panes: Longs) -> None:
        """Forgets panes, which hold events."""

    def live_codes(self) -> Longs:
        """Codes of the keys that any live pane holds, ascending."""

    def keep_codes(self, live: Longs) -> None:
        """Gives these codes, which are all that are held, the numbers 0, 1, 2 …"""


class Found(NamedTuple):
    """One row per window and key: ``i`` of the window, the key's code, and the measures."""

    window: Longs
    code: Longs
    measures: list[Array]


class AdaptivePanes:
    """Dense or sparse panes, changed as the share of (pane, key) pairs with events changes."""

    def __init__(self, measures: list[Measure], length: int, beside: Accumulators | None = None) -> None:
        self.measures = measures
        self.form: DensePanes | SparsePanes = DensePanes(measures, length)
        if beside is not None:
            self.form = SparsePanes(measures, length, beside)
        self._length, self._beside = length, beside

    def __len__(self) -> int:
        return len(self.form)

    @property
    def work(self) -> int:
        return self.form.work

    @property
    def nbytes(self) -> int:
        return self.form.nbytes

    def live(self) -> Longs:
        return self.form.live()

    def add(
        self, times: Longs, codes: Longs, keys: int, values: dict[str, Values], beside: Beside | None = None
    ) -> None:
        if not len(times):
            return
        panes = times // self._length
        self._choose(panes, keys)
        if isinstance(self.form, SparsePanes):
            self.form.add(panes, codes, keys, values, beside)
        else:
            self.form.add(panes, codes, keys, values)

    def combine(self, first: Longs, count: int, beside: Accumulators | None = None) -> Found:
        if isinstance(self.form, SparsePanes):
            return Found(*self.form.combine(first, count, beside))
        return Found(*self.form.combine(first, count))

    def pack(self, panes: Longs, rows: Longs) -> Texts:
        assert isinstance(self.form, SparsePanes)
        return self.form.pack(panes, rows)

    def drop(self, panes: Longs) -> None:
        self.form.drop(panes)

    def live_codes(self) -> Longs:
        return self.form.live_codes()

    def keep_codes(self, live: Longs) -> None:
        self.form.keep_codes(live)

    def _choose(self, panes: Longs, keys: int) -> None:
        """Sparse when a sixteenth of the pairs would hold events, dense again when a quarter does; always, where there
        is something beside the measures.
        """
        if self._beside is not None:
            return
        if isinstance(self.form, SparsePanes):
            if 4 * self.form.work > keys * len(self.form):
                self._change(DensePanes(self.measures, self._length), keys)
            return
        room = max(keys, self.form.keys) * (len(self.form) + min(len(panes), int(panes.max() - panes.min()) + 1))
        if room < _FEW or room <= self.form.work:
            return
        room = max(keys, self.form.keys) * len(np.union1d(panes, self.form.live()))
        if room >= _FEW and room > 16 * (self.form.cells + len(panes)):
            self._change(SparsePanes(self.measures, self._length), keys)

    def _change(self, form: DensePanes | SparsePanes, keys: int) -> None:
        for pane in self.form.live().tolist():
            form.put(pane, *self.form.get(pane), keys)
        self.form = form
