"""Rows of state as bytes: 64-bit words, the lowest byte first, and byte strings behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Longs, Texts
from streamproc.errors import StateError
from streamproc.process.state import binary, items

_WORD = np.dtype("<i8")


def words(*columns: NDArray[Any]) -> Texts:
    """Row ``i``: the words ``columns[0][i]``, ``columns[1][i]`` …; of int64 or float64."""
    table = np.empty((len(columns[0]), len(columns)), _WORD)
    for i, column in enumerate(columns):
        table[:, i] = column.view(np.int64)
    size = 8 * len(columns)
    starts = np.arange(len(table), dtype=np.int64) * size
    return Texts(table.reshape(-1).view(np.uint8), starts, np.full(len(table), size, np.int64), binary=True)


def behind(first: Texts, second: Texts) -> Texts:
    """Row ``i``: the bytes of the one, and those of the other one behind them."""
    sizes = first.sizes + second.sizes
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - sizes
    _copy(first, out, starts)
    _copy(second, out, starts + first.sizes)
    return Texts(out, starts, sizes, binary=True)


def read_words(texts: Texts, count: int) -> list[Longs]:
    """The first words of every row, column by column.

    Raises:
        StateError: a row has not so many.
    """
    if not len(texts):
        return [np.empty(0, np.int64) for _ in range(count)]
    if int(texts.sizes.min()) < 8 * count:
        raise StateError(f"a row of state: expected {8 * count} bytes or more; got {int(texts.sizes.min())}")
    at = texts.starts[:, None] + np.arange(8 * count)
    table = texts.data[at].view(_WORD)
    return [np.ascontiguousarray(table[:, i], np.int64) for i in range(count)]


def rest(texts: Texts, count: int) -> Texts:
    """What is behind so many words."""
    return Texts(texts.data, texts.starts + 8 * count, texts.sizes - 8 * count, binary=True)


def key_bytes(column: Column) -> Texts:
    """Keys as they stand in rows: strings in UTF-8, ints as a word."""
    if isinstance(column, Texts):
        return Texts(column.data, column.starts, column.sizes, binary=True)
    if isinstance(column, pl.Series):
        return binary([key.encode() for key in column.to_list()])
    return words(column)


def keys_of(texts: Texts, kind: type, compiled: bool) -> Column:
    """Keys as a column, of what :func:`key_bytes` gave."""
    if kind is int:
        return read_words(texts, 1)[0]
    if compiled:
        return Texts(texts.data, texts.starts, texts.sizes)
    return pl.Series([key.decode() for key in items(texts)], dtype=pl.String)


def _copy(texts: Texts, out: NDArray[np.uint8], to: Longs) -> None:
    """Copies each row's bytes to the place ``to`` in another buffer."""
    sizes = texts.sizes
    if not len(sizes):
        return
    size = int(sizes[0])
    if (sizes == size).all():
        if size:
            across = np.arange(size)
            out[to[:, None] + across] = texts.data[texts.starts[:, None] + across]
        return
    before = np.cumsum(sizes) - sizes
    each = np.arange(int(sizes.sum()))
    out[np.repeat(to - before, sizes) + each] = texts.data[np.repeat(texts.starts - before, sizes) + each]
