"""What the jobs read: the same every time, out of order within bounds, and closed by events far ahead."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from streamproc.log.partition import partition_of

PARTITIONS = 4
START = 1_750_000_020_000  # ms: a full minute, and not a full hour
Row = dict[str, object]


def names(count: int, kind: str = "sensor") -> list[str]:
    """Sensors or others; every partition has some, or it would hold the others back."""
    found = [f"{kind}-{n}" for n in range(count)]
    assert {partition_of(name.encode(), PARTITIONS) for name in found} == set(range(PARTITIONS))
    return found


def readings(
    seed: int, sensors: Sequence[str], count: int, every: int, disorder: int, *, first: int = START
) -> Iterator[Row]:
    """Measurements, on the whole one every ``every`` milliseconds; four in ten come up to ``disorder`` ms later than
    they should. Some sensors measure often, others seldom; values have very different sizes, so that the order of
    addition is seen in the last bits; one in twenty is negative.
    """
    chance = random.Random(seed)
    weights = [1 / (n + 1) for n in range(len(sensors))]
    for n in range(count):
        late = chance.randrange(disorder + 1) if disorder and chance.random() < 0.4 else 0
        value = chance.random() * 10 ** chance.randrange(-2, 5) * (-1 if chance.random() < 0.05 else 1)
        (sensor,) = chance.choices(sensors, weights)
        yield {"identifier": sensor, "timestamp": first + n * every - late, "valueInW": value}


def bursts(seed: int, sensors: Sequence[str], count: int, gap: int, disorder: int) -> Iterator[Row]:
    """Measurements in sessions: pauses are a little shorter, exactly as long, or longer than ``gap``, or none."""
    chance = random.Random(seed)
    at = dict.fromkeys(sensors, START)
    rows = []
    for _ in range(count):
        sensor = chance.choice(sensors)
        at[sensor] += chance.choice((1, 7, gap // 3, gap - 1, gap, gap + 1, 2 * gap))
        rows.append((at[sensor], sensor, chance.random() * 1000))
    rows.sort()
    held = sorted((time + chance.randrange(disorder + 1), n) for n, (time, _, _) in enumerate(rows))
    for _, n in held:
        time, sensor, value = rows[n]
        yield {"identifier": sensor, "timestamp": time, "valueInW": value}


def hours(sensors: Sequence[str], at: int) -> list[Row]:
    """One of each sensor in each hour of the day that begins there."""
    return [row for hour in range(24) for row in closing(sensors, at + hour * 3_600_000)]


def memberships(seed: int, sensors: Sequence[str], until: int) -> list[Row]:
    """Sensors in one to three of ten groups, the groups in one or two of six sites; at times a sensor moves."""
    chance = random.Random(seed)
    groups, sites, before = names(10, "group"), names(6, "site"), START - 1000
    first = [(name, [groups[n % 10]]) for n, name in enumerate(sensors)]
    first += [(name, sorted({sites[n % 6], sites[n // 2]})) for n, name in enumerate(groups)]
    rows: list[Row] = [{"identifier": name, "since": before, "parents": parents} for name, parents in first]
    for at in range(START, until, 1700):
        # The first ones stay where they are, so that no group is ever empty.
        name, parents = chance.choice(sensors[10:]), chance.sample(groups, chance.randint(1, 3))
        rows.append({"identifier": name, "since": at, "parents": parents})
    return rows


def again(rows: Sequence[Row], at: int) -> list[Row]:
    """What everybody's membership is, said once more: event time goes on, and nothing changes."""
    newest = {row["identifier"]: row for row in rows}
    return [{**row, "since": at} for row in newest.values()]


def trades(seed: int, accounts: Sequence[str], count: int, every: int, disorder: int, payments: bool) -> Iterator[Row]:
    """Orders or payments; their times are multiples of ``every`` on both sides, so that some are equal."""
    chance = random.Random(seed)
    kind, worth = ("p", "fee") if payments else ("o", "amount")
    for n in range(count):
        late = chance.randrange(disorder // every + 1) if chance.random() < 0.4 else 0
        at = START + (n - late) * every
        yield {"account": chance.choice(accounts), "at": at, "id": f"{kind}{n}", worth: chance.random() * 100}


def closing(sensors: Sequence[str], at: int) -> list[Row]:
    """One of each sensor, so of each partition, which takes event time there."""
    return [{"identifier": name, "timestamp": at, "valueInW": 1.0} for name in sensors]
