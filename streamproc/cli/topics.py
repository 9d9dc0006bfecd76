"""``streamproc topics``: list, create, describe, delete."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.errors import SettingsError
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.log.kafka_admin import KafkaAdmin
    from streamproc.log.ports import TopicInfo

app = noun("List, create, describe and delete topics.")

Names = Annotated[list[str], typer.Argument(help="Names of topics.", metavar="NAME")]


def _with_admin(kafka: KafkaSettings, use: Callable[[KafkaAdmin], Awaitable[Any]]) -> Any:
    from streamproc.log.kafka_admin import KafkaAdmin

    async def run() -> Any:
        admin = KafkaAdmin(kafka)
        try:
            return await use(admin)
        finally:
            await admin.close()

    return asyncio.run(run())


@app.command("list")
@takes_kafka
def list_(kafka: KafkaSettings, output: Output = Format.table) -> None:
    """List topics with their partitions and records."""

    async def infos(admin: KafkaAdmin) -> list[TopicInfo]:
        return await admin.describe(await admin.list())

    show.rows(
        [_summary(info) for info in _with_admin(kafka, infos)],
        output,
        ("topic", "partitions", "replication", "records", "config"),
    )


@app.command()
@takes_kafka
def create(
    names: Names,
    kafka: KafkaSettings,
    partitions: Annotated[int, typer.Option("--partitions", "-p", min=1)] = 4,
    replication: Annotated[int, typer.Option(min=1)] = 1,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE", help="A topic's setting; repeatable.")
    ] = None,
) -> None:
    """Create topics. One that is there as asked is fine; with another number of partitions it is an error."""
    from streamproc.log.ports import TopicSpec

    settings = _pairs(config or [])

    async def ensure(admin: KafkaAdmin) -> set[str]:
        before = set(await admin.list())
        await admin.ensure([TopicSpec(name, partitions, replication, settings) for name in names])
        return before

    before = _with_admin(kafka, ensure)
    for name in names:
        typer.echo(f"{name}: {'is there already' if name in before else 'created'}, partitions {partitions}")


@app.command()
@takes_kafka
def describe(names: Names, kafka: KafkaSettings, output: Output = Format.table) -> None:
    """Show the partitions and offsets of topics."""
    infos: list[TopicInfo] = _with_admin(kafka, lambda admin: admin.describe(names))
    if output is Format.json:
        show.rows([_summary(info) | {"begin": info.begin, "end": info.end} for info in infos], output, ())
        return
    for at, info in enumerate(infos):
        config = "".join(f", {key}={value}" for key, value in sorted(info.config.items()))
        head = f"{info.name}: partitions {info.partitions}, replication {info.replication}{config}"
        typer.echo(f"\n{head}" if at else head)
        ranges = enumerate(zip(info.begin, info.end, strict=True))
        show.rows(
            [{"partition": p, "begin": begin, "end": end, "records": end - begin} for p, (begin, end) in ranges],
            output,
            ("partition", "begin", "end", "records"),
        )


@app.command()
@takes_kafka
def delete(
    names: Names,
    kafka: KafkaSettings,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete topics and all that is in them."""
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("deleting is for good: say --yes where nobody can be asked")
        typer.confirm(f"Delete {', '.join(names)} and all records in them?", abort=True)
    _with_admin(kafka, lambda admin: admin.delete(names))
    for name in names:
        typer.echo(f"{name}: deleted")


def _summary(info: TopicInfo) -> dict[str, Any]:
    return {
        "topic": info.name,
        "partitions": info.partitions,
        "replication": info.replication,
        "records": sum(info.end) - sum(info.begin),
        "config": dict(info.config),
    }


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise SettingsError(f"--config: expected KEY=VALUE; got {text!r}")
        pairs[key] = value
    return pairs
