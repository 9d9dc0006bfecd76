"""Two states of one task, compared row by row: the one that is kept, and the one that a replay gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from streamproc import compiled
from streamproc.columns import Texts
from streamproc.process.state import Changes, items, joined

#: What is left of a row's value where only that can be told.
Part = Callable[[bytes], bytes]


class Difference(NamedTuple):
    """A row that is not the same in both; None where it is not there."""

    key: bytes
    kept: bytes | None
    replayed: bytes | None


class Compared(NamedTuple):
    """How many rows are equal, differ, are missing from what is kept, or are more than the replay gives; and the first
    differences, by their keys.
    """

    equal: int
    different: int
    missing: int
    extra: int
    first: tuple[Difference, ...]

    @property
    def all_equal(self) -> bool:
        return not (self.different or self.missing or self.extra)


def compare(
    kept: tuple[Texts, Texts], replayed: tuple[Texts, Texts], *, show: int = 10, part: Part | None = None
) -> Compared:
    """Keys and values of the one and of the other; in each, every key once.

    Args:
        show: how many differences are told.
        part: rows whose values differ are equal where this gives the same of both.
    """
    one, two = _frame(*kept, "kept"), _frame(*replayed, "replayed")
    there = pl.lit(True)
    both = one.with_columns(here=there).join(two.with_columns(there=there), on="key", how="full", coalesce=True)
    missing, extra = pl.col("here").is_null(), pl.col("there").is_null()
    unlike = both.filter(missing | extra | (pl.col("kept") != pl.col("replayed")))
    if part is not None:
        alike = [
            one is not None and two is not None and part(one) == part(two)
            for one, two in zip(unlike["kept"], unlike["replayed"], strict=True)
        ]
        unlike = unlike.filter(~pl.Series(alike, dtype=pl.Boolean))
    n_missing, n_extra = (int(unlike.select(rows.sum()).item()) for rows in (missing, extra))
    first = unlike.sort("key").head(show).select("key", "kept", "replayed").rows()
    return Compared(
        len(both) - len(unlike),
        len(unlike) - n_missing - n_extra,
        n_missing,
        n_extra,
        tuple(Difference(*row) for row in first),
    )


def compare_headers(
    kept: Mapping[str, int | None], replayed: Mapping[str, int | None], besides: frozenset[str] = frozenset()
) -> list[str]:
    """What is not the same, in words. ``besides``: names of what no replay brings back, as what the clock tells."""
    names = sorted((kept.keys() | replayed.keys()) - besides)
    return [
        f"{name}: {kept.get(name)} is kept, {replayed.get(name)} was replayed"
        for name in names
        if kept.get(name) != replayed.get(name)
    ]


def changed(before: tuple[Texts, Texts], changes: Changes) -> tuple[Texts, Texts]:
    """The rows that there are after changes."""
    keys, values, gone = changes
    if not len(before[0]):
        return keys, values
    over = pl.concat([_series(keys), _series(gone)])
    stay = (~_series(before[0]).is_in(over.implode())).to_numpy().nonzero()[0]
    return joined([before[0][stay], keys]), joined([before[1][stay], values])


def _frame(keys: Texts, values: Texts, name: str) -> pl.DataFrame:
    return pl.DataFrame({"key": _series(keys), name: _series(values)})


def _series(texts: Texts) -> pl.Series:
    if compiled.available():
        return texts.series()
    return pl.Series(items(texts), dtype=pl.Binary)
