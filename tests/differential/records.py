"""Records of the jobs. The first is Theodolite's: a sensor's identifier, a time in milliseconds, and watts."""

from __future__ import annotations

from streamproc.record import Record


class ActivePowerRecord(Record):
    """A measurement."""

    identifier: str
    timestamp: int
    valueInW: float


class StoredRow(Record):
    """UC1: what a database would get of a measurement."""

    identifier: str
    timestamp: int
    second: int
    kilowatts: float
    draws: bool


class WindowStats(Record):
    """UC2 and others: a sensor's measurements of one window. The variance is the population's."""

    identifier: str
    start: int
    end: int
    n: int
    sum: float
    mean: float
    min: float
    max: float
    variance: float


class SlotStats(Record):
    """UC3: the same, of a sensor's measurements at one hour of the day: ``identifier/hour``."""

    slot: str
    start: int
    end: int
    n: int
    sum: float
    mean: float
    min: float
    max: float
    variance: float


class SlottedReading(Record):
    """A measurement, and which hour of the day of its sensor it is of: ``identifier/hour``."""

    slot: str
    identifier: str
    timestamp: int
    valueInW: float


class Membership(Record):
    """UC4: the groups that a sensor, or a group, is in from ``since`` on."""

    identifier: str
    since: int
    parents: list[str]


class Contribution(Record):
    """A measurement for one of its sensor's groups; ``pair`` is both."""

    identifier: str
    pair: str
    parent: str
    timestamp: int
    valueInW: float


class LastValue(Record):
    """The last measurement of a sensor for a group in one window."""

    pair: str
    start: int
    end: int
    parent: str
    value: float


class GroupSum(Record):
    """What a group's members came to in one window."""

    parent: str
    start: int
    end: int
    n: int
    sum: float


class GroupContribution(Record):
    """A group's sum for one of the groups that it is in itself."""

    parent: str
    above: str
    end: int
    sum: float


class AboveSum(Record):
    """What the groups in a group came to in one window."""

    above: str
    start: int
    end: int
    n: int
    sum: float


class HierarchySum(Record):
    """UC4's result: a group's sum of the window that begins at ``window``; ``level`` 1 is of sensors, 2 of groups."""

    parent: str
    window: int
    level: int
    n: int
    sum: float


class Order(Record):
    """The left side of joins."""

    account: str
    at: int
    id: str
    amount: float


class Payment(Record):
    """The right side."""

    account: str
    at: int
    id: str
    fee: float


class Paid(Record):
    """An order, and a payment near it, or none."""

    account: str
    at: int
    id: str
    amount: float
    at_right: int | None
    id_right: str | None
    fee: float | None
