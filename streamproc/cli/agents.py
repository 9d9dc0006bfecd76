"""``streamproc agents``: a topology's agents, how far behind they are, and how they begin anew."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.cli.running import run
from streamproc.cli.topology import Topology, load_app
from streamproc.errors import SettingsError, TopicError
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.runtime.resetting import Plan, Resetter, Target

app = noun("List a topology's agents and how far behind they are; reset them.")


@app.command("list")
@takes_kafka
def list_(topology: Topology, kafka: KafkaSettings, output: Output = Format.table) -> None:
    """List agents and aggregations: what they read, where results go, and how many records they have not finished."""
    from streamproc.define.aggregation import Aggregation
    from streamproc.log.kafka_admin import KafkaAdmin

    definition = load_app(topology)

    async def lags() -> Mapping[str, int]:
        admin = KafkaAdmin(kafka)
        try:
            return await admin.lag(
                definition.name, sorted({source.name for a in definition.agents.values() for source in a.sources})
            )
        except TopicError as error:
            raise TopicError(f"{error}: a worker or gateway makes its topology's topics when it starts") from None
        finally:
            await admin.close()

    behind = asyncio.run(lags())
    rows: list[dict[str, Any]] = []
    for agent in definition.agents.values():
        sources = [source.name for source in agent.sources]
        rows.append(
            {
                "agent": agent.name,
                "kind": "window" if isinstance(agent, Aggregation) else "agent",
                "reads": ", ".join(sources),
                "writes": ", ".join(sink.name for sink in agent.sinks) or "-",
                "partitions": agent.sources[0].partitions,
                "lag": sum(behind.get(name, 0) for name in sources),
            }
        )
    show.rows(rows, output, ("agent", "kind", "reads", "writes", "partitions", "lag"))


@app.command()
@takes_kafka
def reset(
    topology: Topology,
    kafka: KafkaSettings,
    stage: Annotated[str | None, typer.Option(help="Only this agent or aggregation.")] = None,
    to: Annotated[
        str,
        typer.Option(
            help="Where they begin: beginning, end, an offset of every partition, how long ago (1h), or a time "
            "(2026-01-31T12:00Z)."
        ),
    ] = "beginning",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the state of stages, and let them begin anew. All workers must have been stopped. Shows what it would do,
    and asks.
    """
    from streamproc.runtime.resetting import Resetter

    definition = load_app(topology)
    target = _target(to)
    resetter = Resetter(definition, kafka)
    plan = run(resetter.plan(stage, target))
    _show(plan)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("state would be deleted for good: say --yes where nobody can be asked")
        typer.confirm("Do it?", abort=True)
    run(_finished(resetter, plan))
    typer.echo(f"{', '.join(plan.stages)}: reset; the next worker begins there, with no state")


async def _finished(resetter: Resetter, plan: Plan) -> None:
    """A Ctrl-C does not leave it half done."""
    doing = asyncio.ensure_future(resetter.run(plan))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def _target(text: str) -> Target:
    from streamproc.cli.instants import instant
    from streamproc.runtime.resetting import Target

    if text in ("beginning", "end"):
        return Target(**{text: True})
    if text.isdecimal():
        return Target(offset=int(text))
    return Target(time=instant(text, "--to", "beginning, end, an offset, "))


def _show(plan: Plan) -> None:
    rows = [
        {
            "topic": move.topic,
            "partition": move.partition,
            "from": "-" if move.now is None else str(move.now),
            "to": move.to,
            "end": move.end,
            "what": _what(move.to - (move.begin if move.now is None else move.now)),
        }
        for move in plan.moves
    ]
    typer.echo(f"group {plan.group}, stages {', '.join(plan.stages)}:")
    show.rows(rows, Format.table, ("topic", "partition", "from", "to", "end", "what"))
    for info in plan.changelogs:
        records = sum(info.end) - sum(info.begin)
        typer.echo(f"delete and make anew: {info.name}, {records:,} records in {info.partitions} partitions")
    if not plan.changelogs:
        typer.echo("no state is kept of them")
    for name in plan.again:
        typer.echo(f"{name} keeps no state: it gets these events again, though it is not reset", err=True)
    if plan.repeats:
        typer.echo(f"results come again in {', '.join(plan.repeats)}: whoever reads there gets them twice", err=True)


def _what(by: int) -> str:
    if not by:
        return "-"
    return f"{-by:,} again" if by < 0 else f"{by:,} skipped"
