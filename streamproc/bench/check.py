"""Results against what they must be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from streamproc.bench.reference import ORDERS, Asked
from streamproc.define.windows import AlignedWindow
from streamproc.errors import StreamprocError


class Wrong(StreamprocError):
    """Results that are not what they must be."""


TOLERANCE = 1e-9  # of float sums and means, relative: the order of addition is the engine's own
_TOLD = 5


@dataclass(slots=True)
class Verdict:
    """What was found. ``wrong`` is empty where every result is there once and right.

    ``bits`` says in which order float sums were added so that all are equal to the bit: ``events``, ``panes``, or
    neither (empty). ``missing`` and ``beyond`` count closed windows that did not come and others that did, where an
    engine is known for it.
    """

    results: int = 0
    wrong: list[str] = field(default_factory=list)
    bits: str = ""
    missing: int = 0
    beyond: int = 0


def windows(
    found: pl.DataFrame, reference: pl.DataFrame, asked: Asked, *, complete: bool = True, closed: bool = True
) -> Verdict:
    """Compares windows by key and start; none may come twice.

    Args:
        complete: whether each window that is closed must be there.
        closed: whether no other may.
    """
    verdict = Verdict(len(found))
    at = [asked.key, "start"]
    size = asked.window.size if isinstance(asked.window, AlignedWindow) else None
    if size and "end" in found.columns and (found["end"] != found["start"] + size).any():
        verdict.wrong.append("windows end elsewhere than a window's size after their start")
    both = found.join(reference.with_row_index("_row"), on=at, how="left", suffix=":wanted")
    beyond = both["_row"].null_count()
    both = both.filter(pl.col("_row").is_not_null())
    came = both["_row"].n_unique()
    missing = len(reference) - came
    if doubled := len(both) - came:
        verdict.wrong.append(f"{doubled} windows came more than once")
    if complete and missing:
        verdict.wrong.append(f"{missing} windows are missing")
    if closed and beyond:
        verdict.wrong.append(f"{beyond} windows came that are not closed, or hold nothing")
    verdict.missing, verdict.beyond = missing, beyond
    ends = ["end"] if "end" in found.columns and "end" in reference.columns else []
    for name in [*ends, *asked.aggregates]:
        differing = both.filter(_differs(name, name in asked.sums))
        if len(differing):
            some = differing.select(*at, name, f"{name}:wanted").head(_TOLD).rows()
            verdict.wrong.append(f"{name} of {len(differing)} windows is wrong, such as {some} (last: what it must be)")
    if not verdict.wrong and len(both) and asked.sums:
        verdict.bits = next(filter(lambda order: _same_bits(both, asked, order), ORDERS), "")
    return verdict


def _differs(name: str, summed: bool) -> pl.Expr:
    have, want = pl.col(name), pl.col(f"{name}:wanted")
    if summed:
        return ((want - have).abs() > TOLERANCE * want.abs()).fill_null(True)
    return want.ne_missing(have)


def _same_bits(both: pl.DataFrame, asked: Asked, order: str) -> bool:
    wanted = {name: f"{name}:{order}" for name in asked.sums}
    return all(of in both.columns and (both[of] == both[name]).all() for name, of in wanted.items())


def counts(found: pl.DataFrame, events: pl.DataFrame, most: int) -> Verdict:
    """Running counts: ``n`` events of ``symbol`` up to event time ``at``, at most ``most`` of them."""
    verdict = Verdict(len(found))
    truth = events.select("symbol", "ts", n=pl.int_range(1, pl.len() + 1).over("symbol"))
    joined = found.join(truth, left_on=["symbol", "at"], right_on=["symbol", "ts"], how="left", suffix=":true")
    wrong = joined.filter(pl.col("n").ne_missing(pl.col("n:true")))
    if len(wrong):
        verdict.wrong.append(f"{len(wrong)} counts are wrong, such as {wrong.head(_TOLD).rows()}")
    if untold := events["symbol"].n_unique() - found["symbol"].n_unique():
        verdict.wrong.append(f"{untold} symbols were never counted")
    if len(found) > most:
        verdict.wrong.append(f"{len(found)} counts came; at most {most} may in this time")
    return verdict


def same(found: Iterable[tuple[object, ...]], wanted: Iterable[tuple[object, ...]]) -> Verdict:
    """Rows in any order, each as often as wanted."""
    have, want = sorted(found, key=repr), sorted(wanted, key=repr)
    verdict = Verdict(len(have))
    if have != want:
        lost, extra = set(want) - set(have), set(have) - set(want)
        some = (
            f", such as {sorted(lost, key=repr)[:_TOLD]} and {sorted(extra, key=repr)[:_TOLD]}" if lost or extra else ""
        )
        verdict.wrong.append(f"expected {len(want)} results; got {len(have)}{some}")
    return verdict
