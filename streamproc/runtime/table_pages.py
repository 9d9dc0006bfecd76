"""Pages of a worker's tables: ``/tables``, ``/tables/TABLE/KEY`` and ``/tables/TABLE?limit=&after=``, in JSON.

They tell the rows of this worker's own tasks as they are between events: never what an event in work has written. They
may be ahead of what Kafka has by one flush. Of a row that another worker has they say where it is, and with ``any=1``
read it from the changelog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from streamproc.define.agent import Agent
from streamproc.define.app import App
from streamproc.define.table import Table
from streamproc.errors import BrokerError, StreamprocError
from streamproc.process import table_view
from streamproc.process.table_view import Seen
from streamproc.process.tables import TableState
from streamproc.runtime.table_reader import Found, home
from streamproc.state.table_rows import WrongKey, key_of, plain

_MOST_ROWS = 1000  # of a page
_USUAL_ROWS = 100
_MOST_BYTES = 1 << 20  # of values in a page, from which on it ends: it is made while no event can be in work


class LiveTables(NamedTuple):
    """The tables of one task of this worker."""

    stage: str
    partition: int
    tables: TableState | None  # None: they are being read back
    positions: Mapping[str, int]  # by source topic: the first offset that they have not seen


#: The tasks that have tables, now.
Tasks = Callable[[], Sequence[LiveTables]]
#: Reads a row from the changelogs.
Find = Callable[[Table[Any], Any, str | None], Awaitable[Sequence[Found]]]


class Refused(Exception):
    """An answer that is no row."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.body = status, {"error": error, **more}


