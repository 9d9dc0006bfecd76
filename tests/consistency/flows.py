"""Flows of the topology whose results can all be computed by hand: a join of two topics within an interval, and windows
behind a rekeying. They never go by the clock, so results depend on the visits alone.
"""

from __future__ import annotations

from streamproc import App, Record, count, total, tumbling

LOW_MS, HIGH_MS = -50, 150  # of the right one's time, less the left one's
SITE_MS = 500
GRACE_MS = 200

#: Topics of visits, by their short names.
SOURCES = ("lefts", "rights")
#: The sinks of results that are made in order of event time, by their short names, and of which fields a result's
#: identity is made.
IDENTITY: dict[str, tuple[str, ...]] = {
    "near": ("id", "other"),
    "near-late-lefts": ("id",),
    "near-late-rights": ("id",),
    "sites": ("site", "start", "end"),
    "sites-late": ("id",),
}


class Visit(Record):
    """What is published to both topics. Values are multiples of 1/8."""

    id: str
    unit: str
    site: str
    ts: int
    x: float


class Near(Record):
    """A left one, and a right one near it, if there is one."""

    id: str
    other: str | None
    unit: str
    ts: int
    x: float
    other_x: float | None


class Site(Record):
    """A site's right ones of one window, of whatever unit."""

    site: str
    start: int
    end: int
    n: int
    sum: float


def topic(name: str, short: str) -> str:
    """A topic's name in a topology of that name: that of late rows has the source's in it."""
    before, late, source = short.partition("-late-")
    return f"{name}-{before}{late}{name}-{source}" if source else f"{name}-{short}"


def add(app: App, name: str) -> None:
    """Adds them to the topology."""
    lefts, rights = (app.topic(topic(name, short), Visit, key="unit", time="ts", id="id") for short in SOURCES)
    grace, within = f"{GRACE_MS}ms", (f"{LOW_MS}ms", f"{HIGH_MS}ms")
    near = lefts.join(rights, within=within, how="left", grace=grace, idle=None)
    near.select("id", "unit", "ts", "x", other="id_right", other_x="x_right").to(topic(name, "near"), Near)
    by_site = rights.rekey("site", name="by-site")
    by_site.window(tumbling(f"{SITE_MS}ms"), grace=grace, idle=None).agg(
        topic(name, "sites"), Site, n=count(), sum=total("x")
    )
