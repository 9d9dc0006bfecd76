"""The jobs in this platform. A topology's topics are ``<name>-<short>``, its results are in ``<name>-out``. Nothing
goes by the clock: ``idle=None``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from streamproc import App, count, hopping, last, maximum, mean, merge, minimum, session, total, tumbling, variance
from streamproc.define.topic import Topic
from tests.differential.records import (
    AboveSum,
    ActivePowerRecord,
    Contribution,
    GroupContribution,
    GroupSum,
    HierarchySum,
    LastValue,
    Membership,
    Order,
    Paid,
    Payment,
    SlotStats,
    SlottedReading,
    StoredRow,
    WindowStats,
)

Numbers = Mapping[str, int]  # durations in milliseconds, by name
ZONE = "Europe/Paris"  # whose hours UC3 goes by
STATS = {
    "n": count(),
    "sum": total("valueInW"),
    "mean": mean("valueInW"),
    "min": minimum("valueInW"),
    "max": maximum("valueInW"),
    "variance": variance("valueInW", ddof=0),
}


def _app(name: str) -> App:
    return App(name, guarantee="exactly_once")


def _readings(app: App) -> Topic:
    return app.topic(f"{app.name}-readings", ActivePowerRecord, key="identifier", time="timestamp")


def _ms(numbers: Numbers, name: str) -> str:
    return f"{numbers[name]}ms"


def store(name: str, numbers: Numbers) -> App:
    """UC1: each measurement that is above zero as a row for a database."""
    app = _app(name)
    kilowatts = pl.col("valueInW") / 1000
    _readings(app).where(pl.col("valueInW") > 0).with_columns(
        second=pl.col("timestamp") // 1000, kilowatts=kilowatts, draws=kilowatts >= 0.1
    ).to(f"{name}-out", StoredRow)
    return app


def downsample(name: str, numbers: Numbers) -> App:
    """UC2, and with steps shorter than windows: hopping ones."""
    app = _app(name)
    size, step = _ms(numbers, "size"), _ms(numbers, "step")
    window = tumbling(size) if size == step else hopping(size, step)
    _readings(app).window(window, grace=_ms(numbers, "grace"), idle=None).agg(f"{name}-out", WindowStats, **STATS)
    return app


def hours(name: str, numbers: Numbers) -> App:
    """UC3: of each sensor and hour of the day, over windows of many days."""
    app = _app(name)
    clock = pl.col("timestamp").cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(ZONE)
    slot = pl.col("identifier") + "/" + clock.dt.hour().cast(pl.String)
    slotted = _readings(app).with_columns(slot=slot).rekey("slot", SlottedReading)
    window = hopping(_ms(numbers, "size"), _ms(numbers, "step"))
    slotted.window(window, grace=_ms(numbers, "grace"), idle=None).agg(f"{name}-out", SlotStats, **STATS)
    return app


def sessions(name: str, numbers: Numbers) -> App:
    """Sessions that a gap ends."""
    app = _app(name)
    window = session(_ms(numbers, "gap"))
    _readings(app).window(window, grace=_ms(numbers, "grace"), idle=None).agg(f"{name}-out", WindowStats, **STATS)
    return app


def hierarchy(name: str, numbers: Numbers) -> App:
    """UC4: the last value of each sensor and window, summed by the groups that it is in then; those sums by the groups
    that groups are in. The results of all levels are one topic.
    """
    app = _app(name)
    window, grace = tumbling(_ms(numbers, "size")), _ms(numbers, "grace")
    groups = app.topic(f"{name}-groups", Membership, key="identifier", time="since")
    contributions = (
        _readings(app)
        .join(groups.latest(), grace=grace, idle=None)
        .flat_map(Contribution, _contributions)
        .to(f"{name}-contributions", Contribution)
    )
    values = (
        contributions.rekey("pair")
        .window(window, grace=grace, idle=None)
        .agg(f"{name}-values", LastValue, parent=last("parent"), value=last("valueInW"))
    )
    # A result has its window's end as its time: a millisecond before it lies in the next level's same window.
    inside = pl.col("end") - 1
    sums = (
        values.with_columns(end=inside)
        .rekey("parent", LastValue)
        .window(window, idle=None)
        .agg(f"{name}-sums", GroupSum, n=count(), sum=total("value"))
    )
    above = (
        sums.join(groups.latest(), idle=None)
        .flat_map(GroupContribution, _group_contributions)
        .to(f"{name}-above", GroupContribution)
    )
    totals = (
        above.with_columns(end=inside)
        .rekey("above", GroupContribution)
        .window(window, idle=None)
        .agg(f"{name}-totals", AboveSum, n=count(), sum=total("sum"))
    )
    columns = ("n", "sum", "end")
    merge(
        sums.select("parent", *columns, window="start", level=pl.lit(1)),
        totals.select(*columns, parent="above", window="start", level=pl.lit(2)),
    ).to(f"{name}-out", HierarchySum, idle=None)
    return app


def _contributions(row: Any) -> Iterator[Contribution]:
    for parent in row.parents:
        yield Contribution(row.identifier, f"{row.identifier}|{parent}", parent, row.timestamp, row.valueInW)


def _group_contributions(row: Any) -> Iterator[GroupContribution]:
    for above in row.parents:
        yield GroupContribution(row.parent, above, row.end, row.sum)


def _sides(app: App) -> tuple[Topic, Topic]:
    orders = app.topic(f"{app.name}-orders", Order, key="account", time="at")
    return orders, app.topic(f"{app.name}-payments", Payment, key="account", time="at")


def near(name: str, numbers: Numbers) -> App:
    """Orders, each with all payments of its account that lie near it."""
    app = _app(name)
    orders, payments = _sides(app)
    within = (f"-{_ms(numbers, 'before')}", _ms(numbers, "after"))
    orders.join(payments, within=within, how="left", grace=_ms(numbers, "grace"), idle=None).to(f"{name}-out", Paid)
    return app


def latest(name: str, numbers: Numbers) -> App:
    """Orders, each with its account's last payment before it, of whatever age."""
    app = _app(name)
    orders, payments = _sides(app)
    orders.as_of(payments, how="left", grace=_ms(numbers, "grace"), idle=None).to(f"{name}-out", Paid)
    return app
