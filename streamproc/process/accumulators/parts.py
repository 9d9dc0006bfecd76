"""Parts: what is kept of one aggregate, or of several that need the same, by cell number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamproc.columns import Longs
from streamproc.process.accumulators.inputs import Inputs
from streamproc.process.measures import Array


class Word(NamedTuple):
    """One array of a part: what a cell that holds nothing has in it, and how many of those."""

    dtype: type[np.int64] | type[np.float64] | type[np.int32]
    blank: Any
    width: int = 0  # 0: an array of one dimension


class Part:
    """Arrays by cell. Subclasses say how rows are added, and one cell merged into another."""

    def __init__(self, words: Mapping[str, Word]) -> None:
        self.words = words
        self.have = 0
        self.arrays: dict[str, Array] = {name: _blank(word, 0) for name, word in words.items()}

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in self.arrays.values())

    def room(self, cells: int) -> None:
        """Makes room for so many cells; new ones hold nothing."""
        if cells <= self.have:
            return
        room = max(cells, self.have + self.have // 2)
        for name, word in self.words.items():
            self.arrays[name] = np.concatenate([self.arrays[name], _blank(word, room - self.have)])
        self.have = room

    def shrink(self, cells: int) -> None:
        """Gives the room of the others back, which hold nothing."""
        if cells < self.have:
            self.arrays = {name: array[:cells].copy() for name, array in self.arrays.items()}
            self.have = cells

    def clear(self, cells: Longs) -> None:
        """These cells hold nothing."""
        for name, word in self.words.items():
            self.arrays[name][cells] = word.blank

    def add(self, inputs: Inputs) -> None:
        """Takes rows in, in their order."""
        raise NotImplementedError

    def merge(self, into: Longs, other: Any, cells: Longs) -> None:
        """Merges cells of another part, or of this one, into cells of this one, in their order."""
        raise NotImplementedError

    def move(self, cells: Longs, to: Longs) -> None:
        """Gives cells other numbers; those that they had hold nothing, unless they are among the new ones."""
        left = np.setdiff1d(cells, to)
        for name, word in self.words.items():
            array = self.arrays[name]
            array[to] = array[cells]
            array[left] = word.blank

    def pack(self, cells: Longs) -> Longs:
        """int64[n, m]: the words of cells. A NaN has no sign there, nor anything else: what operations on NaN and
        infinity make of those is up to the processor.
        """
        found = [_words(self.arrays[name][cells].reshape(len(cells), -1)) for name in self.words]
        return np.concatenate(found, axis=1) if found else np.empty((len(cells), 0), np.int64)

    def unpack(self, cells: Longs, words: Longs) -> None:
        """Takes them back, into cells that hold nothing."""
        at = 0
        for name in self.words:
            array = self.arrays[name]
            width = 1 if array.ndim == 1 else array.shape[1]
            array[cells] = np.ascontiguousarray(words[:, at : at + width]).view(array.dtype).reshape(array[cells].shape)
            at += width

    @property
    def packed_words(self) -> int:
        """How many words of a cell there are."""
        return sum(word.width or 1 for word in self.words.values())

    #: Whether there is more of a cell, of no fixed size.
    has_blobs = False

    def blobs(self, cells: Longs) -> list[bytes]:
        """What there is of cells beside their words."""
        raise NotImplementedError

    def take_blobs(self, cells: Longs, blobs: Sequence[bytes]) -> None:
        """Takes it back."""
        raise NotImplementedError


class Objects(Part):
    """An object by cell, None in those that hold nothing."""

    has_blobs = True

    def __init__(self) -> None:
        super().__init__({})
        self.held: list[Any] = []

    @property
    def nbytes(self) -> int:
        return 8 * len(self.held) + sum(self.size_of(item) for item in self.held if item is not None)

    def size_of(self, item: Any) -> int:
        """About how many bytes an object takes."""
        raise NotImplementedError

    def copy_of(self, item: Any) -> Any:
        """An object of its own with the same in it."""
        raise NotImplementedError

    def merge_item(self, item: Any, other: Any) -> Any:
        """The two as one; ``item`` may be changed, and ``other`` not."""
        raise NotImplementedError

    def dump(self, item: Any) -> bytes:
        raise NotImplementedError

    def load(self, data: bytes) -> Any:
        raise NotImplementedError

    def room(self, cells: int) -> None:
        if (more := cells - len(self.held)) > 0:
            self.held += [None] * more

    def shrink(self, cells: int) -> None:
        del self.held[cells:]

    def clear(self, cells: Longs) -> None:
        for cell in cells.tolist():
            self.held[cell] = None

    def merge(self, into: Longs, other: Objects, cells: Longs) -> None:
        for here, there in zip(into.tolist(), cells.tolist(), strict=True):
            more = other.held[there]
            if more is not None:
                have = self.held[here]
                self.held[here] = self.copy_of(more) if have is None else self.merge_item(have, more)

    def move(self, cells: Longs, to: Longs) -> None:
        moved = [self.held[cell] for cell in cells.tolist()]
        self.clear(cells)
        for cell, item in zip(to.tolist(), moved, strict=True):
            self.held[cell] = item

    def blobs(self, cells: Longs) -> list[bytes]:
        found = [self.held[cell] for cell in cells.tolist()]
        return [b"" if item is None else self.dump(item) for item in found]

    def take_blobs(self, cells: Longs, blobs: Sequence[bytes]) -> None:
        for cell, blob in zip(cells.tolist(), blobs, strict=True):
            self.held[cell] = self.load(blob) if blob else None


def _words(data: Array) -> Longs:
    if data.dtype == np.float64 and (wrong := np.isnan(data)).any():
        data[wrong] = np.nan
    return data.view(np.int64)


def _blank(word: Word, cells: int) -> Array:
    return np.full((cells, word.width) if word.width else cells, word.blank, word.dtype)
