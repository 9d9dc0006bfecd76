"""What joins must give, computed from the inputs as they lie in Kafka, by numpy and none of our own code."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streamproc.bench.check import Verdict
from streamproc.bench.reference import PARTITION

_TOLD = 5
_BITS = 44  # of a place: the time; what is above is the key's code
DUE = "_due"

Longs = NDArray[np.int64]


def near(trades: pl.DataFrame, quotes: pl.DataFrame, within: int, grace: int) -> pl.DataFrame:
    """All pairs of one symbol whose times are at most ``within`` ms apart; whether they are due, see :func:`_due`."""
    left, right, quotes = _places(trades, quotes)
    first = np.searchsorted(right, left - within, "left")
    last = np.searchsorted(right, left + within, "right")
    rows = np.repeat(np.arange(len(left)), last - first)
    others = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
    pairs = _beside(trades[rows], quotes[others + np.repeat(first, last - first)])
    return _due(pairs, trades, quotes, pl.max_horizontal("ts", "ts_right"), grace)


def latest(trades: pl.DataFrame, quotes: pl.DataFrame, grace: int) -> pl.DataFrame:
    """Each trade with its symbol's last quote of its time or before, if there is one."""
    left, right, quotes = _places(trades, quotes)
    found = np.searchsorted(right, left, "right") - 1
    have = (found >= 0) & (right[found] >> _BITS == left >> _BITS)
    return _due(_beside(trades.filter(have), quotes[found[have]]), trades, quotes, pl.col("ts"), grace)


def _places(trades: pl.DataFrame, quotes: pl.DataFrame) -> tuple[Longs, Longs, pl.DataFrame]:
    """Symbol and time of each row as one number; quotes in the order of theirs."""
    symbols = pl.concat([trades["symbol"], quotes["symbol"]]).rank("dense").to_numpy().astype(np.int64)
    left, right = symbols[: len(trades)], symbols[len(trades) :]
    left, right = (left << _BITS) + trades["ts"].to_numpy(), (right << _BITS) + quotes["ts"].to_numpy()
    order = np.argsort(right, kind="stable")
    return left, right[order], quotes[order]


def _beside(trades: pl.DataFrame, quotes: pl.DataFrame) -> pl.DataFrame:
    return trades.select("symbol", "ts", "price", PARTITION).with_columns(ts_right=quotes["ts"], bid=quotes["bid"])


def _due(found: pl.DataFrame, trades: pl.DataFrame, quotes: pl.DataFrame, moment: pl.Expr, grace: int) -> pl.DataFrame:
    """With a column that says whether both inputs have gone past the result's moment, by more than the grace."""
    ends = [side.group_by(PARTITION).agg(pl.max("ts").alias("_end")) for side in (trades, quotes)]
    frontier = pl.concat(ends).group_by(PARTITION).agg(pl.min("_end") - grace)
    due = (moment < pl.col("_end")).alias(DUE)
    return found.join(frontier, on=PARTITION).with_columns(due).drop("_end", PARTITION)


def judge(found: pl.DataFrame, wanted: pl.DataFrame, *, exact: bool = True) -> Verdict:
    """Compares results in any order; none may come twice, and all that are due must be there.

    Args:
        exact: whether none may come before it is due: an engine that takes rows as they come gives it at once.
    """
    verdict, names = Verdict(len(found)), [name for name in wanted.columns if name != DUE]
    found = found.select(names)
    told = found.group_by(names).len("_n").join(wanted, on=names, how="full", suffix=":wanted")
    missing = told.filter(pl.col("_n").is_null() & pl.col(DUE))
    strange = told.filter(pl.col(DUE).is_null())
    early = told.filter(pl.col("_n").is_not_null() & pl.col(DUE).not_())
    doubled = told.filter(pl.col("_n") > 1)
    others = [(missing, "are missing"), (strange, "are wrong"), (doubled, "came more than once")]
    for rows, what in [*others, *([(early, "came too early")] if exact else [])]:
        if len(rows):
            verdict.wrong.append(f"{len(rows)} results {what}, such as {rows.head(_TOLD).rows()}")
    verdict.beyond = len(early)
    return verdict
