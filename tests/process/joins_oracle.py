"""What joins must give, as one computation in polars over all events."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl


class Paired(NamedTuple):
    """A result: the rows that it comes of, by their places in the sequence; None where a side has none."""

    left: int | None
    right: int | None


def interval(sequence: pl.DataFrame, low: int, high: int, how: str) -> list[Paired]:
    """An interval join of events in the order of the sequence: ``side`` (0 or 1), ``key`` and ``time``, by time.

    In order: by the moment when each is known; of one moment pairs first, by their later rows, then by the other ones;
    then what is alone, of the left and then of the right.
    """
    rows = sequence.with_row_index("row").cast({"row": pl.Int64})
    left, right = (rows.filter(pl.col("side") == side).drop("side") for side in (0, 1))
    near = (pl.col("time_right") - pl.col("time")).is_between(low, high)
    pairs = left.join(right, on="key", how="inner", nulls_equal=False).filter(near)
    found = [
        pairs.select(
            pl.max_horizontal("time", "time_right").alias("moment"),
            pl.lit(0).alias("kind"),
            pl.max_horizontal("row", "row_right").alias("later"),
            pl.min_horizontal("row", "row_right").alias("earlier"),
            pl.col("row").alias("left"),
            pl.col("row_right").alias("right"),
        )
    ]
    for side, kind, reach, outer in ((left, 1, max(high, 0), "left outer"), (right, 2, max(-low, 0), "outer")):
        if how in outer.split():
            alone = side.join(pairs, left_on="row", right_on="row" if kind == 1 else "row_right", how="anti")
            row, none = pl.col("row"), pl.lit(None, pl.Int64)
            found.append(
                alone.select(
                    (pl.col("time") + reach).alias("moment"),
                    pl.lit(kind).alias("kind"),
                    row.alias("later"),
                    row.alias("earlier"),
                    (row if kind == 1 else none).alias("left"),
                    (none if kind == 1 else row).alias("right"),
                )
            )
    order = pl.concat(found).sort("moment", "kind", "later", "earlier")
    return [Paired(*row) for row in order.select("left", "right").iter_rows()]


def digest(values: Any) -> Any:
    """Values such that equal means equal to the bit: NaN is equal to itself, and 0 not to False."""
    return repr(values)
