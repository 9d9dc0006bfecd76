"""State of a task: rows, key bytes to value bytes, that its changelog keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from streamproc.columns import Texts


class Changes(NamedTuple):
    """Rows of a task's state that changed since they were last asked for. No key is in both."""

    keys: Texts  # binary, one per row that was put
    values: Texts  # binary, its value
    gone: Texts  # binary, keys of rows that are no more


class State(Protocol):
    """What a task keeps in a form of its own, and gives and takes as rows."""

    def version(self) -> str:
        """What the rows mean. It changes whenever rows of before would be misread: with windows, aggregates, types."""

    def header(self) -> dict[str, int | None]:
        """The few numbers beside the rows, such as the stream's time."""

    def changes(self) -> Changes:
        """The rows that changed, and forgets that they did."""

    def restore(self, header: dict[str, int | None], keys: Texts, values: Texts) -> None:
        """Takes all rows, each key once, in any order, into a state that is empty."""


@runtime_checkable
class Settled(Protocol):
    """A state whose rows in the changelog also depend on how events were cut into batches."""

    def settled(self) -> tuple[Texts, Texts]:
        """Keys and values of all rows in a form that depends on the events alone."""


def binary(values: Sequence[bytes]) -> Texts:
    """Byte strings as places in one buffer."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return Texts(np.frombuffer(b"".join(values), np.uint8), np.cumsum(sizes) - sizes, sizes, binary=True)


def items(texts: Texts) -> list[bytes]:
    """The byte strings, none of which is null. Unlike :meth:`Texts.values` it needs no kernels."""
    data = texts.data.data
    ends = texts.starts + texts.sizes
    return [bytes(data[start:end]) for start, end in zip(texts.starts.tolist(), ends.tolist(), strict=True)]


def joined(parts: Sequence[Texts]) -> Texts:
    """The byte strings of all parts, in order. Buffers are copied, whole, unless all parts lie in the same one."""
    if not parts:
        return NO_TEXTS
    data, starts = parts[0].data, [part.starts for part in parts]
    if any(part.data is not data for part in parts):
        data = np.concatenate([part.data for part in parts])
        begins = np.cumsum([0] + [len(part.data) for part in parts[:-1]])
        starts = [part.starts + begin for part, begin in zip(parts, begins.tolist(), strict=True)]
    return Texts(data, np.concatenate(starts), np.concatenate([part.sizes for part in parts]), binary=True)


NO_TEXTS = binary(())
