"""A worker's pages of its tables, over HTTP, from tasks that run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from streamproc.define.app import App
from streamproc.define.table import tables_of_task
from streamproc.errors import BrokerUnavailable
from streamproc.log.partition import partition_of
from streamproc.process.tables import TableState
from streamproc.runtime import table_pages
from streamproc.runtime.table_pages import LiveTables, TablePages
from streamproc.runtime.table_reader import Found
from streamproc.state.table_rows import TableRow
from tests.cli.table_topology import Tick

PAIR = quote('["x", 2]')


class Site:
    """Tasks of two agents, and their pages."""

    def __init__(self) -> None:
        self.app = App("site", partitions=4)
        ticks = self.app.topic("ticks", Tick, key="unit", time="ts")
        self.counts = self.app.table("counts", default=int)
        self.lists = self.app.table("lists", key=tuple[str, int], default=list, ttl="1h")
        self.app.table("models", default=dict, volatile=True)

        @self.app.agent(ticks)
        async def one(stream: Any) -> None: ...

        @self.app.agent(ticks)
        async def two(stream: Any) -> None: ...

        self.tasks: list[LiveTables] = []
        self.found: Sequence[Found] | Exception = ()
        self.asked: list[Any] = []

    def task(self, stage: str, partition: int) -> TableState:
        state = TableState(self.app.tables)
        self.tasks.append(LiveTables(stage, partition, state, {"ticks": 7}))
        return state

    async def find(self, table: Any, key: Any, stage: str | None) -> Sequence[Found]:
        self.asked.append((table.name, key, stage))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def get(self, *paths: str, find: bool = True) -> list[tuple[int, Any]]:
        pages = TablePages(self.app, lambda: self.tasks, self.find if find else None)
        server = web.Application()
        server.add_routes(pages.routes())
        runner = web.AppRunner(server)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            answers = []
            async with aiohttp.ClientSession() as client:
                for path in paths:
                    async with client.get(f"http://127.0.0.1:{port}{path}") as answer:
                        answers.append((answer.status, await answer.json()))
            return answers
        finally:
            await runner.cleanup()


def write(state: TableState, *, commit: bool = True, **rows: Any) -> None:
    token = tables_of_task.set(state)
    try:
        for key, value in rows.items():
            state.rows(state._tables["counts"]).write(key, value)
    finally:
        tables_of_task.reset(token)
    if commit:
        state.commit()


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_row(site):
    write(site.task("one", 1), a=5)
    write(site.task("two", 1), a=6)
    ((status, body), (_, only)) = await site.get("/tables/counts/a", "/tables/counts/a?stage=two")
    row = {"key": "a", "value": 5, "written": None, "stage": "one", "partition": 1, "positions": {"ticks": 7}}
    row["from"] = "worker"
    assert (status, body) == (200, {"table": "counts", "rows": [row, row | {"value": 6, "stage": "two"}]})
    assert [row["value"] for row in only["rows"]] == [6]


async def test_an_event_in_work_is_not_seen(site):
    state = site.task("one", 0)
    write(state, a=1, b=1)
    write(state, commit=False, a=2, c=2)
    state.rows(site.counts).remove("b")
    paths = [f"/tables/counts/{key}?stage=one" for key in "abc"]
    for p in range(1, 4):
        site.task("one", p)
    a, b, c, (_, page) = await site.get(*paths, "/tables/counts?stage=one")
    assert [a[1]["rows"][0]["value"], b[1]["rows"][0]["value"], c[0]] == [1, 1, 404]
    assert [(row["key"], row["value"]) for row in page["rows"]] == [("a", 1), ("b", 1)]
    state.commit()
    a, b, c = await site.get(*paths)
    assert (a[1]["rows"][0]["value"], b[0], c[1]["rows"][0]["value"]) == (2, 404, 2)


async def test_keys_of_any_text(site):
    state = site.task("one", 0)
    for p in range(1, 4):
        site.task("one", p)
    texts = ["a/b", "ä €", "%2F", "a?b=1", ""]
    write(state, **dict.fromkeys(texts, 3))
    answers = await site.get(*(f"/tables/counts/{quote(text, safe='')}?stage=one" for text in texts))
    assert [(status, body.get("rows", [{}])[0].get("key")) for status, body in answers] == [(200, t) for t in texts]
    token = tables_of_task.set(state)
    state.advance(1000)
    site.lists["x", 2].append(b"\xff")
    state.check()
    state.commit()
    tables_of_task.reset(token)
    (status, body), (wrong, said) = await site.get(f"/tables/lists/{PAIR}?stage=one", "/tables/lists/x")
    assert (status, body["rows"][0]["key"], body["rows"][0]["value"]) == (200, ["x", 2], ["/w=="])
    assert body["rows"][0]["written"] == 1000
    assert (wrong, "expected a JSON array of its parts" in said["error"]) == (400, True)


async def test_a_row_of_another_worker(site):
    own = partition_of(b"a", 4)
    other = (own + 1) % 4
    site.task("one", other)
    site.task("two", other)
    ((status, body),) = await site.get("/tables/counts/a")
    assert status == 421
    assert (body["partition"], body["here"], body["topic"], body["stage"]) == (own, [other], "ticks", "one")
    assert f"it does not have partition {own} of ticks" in body["error"]
    site.found = [Found("one", own, TableRow("a", 9, 0, None), 1, {"ticks": 3})]
    ((status, body),) = await site.get("/tables/counts/a?any=1")
    assert (status, site.asked) == (200, [("counts", "a", None)])
    assert body["rows"][0] == {
        "key": "a",
        "value": 9,
        "written": None,
        "stage": "one",
        "partition": own,
        "positions": {"ticks": 3},
        "from": "changelog",
    }
    site.found = []
    assert (await site.get("/tables/counts/a?any=1"))[0][0] == 421
    site.found = BrokerUnavailable("no Kafka")
    assert (await site.get("/tables/counts/a?any=1"))[0] == (503, {"error": "no Kafka"})
    assert (await site.get("/tables/counts/a?any=1", find=False))[0][0] == 400
    site.task("one", own)
    site.task("two", own)
    assert (await site.get("/tables/counts/a"))[0][0] == 404
    ((status, body),) = await site.get(f"/tables/lists/{PAIR}")  # no topic's key: it may be anywhere
    assert (status, body["partition"]) == (421, None)


async def test_pages(site, monkeypatch):
    first, second = site.task("one", 0), site.task("one", 2)
    write(first, **{f"k{i}": i for i in range(25)})
    write(second, **{f"m{i}": i for i in range(5)})
    write(site.task("two", 0), z=1)
    first.rows(site.counts).remove("k3")
    first.commit()
    keys: list[str] = []
    after = ""
    for _ in range(20):
        ((status, body),) = await site.get(f"/tables/counts?limit=7{after}")
        assert status == 200
        keys += [row["key"] for row in body["rows"]]
        if body["after"] is None:
            break
        assert len(body["rows"]) == 7
        after = f"&after={body['after']}"
    assert keys == [f"k{i}" for i in range(25) if i != 3] + [f"m{i}" for i in range(5)] + ["z"]
    assert body["tasks"][0] == {"stage": "one", "partition": 0}
    ((_, body),) = await site.get("/tables/counts?limit=30")
    assert (len(body["rows"]), body["after"]) == (30, None)
    monkeypatch.setattr(table_pages, "_MOST_BYTES", 3)
    ((_, body),) = await site.get("/tables/counts?limit=30")
    assert (len(body["rows"]), body["after"]) == (4, "one:0:4")


async def test_what_is_not_there(site):
    site.tasks = [LiveTables("one", 0, None, {})]
    paths = [
        "/tables/nothing",
        "/tables/models",
        "/tables/counts/a",
        "/tables/counts?limit=0",
        "/tables/counts?after=x",
    ]
    answers = await site.get(*paths, "/tables/counts?stage=three", "/tables/counts?limit=1001")
    assert [status for status, _ in answers] == [404, 404, 503, 400, 400, 404, 400]
    assert answers[0][1] == {"error": "app 'site' has no table 'nothing'", "tables": ["counts", "lists", "models"]}
    assert "is being read back" in answers[2][1]["error"]


async def test_list(site):
    write(site.task("one", 1), a=1, b=2)
    ((status, body),) = await site.get("/tables")
    assert status == 200
    assert body["tables"][0] == {
        "table": "counts",
        "key": "str",
        "value": "int",
        "ttl": None,
        "volatile": False,
        "tasks": [{"stage": "one", "partition": 1, "rows": 2}],
    }
    assert [table["volatile"] for table in body["tables"]] == [False, False, True]
    await asyncio.sleep(0)
