"""Hashes of values, 64 bits: the same in every process and on every machine, and with kernels or without."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.columns import Column, Texts
from streamproc.process.measures import Array

Hashes = NDArray[np.uint64]
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FEW = 32


def of(column: Column, compiled: bool) -> tuple[Hashes, NDArray[np.bool_] | None]:
    """Of every row, and which rows are not null (None: all are). NaN is one value, and zero has no sign."""
    if isinstance(column, Texts) or (isinstance(column, pl.Series) and column.dtype in (pl.String, pl.Binary)):
        texts = texts_of(column)
        there = texts.sizes >= 0
        if there.all():
            return of_texts(texts, compiled), None
        found = np.zeros(len(texts), np.uint64)
        found[there] = of_texts(texts[np.flatnonzero(there)], compiled)
        return found, there
    valid = None
    if isinstance(column, pl.Series):
        if column.null_count():
            valid = column.is_not_null().to_numpy()
            column = column.fill_null(False if column.dtype == pl.Boolean else 0)
        column = column.to_numpy()
    return of_numbers(column), valid


def of_numbers(data: Array) -> Hashes:
    """Of ints, floats or booleans."""
    if data.dtype == np.float64:
        data = data + 0.0
        data[np.isnan(data)] = np.nan
        words = data.view(np.uint64)
    else:
        words = data.astype(np.int64).view(np.uint64)
    return _mixed(words + _STEP)


def of_texts(texts: Texts, compiled: bool) -> Hashes:
    """Of strings, eight bytes at a time; none is null."""
    if compiled:
        from streamproc.compiled.accumulate import hash_texts

        out = np.empty(len(texts), np.uint64)
        hash_texts(texts.data, np.ascontiguousarray(texts.starts), np.ascontiguousarray(texts.sizes), out)
        return out
    hashed = _mixed(texts.sizes.astype(np.uint64) + _STEP)
    for at in range(0, int(texts.sizes.max(initial=0)), 8):
        rows = np.flatnonzero(texts.sizes > at)
        hashed[rows] = _mixed(hashed[rows] ^ _words(texts[rows], at)) + _STEP
    return _mixed(hashed)


def _words(texts: Texts, at: int) -> Hashes:
    """Eight bytes of each from there on, the lowest first; zeros where they end sooner."""
    eight = np.arange(8)
    places = np.minimum(texts.starts[:, None] + at + eight, len(texts.data) - 1)
    found = texts.data[places]
    found[eight >= texts.sizes[:, None] - at] = 0
    words: Hashes = found.view("<u8").reshape(-1)
    return words


def _mixed(x: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def texts_of(column: Column) -> Texts:
    """A column of strings or byte strings as places in a buffer."""
    if isinstance(column, Texts):
        return column
    series = pl.Series(column)
    if series.dtype == pl.String and len(series) > _FEW:
        data = (series.str.join("").item() or "").encode()
        sizes = series.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy()
    else:
        parts = [part.encode() if isinstance(part, str) else part for part in series]
        data = b"".join([part for part in parts if part is not None])
        sizes = np.array([-1 if part is None else len(part) for part in parts], np.int64)
    there = np.maximum(sizes, 0)
    return Texts(np.frombuffer(data, np.uint8), np.cumsum(there) - there, sizes, binary=series.dtype == pl.Binary)
