"""What the jobs read and write. The schemas lie beside this file."""

from __future__ import annotations

from streamproc.record import Record


class Trade(Record):
    """Five fields: the peers' job and ours."""

    symbol: str
    ts: int
    price: float
    size: float
    venue: str


class TradeWindow(Record):
    """A symbol's trades of one window."""

    symbol: str
    start: int
    end: int
    n: int
    sum: float
    max: float
    mean: float


class TradeCount(Record):
    """A symbol had ``n`` trades up to the one of event time ``at``: exact, whenever it was told."""

    symbol: str
    at: int
    n: int


class Quote(Record):
    """What a symbol is bid and asked for."""

    symbol: str
    ts: int
    bid: float
    ask: float


class Quoted(Record):
    """A trade, and a quote of its symbol."""

    symbol: str
    ts: int
    price: float
    ts_right: int
    bid: float


class Telemetry(Record):
    """Thirty fields of every plain type, some of them null."""

    id: str
    vehicle: str
    ts: int
    route: str
    driver: str | None
    lat: float
    lon: float
    altitude: float | None
    speed: float
    heading: float
    odometer: int
    trip: int
    fuel: float | None
    rpm: int
    torque: float
    coolant: float
    oil: float
    battery: float
    load: int | None
    doors: int
    moving: bool
    braking: bool
    lights: bool
    alarm: bool
    region: str
    firmware: str
    note: str | None
    signal: int
    satellites: int | None
    price: float


class TelemetryWindow(Record):
    """A vehicle's telemetry of one window: count, mean speed, greatest rpm, least fuel."""

    vehicle: str
    start: int
    end: int
    n: int
    speed: float
    rpm: int
    fuel: float | None


class Line(Record):
    """One line of an order."""

    article: str
    count: int
    price: float


class Order(Record):
    """An array of records, a map and a nullable string: what no column holds plainly."""

    id: str
    ts: int
    customer: str
    note: str | None
    lines: list[Line]
    labels: dict[str, str]


class LargeOrder(Record):
    """An order above a limit, and what it comes to."""

    id: str
    ts: int
    total: float


class Ping(Record):
    """One event, sent when nothing else is under way, and its result."""

    id: str
    ts: int
    value: float
