"""Flows and joins through the driver: the results are those computed by hand, however the events came."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from streamproc.record import Record
from streamproc.testing import TestDriver
from tests.runtime import flow_kit
from tests.runtime.flow_kit import Events, expected, made


def run(events: Events, seed: int) -> tuple[dict[str, list[Record]], dict[Any, list[Any]]]:
    """What comes to the result topics in all, sorted, and by topic and partition in order; events come in pieces, topic
    by topic in any order.
    """
    app, chance = flow_kit.build(), random.Random(seed)
    at = dict.fromkeys(events, 0)
    with TestDriver(app) as driver:
        while left := [name for name in events if at[name] < len(events[name])]:
            name = chance.choice(left)
            size = chance.choice((1, 2, 5, 40))
            driver.publish(app.topics[f"shop-{name}"], *events[name][at[name] : at[name] + size])
            at[name] += size
        for _ in range(20):
            driver.advance("100ms")
        driver.advance("1m")
        assert driver.dead_letters == []
        found: dict[str, list[Record]] = defaultdict(list)
        ordered: dict[Any, list[Any]] = defaultdict(list)
        for result in driver.log:
            name = result.topic.removeprefix("shop-")
            if name not in events:
                found[name].append(result.record)
                ordered[name, result.partition].append((result.key, result.record, result.timestamp))
    return {name: sorted(rows, key=repr) for name, rows in found.items()}, ordered


@pytest.mark.parametrize("seed", range(4))
def test_results_are_those_computed_by_hand(seed: int) -> None:
    events = made(seed)
    found, ordered = run(events, seed)
    want = expected(events)
    for name, rows in want.items():
        assert found[name] == rows, name
    _, again = run(events, seed + 100)
    for at, rows in ordered.items():
        if at[0] in ("checked", "priced", "near", "turnover"):
            assert again[at] == rows, at


def test_an_id_comes_through_once() -> None:
    events = made(5)
    found, _ = run(events, 5)
    ids = [order.id for order in found["once"]]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids))
    assert set(ids) == {order.id for order in events["orders"]}  # type: ignore[attr-defined]
