"""Keys as small integers, so that state can live in arrays: 0, 1, 2 … in order of first appearance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from streamproc.columns import Column, Longs, Texts, values_in

_FEW = 32  # below this many rows a dictionary beats any columnar way


class KeyCodes(Protocol):
    """The codes of a partition's keys, which are strings or ints."""

    def __len__(self) -> int:
        """How many keys there are."""

    def codes(self, column: Column) -> Longs:
        """int64[n]: the code of each row's key; new keys get new codes."""

    def column(self, codes: Longs) -> Column:
        """The keys of these codes: ints as an array, strings as a Series or as Texts."""

    def spread(self, codes: Longs) -> Longs | None:
        """int64[n]: ``murmur2(text) & 0x7fffffff`` of each key, by which Kafka chooses its partition; None where that
        is not at hand.
        """

    def keep(self, live: Longs) -> None:
        """Forgets all keys but those of these codes, which become 0, 1, 2 … in the order given."""


def key_codes(kind: type, compiled: bool) -> KeyCodes:
    """Codes for keys of this type, ``str`` or ``int``."""
    if not compiled:
        return DictCodes()
    return TextCodes() if kind is str else LongCodes()


class DictCodes:
    """In a dictionary, asked once per key and batch."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._column: Column = pl.Series([], dtype=pl.String)  # the first keys, as many as there were when it was made
        self._picked = 0  # keys that were asked for and not in it, since then
        self.keys: list[Any] = []

    def __len__(self) -> int:
        return len(self.keys)

    def codes(self, column: Column) -> Longs:
        if len(column) < _FEW:
            return np.array([self._code(key) for key in values_in(column)], np.int64)
        series = column.series() if isinstance(column, Texts) else pl.Series(column)
        local, firsts = _local_codes(series)
        table = np.array([self._code(key) for key in series.gather(firsts)], np.int64)
        return table[local]

    def column(self, codes: Longs) -> Column:
        """The keys of these codes. A column of all keys is made once as many as there are were asked for: not for a few
        whenever a key is new.
        """
        if len(codes) and int(codes.max()) < len(self._column):
            return self._column[codes]
        self._picked += len(codes)
        if self._picked < len(self.keys):
            return _column_of([self.keys[code] for code in codes.tolist()], self.keys)
        self._column, self._picked = _column_of(self.keys, self.keys), 0
        return self._column[codes]

    def spread(self, codes: Longs) -> Longs | None:
        return None

    def keep(self, live: Longs) -> None:
        self.keys = [self.keys[code] for code in live.tolist()]
        self._codes = {key: code for code, key in enumerate(self.keys)}
        self._column, self._picked = self._column[:0], 0

    def _code(self, key: Any) -> int:
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(self.keys)
            self.keys.append(key)
        return code


class TextCodes:
    """Of strings, in a compiled table."""

    def __init__(self) -> None:
        from streamproc.compiled.keys import TextTable

        self._table = TextTable()

    def __len__(self) -> int:
        return len(self._table)

    def codes(self, column: Column) -> Longs:
        texts = column if isinstance(column, Texts) else _texts(pl.Series(column))
        starts, sizes = np.ascontiguousarray(texts.starts), np.ascontiguousarray(texts.sizes)
        return self._table.codes(texts.data, starts, sizes)

    def column(self, codes: Longs) -> Column:
        return Texts(self._table.arena, *self._table.places(codes))

    def spread(self, codes: Longs) -> Longs | None:
        return self._table.spread(codes)

    def keep(self, live: Longs) -> None:
        self._table.keep(live)


class LongCodes:
    """Of ints, in a compiled table."""

    def __init__(self) -> None:
        from streamproc.compiled.keys import LongTable

        self._table = LongTable()

    def __len__(self) -> int:
        return len(self._table)

    def codes(self, column: Column) -> Longs:
        values = column.to_numpy() if isinstance(column, pl.Series) else column
        return self._table.codes(np.ascontiguousarray(values, np.int64))

    def column(self, codes: Longs) -> Column:
        return self._table.keys(codes)

    def spread(self, codes: Longs) -> Longs | None:
        return self._table.spread(codes)

    def keep(self, live: Longs) -> None:
        self._table.keep(live)


def _column_of(keys: Sequence[Any], like: Sequence[Any]) -> Column:
    """Keys as a column, of the type of others: a Series of strings, or int64[n]."""
    return pl.Series(keys, dtype=pl.String) if like and isinstance(like[0], str) else np.array(keys, np.int64)


def _texts(series: pl.Series) -> Texts:
    if len(series) < _FEW:
        return Texts.of(series.to_list())
    data, sizes = series.str.join("").item().encode(), series.str.len_bytes().cast(pl.Int64).to_numpy()
    return Texts(np.frombuffer(data, np.uint8), np.cumsum(sizes) - sizes, sizes)


def _local_codes(column: pl.Series) -> tuple[Longs, Longs]:
    """Codes within one column, and the row where each code stands first, in order of first appearance."""
    if column.dtype == pl.String:
        # A private set of categories: polars forgets a shared one when no Series uses it, and would start its codes
        # anew.
        physical = column.cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy().astype(np.int64)
        first = np.empty(int(physical.max()) + 1, np.int64)
        first[physical[::-1]] = np.arange(len(physical) - 1, -1, -1, dtype=np.int64)
        if len(first) == 1 or (np.diff(first) > 0).all():
            return physical, first
        local = physical
    else:
        _, first, local = np.unique(column.to_numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[local].astype(np.int64), first[order].astype(np.int64)
