"""An agent with tables on disk, one of them with a ttl, and one in memory. ``$STREAMPROC_TEST_NAME`` is the app's
name.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator

from streamproc import App, Record, Stream

NAME = "STREAMPROC_TEST_NAME"
TTL_MS, STEP_MS, KEYS = 20_000, 10, 10_000


class Hit(Record):
    id: int
    key: str
    at: int
    n: int  # 0: the key's total is to be forgotten


class Tally(Record):
    id: int
    key: str
    total: int
    recent: int
    of_kind: int


def build(name: str) -> App:
    """The topology, under a name."""
    app = App(name, partitions=2, guarantee="exactly_once")
    hits = app.topic(f"{name}-hits", Hit, key="key", time="at")
    tallies = app.topic(f"{name}-tallies", Tally, key="key")
    totals = app.table("totals", default=int, store="disk")
    recent = app.table("recent", default=list, value=list[int], ttl=f"{TTL_MS}ms", store="disk")
    kinds = app.table("kinds", default=int, key=int)

    @app.agent(hits, sink=tallies, name="tally")
    async def tally(stream: Stream) -> AsyncIterator[Tally]:
        async for hit in stream:
            totals[hit.key] += hit.n
            recent[hit.key].append(hit.id)
            kind = int(hit.key[1:])
            kinds[kind] += 1
            yield Tally(hit.id, hit.key, totals[hit.key], len(recent[hit.key]), kinds[kind])
            if not hit.n:
                del totals[hit.key]

    return app


def hits(count: int, start: int = 1_700_000_000_000) -> list[Hit]:
    """In time's order, some keys often."""
    chance = random.Random(7)
    keys = [f"k{int(KEYS * chance.random() ** 2)}" for _ in range(count)]
    return [Hit(i, key, start + i * STEP_MS, chance.choice((0, 1, 2, 500))) for i, key in enumerate(keys)]


class Oracle:
    """What must come of hits, one by one."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.recent: dict[str, tuple[list[int], int]] = {}  # and when it was written
        self.kinds: dict[int, int] = {}

    def tallies(self, hits: Iterable[Hit]) -> Iterator[Tally]:
        for hit in hits:
            total = self.totals[hit.key] = self.totals.get(hit.key, 0) + hit.n
            ids, written = self.recent.get(hit.key, ([], hit.at))
            ids = ([] if written <= hit.at - TTL_MS else ids) + [hit.id]
            self.recent[hit.key] = ids, hit.at
            kind = int(hit.key[1:])
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            yield Tally(hit.id, hit.key, total, len(ids), self.kinds[kind])
            if not hit.n:
                del self.totals[hit.key]


app = build(os.environ.get(NAME, "disk"))
