"""Orders, accounts and rates, flows over all of them, and what must come of them, computed by hand."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import polars as pl

from streamproc import App, Record, count, merge, total, tumbling

GRACE, WINDOW, WITHIN = 200, 1000, 300


class Order(Record):
    id: str
    account: str
    at: int
    cents: int
    currency: str


class Account(Record):
    account: str
    since: int
    limit: int


class Rate(Record):
    currency: str
    valid: int
    euros: float


class Checked(Record):
    id: str
    account: str
    at: int
    cents: int
    limit: int | None


class Priced(Record):
    id: str
    account: str
    at: int
    euros: float | None


class Turnover(Record):
    currency: str
    start: int
    end: int
    n: int
    cents: int


def build(name: str = "shop", guarantee: Any = "at_least_once", idle: str = "500ms") -> App:
    """Every kind of flow over four topics."""
    app = App(name, partitions=3, guarantee=guarantee)

    def at(topic: str) -> str:
        return f"{name}-{topic}"

    shop = app.topic(at("orders"), Order, key="account", time="at", id="id")
    web = app.topic(at("web"), Order, key="account", time="at", id="id")
    accounts = app.topic(at("accounts"), Account, key="account", time="since")
    rates = app.topic(at("rates"), Rate, key="currency", time="valid")
    timing: dict[str, Any] = {"grace": f"{GRACE}ms", "idle": idle}

    # One input.
    shop.where(pl.col("cents") > 500).to(at("large"), Order, key="account", time="at")
    shop.deduplicate("id", within="10s").to(at("once"), Order, key="account", time="at")
    # A table, as of event time; partition by partition, and everywhere.
    checked = shop.join(accounts.latest(), how="left", **timing).select("id", "account", "at", "cents", "limit")
    checked.to(at("checked"), Checked, key="account", time="at")
    priced = shop.join(rates.latest(everywhere=True), on="currency", how="inner", **timing)
    euros = pl.col("cents") * pl.col("euros")
    priced.select("id", "account", "at", euros=euros).to(at("priced"), Priced, key="account", time="at")
    # Two streams.
    near = shop.join(web, within=f"{WITHIN}ms", how="left", **timing)
    near.select("id", "account", "at", "cents", limit="cents_right").to(at("near"), Checked, key="account", time="at")
    both = merge(shop.rekey("currency"), web.rekey("currency"))
    both.window(tumbling(f"{WINDOW}ms"), grace=f"{GRACE}ms", idle=idle).agg(
        at("turnover"), Turnover, n=count(), cents=total("cents")
    )
    return app


Events = dict[str, list[Record]]  # by topic, without the app's name


def made_in_order(seed: int, count: int = 300) -> list[tuple[str, Any]]:
    """Events of a few keys, each with its topic; disorder stays within the grace, so that nothing is late."""
    chance = random.Random(seed)
    now, events, last = 10_000, [], dict[str, Order]()
    for n in range(count):
        now += chance.randrange(20)
        at = now - chance.choice((0, 0, 0, GRACE // 2, GRACE))
        account, currency = f"a{chance.randrange(6)}", f"c{chance.randrange(4)}"
        kind = chance.choice(("orders", "orders", "web", "accounts", "rates"))
        if kind == "accounts":
            events.append((kind, Account(account, at, n)))
        elif kind == "rates":
            events.append((kind, Rate(currency, at, chance.random())))
        else:
            again = last.get(kind) if chance.random() < 0.1 else None
            id, account = (f"{kind}{n}", account) if again is None else (again.id, again.account)
            last[kind] = Order(id, account, at, chance.randrange(1000), currency)
            events.append((kind, last[kind]))
    return events


def made(seed: int, count: int = 300) -> Events:
    """The same, by topic."""
    found = Events(orders=[], web=[], accounts=[], rates=[])
    for topic, event in made_in_order(seed, count):
        found[topic].append(event)
    return found


def newest(rows: list[Any], key: str, time: str, at: int, value: str) -> Any:
    """The newest of a table's rows of a key at or before a time; of one time, the last."""
    found = None
    for row in rows:
        if (
            getattr(row, key) == value
            and getattr(row, time) <= at
            and (found is None or getattr(row, time) >= found[0])
        ):
            found = (getattr(row, time), row)
    return None if found is None else found[1]


def expected(events: Events) -> dict[str, list[Record]]:
    """What each result topic must hold, sorted."""
    orders: list[Any] = events["orders"]
    web: list[Any] = events["web"]
    found: dict[str, list[Record]] = defaultdict(list)
    for o in orders:
        if o.cents > 500:
            found["large"].append(o)
        account = newest(events["accounts"], "account", "since", o.at, o.account)
        limit = None if account is None else account.limit
        found["checked"].append(Checked(o.id, o.account, o.at, o.cents, limit))
        rate = newest(events["rates"], "currency", "valid", o.at, o.currency)
        if rate is not None:
            found["priced"].append(Priced(o.id, o.account, o.at, o.cents * rate.euros))
        near = [w for w in web if w.account == o.account and abs(w.at - o.at) <= WITHIN]
        for w in near or [None]:
            found["near"].append(Checked(o.id, o.account, o.at, o.cents, None if w is None else w.cents))
    windows: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for o in orders + web:
        windows[o.currency, o.at // WINDOW * WINDOW].append(o)
    for (currency, start), some in windows.items():
        sums = len(some), sum(o.cents for o in some)
        found["turnover"].append(Turnover(currency, start, start + WINDOW, *sums))
    return {name: sorted(rows, key=repr) for name, rows in found.items()}
