"""What joins must give, against the slowest possible way; and the judge."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from streamproc.bench import joined
from streamproc.bench.inputs import INPUTS
from streamproc.bench.joined import DUE
from streamproc.bench.reference import PARTITION

NEAR, GRACE = 12, 5
Pair = tuple[str, int, float, int, float]


def side(seed: int, name: str) -> pl.DataFrame:
    """Rows of two partitions, each symbol in one; times may be equal on both sides."""
    random = np.random.default_rng(seed)
    symbols = random.integers(0, 6, 300)
    columns = {"symbol": [f"s{n}" for n in symbols], "ts": np.sort(random.integers(0, 600, 300)) + 1000}
    return pl.DataFrame(columns | {name: random.random(300), PARTITION: symbols % 2})


TRADES, QUOTES = side(1, "price"), side(2, "bid")


def due(moment: int, partition: int) -> bool:
    ends = [rows.filter(pl.col(PARTITION) == partition)["ts"].max() for rows in (TRADES, QUOTES)]
    return moment < min(ends) - GRACE  # type: ignore[type-var, operator]


def by_hand(how: str) -> dict[Pair, bool]:
    found = {}
    for trade in TRADES.to_dicts():
        quotes = [quote for quote in QUOTES.to_dicts() if quote["symbol"] == trade["symbol"]]
        if how == "near":
            pairs = [quote for quote in quotes if abs(quote["ts"] - trade["ts"]) <= NEAR]
        else:
            pairs = [quote for quote in quotes if quote["ts"] <= trade["ts"]][-1:]
        for quote in pairs:
            moment = max(trade["ts"], quote["ts"]) if how == "near" else trade["ts"]
            pair = (trade["symbol"], trade["ts"], trade["price"], quote["ts"], quote["bid"])
            found[pair] = due(moment, trade[PARTITION])
    return found


def wanted(how: str) -> pl.DataFrame:
    return joined.near(TRADES, QUOTES, NEAR, GRACE) if how == "near" else joined.latest(TRADES, QUOTES, GRACE)


@pytest.mark.parametrize("how", ["near", "latest"])
def test_joins_are_those_of_the_slow_way(how: str) -> None:
    found = {tuple(row[:-1]): row[-1] for row in wanted(how).iter_rows()}
    assert found == by_hand(how)
    assert len(found) > 200
    assert not all(found.values())


def test_what_is_due_is_right() -> None:
    some = wanted("near").filter(DUE)
    assert joined.judge(some.drop(DUE), wanted("near")).wrong == []


def test_what_is_wrong_is_told() -> None:
    all_of_them = wanted("near")
    some = all_of_them.filter(DUE).drop(DUE)
    for found, told in [
        (some.slice(1), "1 results are missing"),
        (pl.concat([some, some.slice(0, 2)]), "2 results came more than once"),
        (some.with_columns(bid=pl.col("bid") + (pl.int_range(pl.len()) == 3)), "1 results are missing"),
        (all_of_them.drop(DUE), "results came too early"),
    ]:
        assert told in joined.judge(found, all_of_them).wrong[0]
    verdict = joined.judge(all_of_them.drop(DUE), all_of_them, exact=False)
    assert (verdict.wrong, verdict.beyond) == ([], int(all_of_them[DUE].not_().sum()))


def test_quotes_lie_between_trades() -> None:
    trades, quotes = (pl.DataFrame([*INPUTS[name].rows(100)])["ts"] for name in ("trades", "quotes"))
    assert trades.is_sorted()
    assert ((quotes > trades) & (quotes < trades + 10)).all()
