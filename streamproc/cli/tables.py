"""``streamproc tables``: the rows of tables, read from the changelogs that keep them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.cli.running import run
from streamproc.cli.topology import Topology, load_app
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.define.app import App
    from streamproc.runtime.table_reader import Changelog, Found, TableReader
    from streamproc.state.table_rows import TableRow

app = noun("List tables, and read their rows.")

_SHORT = 100  # characters of a value in a table
Stage = Annotated[str | None, typer.Option(help="Only the rows of this agent.")]
TableName = Annotated[str, typer.Argument(help="Its name in the topology.", metavar="TABLE")]


@app.command("list")
@takes_kafka
def list_(topology: Topology, kafka: KafkaSettings, output: Output = Format.table) -> None:
    """List tables with their types, and what each stage keeps of them. Reads all of the state."""
    definition = load_app(topology)
    with _progress():
        rows = run(_listed(definition, _reader(definition, kafka)))
    columns = ("table", "key", "value", "ttl", "stage", "rows", "bytes")
    show.rows(rows, output, columns)


async def _listed(definition: App, reader: TableReader) -> list[dict[str, Any]]:
    from streamproc.state.table_rows import tables_in

    logs = await reader.changelogs(tables_only=False)
    counted: dict[tuple[str, str], list[int]] = {}
    types: dict[str, tuple[str, str]] = {}
    others = {log: [0, 0] for log in logs if log.kind != "tables"}
    async for log, _, state in reader.states(logs):
        if log in others:
            others[log][0] += len(state.keys)
            others[log][1] += int(state.keys.sizes.sum() + state.values.sizes.sum())
            continue
        for name, table in tables_in(state.head, state.keys, state.values).items():
            counts = counted.setdefault((name, log.stage), [0, 0])
            counts[0] += len(table)
            counts[1] += table.size
            if table.meaning is not None:
                types[name] = table.meaning.key, table.meaning.value
    rows = [_kept(definition, name, types.get(name), stage, *counts) for (name, stage), counts in counted.items()]
    listed = {row["table"] for row in rows}
    rows += [_kept(definition, name, None, "-", 0, 0) for name in definition.tables if name not in listed]
    rows.sort(key=lambda row: (row["table"], row["stage"]))
    for log, (n, size) in others.items():
        nothing = dict.fromkeys(("table", "key", "value", "ttl"), "-")
        rows.append(
            nothing | {"kind": log.kind, "table": f"({log.kind})", "stage": log.stage, "rows": n, "bytes": size}
        )
    return rows


def _kept(
    definition: App, name: str, types: tuple[str, str] | None, stage: str, rows: int, size: int
) -> dict[str, Any]:
    from streamproc.define.duration import written

    table = definition.tables.get(name)
    if table is None:
        said: dict[str, Any] = {"kind": "undeclared", "key": types[0] if types else "?", "value": "?", "ttl": "-"}
        if types:
            said["value"] = f"{types[1]} (declared no more)"
    else:
        value = "any object, in memory only" if table.volatile else table.value.name
        ttl = "-" if table.ttl is None else written(table.ttl)
        said = {"kind": "volatile" if table.volatile else "table", "key": table.key.name, "value": value, "ttl": ttl}
    return {"table": name, **said, "stage": stage, "rows": rows, "bytes": size}


@app.command()
@takes_kafka
def get(
    topology: Topology,
    table: TableName,
    key: Annotated[
        str, typer.Argument(help="As text; of tuples a JSON array of the parts, of bytes base64.", metavar="KEY")
    ],
    kafka: KafkaSettings,
    stage: Stage = None,
    everywhere: Annotated[
        bool, typer.Option("--all", help="Look into all partitions, not only until the key's own has it.")
    ] = False,
    output: Output = Format.table,
) -> None:
    """Show the row of a key: in each stage that has one."""
    from streamproc.runtime.table_reader import Missing, table_of
    from streamproc.state.table_rows import key_of

    definition = load_app(topology)
    declared = table_of(definition, table)
    wanted = key_of(declared, key)
    found = run(_reader(definition, kafka).find(declared, wanted, stage, everywhere=everywhere))
    if not found:
        where = f"stage {stage!r}" if stage else "any stage"
        raise Missing(f"table {table!r} has no row with the key {key!r} in {where}")
    rows = [_facts(row, declared.key.name, declared.value.name) for row in found]
    if output is Format.json:
        show.rows(rows, output, ())
        return
    for at, row in enumerate(rows):
        if at:
            typer.echo()
        upto = ", ".join(f"offset {offset} of {topic}" for topic, offset in sorted(row["positions"].items()))
        written = {} if row["written"] is None else {"written": f"{_time(row['written'])}, in event time"}
        facts = {
            "key": f"{_json(row['key'])}  ({row['key type']})",
            "value": f"{_json(row['value'])}  ({row['value type']})",
            **written,
            "kept": _time(row["kept"]),
            "stage": f"{row['stage']}[{row['partition']}]",
            "state": f"all before {upto}",
        }
        for name, value in facts.items():
            typer.echo(f"{name:<9}{value}")


def _facts(found: Found, key: str, value: str) -> dict[str, Any]:
    row = found.row
    return {
        "key": row.key,
        "key type": key,
        "value": row.value,
        "value type": value,
        "written": row.written,
        "kept": found.kept,
        "stage": found.stage,
        "partition": found.partition,
        "positions": dict(found.positions),
    }


@app.command()
@takes_kafka
def scan(
    topology: Topology,
    table: TableName,
    kafka: KafkaSettings,
    stage: Stage = None,
    prefix: Annotated[str | None, typer.Option(help="Only keys that begin so.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only rows such as 'value > 3', 'value.name == x', 'key.1 != 7'; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0 for all.")] = 50,
    output: Output = Format.table,
) -> None:
    """Print rows, one a line: stage by stage, partition by partition, in the order in which keys came."""
    from streamproc.runtime.table_reader import table_of
    from streamproc.state.row_filter import wanted

    definition = load_app(topology)
    declared = table_of(definition, table)
    takes = wanted(prefix, where or [])
    with _progress():
        more = run(_scan(_reader(definition, kafka), declared.name, stage, takes, limit, output))
    if more and output is Format.table:
        typer.echo(f"the first {limit}; --limit for more", err=True)


async def _scan(reader: TableReader, table: str, stage: str | None, takes: Any, limit: int, output: Format) -> bool:
    """Prints each row when it is found. Whether there are more than ``limit``."""
    from streamproc.state.table_rows import tables_in

    logs = await reader.changelogs(stage)
    printed = 0
    states = reader.states(logs)
    try:
        async for log, partition, state in states:
            found = tables_in(state.head, state.keys, state.values).get(table)
            for row in found.in_order() if found is not None else ():
                if not takes(row):
                    continue
                if limit and printed == limit:
                    return True
                _print(row, log, partition, output)
                printed += 1
    finally:
        await states.aclose()  # type: ignore[attr-defined]
    return False


def _print(row: TableRow, log: Changelog, partition: int, output: Format) -> None:
    if output is Format.json:  # a document a line: there may be any number of them
        facts = {"key": row.key, "value": row.value, "written": row.written}
        typer.echo(_json(facts | {"stage": log.stage, "partition": partition}))
        return
    value = _json(row.value)
    said = value if len(value) <= _SHORT else value[: _SHORT - 1] + "…"
    when = "" if row.written is None else f"  {_time(row.written)}"
    typer.echo(f"{log.stage}[{partition}]  {_json(row.key)}  {said}{when}")


def _reader(definition: App, kafka: KafkaSettings) -> TableReader:
    from streamproc.runtime.table_reader import TableReader

    return TableReader(definition, kafka)


@contextmanager
def _progress() -> Iterator[None]:
    """Shows on stderr what readers of changelogs say of partitions that take long."""
    logger, handler = logging.getLogger("streamproc.worker"), _Echo(logging.INFO)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Echo(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def _json(value: Any) -> str:
    """What cannot be printed is escaped: keys come from clients, and must not move this terminal's cursor."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
