"""Engines that keep what they keep in slots, and aggregates in accumulators: all but those of aligned windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from streamproc.columns import Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.process.accumulators import Accumulators
from streamproc.process.accumulators.own import Failure
from streamproc.process.engine import Engine, Part
from streamproc.process.results import Closed, Late
from streamproc.process.slots import Slots
from streamproc.process.state import NO_TEXTS, Changes
from streamproc.process.words import keys_of, read_words, rest


class SlottedEngine(Engine):
    """An engine with ``_slots``, each with a row of state, and ``_sums``."""

    def __init__(self, definition: Aggregation, compiled: bool | None = None) -> None:
        super().__init__(definition, compiled)
        self._sums = Accumulators(definition, definition.aggregates, self.compiled)
        self._slots = Slots(self._codes)

    @property
    def open_panes(self) -> int:
        return len(self._slots)

    @property
    def _fields(self) -> frozenset[str]:
        return self._sums.fields

    @abstractmethod
    def _make_room(self) -> None:
        """For as many slots as there are now."""

    @abstractmethod
    def _pack(self, slots: Longs) -> Texts:
        """The values of their rows."""

    @abstractmethod
    def _unpack(self, slots: Longs, values: Texts) -> None:
        """Takes them back; rows come in the order of their slots' identities."""

    def _give(self, parts: Sequence[Part], late: Late | None = None) -> Closed:
        return super()._give(parts, late)._replace(refused=self._refused())

    def _refused(self) -> list[Failure]:
        """What classes of one's own did not take since this was last asked."""
        return self._sums.failures()

    def _live_codes(self) -> Longs:
        return self._slots.live_codes()

    def changes(self) -> Changes:
        slots, gone = self._slots.changes()
        if not len(slots):
            return Changes(NO_TEXTS, NO_TEXTS, gone)
        return Changes(self._slots.keys(slots), self._pack(slots), gone)

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        self._restore_header(header)
        if not len(keys):
            return
        (idents,) = read_words(keys, 1)
        order = idents.argsort()
        keys, values = _at(keys, order), _at(values, order)
        codes = self._codes.codes(keys_of(rest(keys, 1), self._key_type, self.compiled))
        slots = self._slots.restore(idents[order], codes)
        self._make_room()
        self._unpack(slots, values)


def _at(texts: Texts, rows: Longs) -> Texts:
    return Texts(texts.data, texts.starts[rows], texts.sizes[rows], binary=True)