class TablePages:
    """Answers from the tasks of one worker.

    Args:
        find: for ``any=1``; None: that is not there.
    """

    def __init__(self, app: App, tasks: Tasks, find: Find | None = None) -> None:
        self._app, self._tasks, self._find = app, tasks, find
        self._one = asyncio.Lock()  # reading of changelogs at a time

    def routes(self) -> list[web.RouteDef]:
        """For an HTTP server. Keys may hold any characters, slashes too."""
        return [
            web.get("/tables", self._answering(self._list)),
            web.get("/tables/{table}", self._answering(self._page)),
            web.get("/tables/{table}/{key:.*}", self._answering(self._row)),
        ]

    def _answering(
        self, page: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return _json(200, await page(request))
            except Refused as refused:
                return _json(refused.status, refused.body)
            except WrongKey as error:
                return _json(400, {"error": str(error)})
            except BrokerError as error:
                return _json(503, {"error": str(error)})
            except StreamprocError as error:
                return _json(500, {"error": str(error)})

        return answer

    async def _list(self, _: web.Request) -> Any:
        return {"app": self._app.name, "tables": [self._described(table) for table in self._app.tables.values()]}

    def _described(self, table: Table[Any]) -> dict[str, Any]:
        tasks = []
        for task in self._tasks():
            rows = None if task.tables is None else table_view.rows_of(task.tables, table)
            if rows is not None:
                tasks.append({"stage": task.stage, "partition": task.partition, "rows": len(rows)})
        value = "any object" if table.volatile else table.value.name
        said = {"table": table.name, "key": table.key.name, "value": value, "ttl": table.ttl}
        return said | {"volatile": table.volatile, "tasks": tasks}

    async def _row(self, request: web.Request) -> Any:
        table, stage = self._table(request), self._stage(request)
        key = key_of(table, request.match_info["key"])
        rows = []
        for task in self._ready(stage):
            held = table_view.rows_of(task.tables, table) if task.tables is not None else None
            seen = None if held is None else table_view.row(held, key)
            if seen is not None:
                rows.append(_shown(seen, task))
        if not rows and request.query.get("any") == "1":
            rows = await self._anywhere(table, key, stage)
        if not rows:
            raise self._nowhere(table, key, stage)
        return {"table": table.name, "rows": rows}

    async def _anywhere(self, table: Table[Any], key: Any, stage: str | None) -> list[dict[str, Any]]:
        if self._find is None:
            raise Refused(400, "this server does not read changelogs: ask without any=1")
        async with self._one:
            return [_kept(found) for found in await self._find(table, key, stage)]

    def _nowhere(self, table: Table[Any], key: Any, stage: str | None) -> Refused:
        """404 where this worker would have the row; 421 where another one may have it."""
        here: dict[str, list[int]] = {}
        for task in self._tasks():
            here.setdefault(task.stage, []).append(task.partition)
        for name, definition in self._app.agents.items():
            if not isinstance(definition, Agent) or stage not in (None, name):
                continue
            own, mine = home(table, key, self._app, name), here.get(name, [])
            if len(mine) < definition.source.partitions and own not in mine:
                which = "other partitions" if own is None else f"partition {own}"
                said = f"this worker has no such row: it does not have {which} of {definition.source.name}"
                at = {"stage": name, "topic": definition.source.name, "partition": own, "here": sorted(mine)}
                return Refused(421, f"{said}; any=1 reads the changelog", **at)
        return Refused(404, f"table {table.name!r} has no row with the key {plain(key)!r}")

    async def _page(self, request: web.Request) -> Any:
        table, stage = self._table(request), self._stage(request)
        if table.store == "disk":
            raise Refused(
                404, f"table {table.name!r} is on disk: a worker shows single rows of it by key, but no pages"
            )
        limit = _number(request, "limit", _USUAL_ROWS, 1, _MOST_ROWS)
        begin = _place(request.query.get("after"))
        tasks = sorted(self._ready(stage), key=lambda task: (task.stage, task.partition))
        rows: list[dict[str, Any]] = []
        last, size, is_more = None, 0, False
        for task in tasks:
            at = task.stage, task.partition
            held = table_view.rows_of(task.tables, table) if task.tables is not None else None
            if held is None or at < begin[:2]:
                continue
            after = begin[2] if at == begin[:2] else -1
            for seen in table_view.page(held, after, limit + 1 - len(rows)):
                is_more = len(rows) == limit or size > _MOST_BYTES
                if is_more:
                    break
                rows.append(_shown(seen, task))
                size += len(seen.packed)
                last = f"{task.stage}:{task.partition}:{seen.number}"
            if is_more:
                break
        here = [{"stage": task.stage, "partition": task.partition} for task in tasks]
        return {"table": table.name, "rows": rows, "after": last if is_more else None, "tasks": here}

    def _ready(self, stage: str | None) -> list[LiveTables]:
        tasks = [task for task in self._tasks() if stage in (None, task.stage)]
        for task in tasks:
            if task.tables is None:
                raise Refused(503, f"the state of {task.stage}[{task.partition}] is being read back")
        return tasks

    def _table(self, request: web.Request) -> Table[Any]:
        name = request.match_info["table"]
        table = self._app.tables.get(name)
        if table is None:
            raise Refused(404, f"app {self._app.name!r} has no table {name!r}", tables=sorted(self._app.tables))
        if table.volatile:
            raise Refused(404, f"table {name!r} is volatile: it may hold any objects, which cannot be shown")
        return table

    def _stage(self, request: web.Request) -> str | None:
        stage = request.query.get("stage")
        if stage is not None and not isinstance(self._app.agents.get(stage), Agent):
            agents = [name for name, each in self._app.agents.items() if isinstance(each, Agent)]
            raise Refused(404, f"app {self._app.name!r} has no agent {stage!r}", agents=agents)
        return stage


def _shown(seen: Seen, task: LiveTables) -> dict[str, Any]:
    return {
        "key": plain(seen.key),
        "value": plain(msgspec.msgpack.decode(seen.packed)),
        "written": seen.written,
        "stage": task.stage,
        "partition": task.partition,
        "positions": dict(task.positions),
        "from": "worker",
    }


def _kept(found: Found) -> dict[str, Any]:
    row, at = found.row, {"stage": found.stage, "partition": found.partition}
    said = {"key": row.key, "value": row.value, "written": row.written, **at}
    return said | {"positions": dict(found.positions), "from": "changelog"}


def _number(request: web.Request, name: str, usual: int, least: int, most: int) -> int:
    text = request.query.get(name, str(usual))
    if not text.isascii() or not text.isdecimal() or not least <= int(text) <= most:
        raise Refused(400, f"{name}: expected {least} to {most}; got {text!r}")
    return int(text)


def _place(text: str | None) -> tuple[str, int, int]:
    """Stage, partition and number of the last row that was told."""
    if text is None:
        return "", -1, -1
    try:
        stage, partition, number = text.rsplit(":", 2)
        return stage, int(partition), int(number)
    except ValueError:
        raise Refused(400, f"after: expected what the page before said; got {text!r}") from None


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body) + b"\n", content_type="application/json")
