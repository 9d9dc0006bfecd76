"""``streamproc dev``: a whole system in one terminal."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import noun, takes_kafka
from streamproc.cli.running import StartProgress
from streamproc.cli.serving import RegistryOption, serve
from streamproc.cli.topology import Topology, load_app
from streamproc.settings import PREFIX, KafkaSettings

if TYPE_CHECKING:
    from streamproc.cli.system import System

app = noun()
_COLOURS = {"gateway": typer.colors.CYAN, "worker": typer.colors.GREEN}


@app.command()
@takes_kafka
def dev(
    ctx: typer.Context,
    topology: Topology,
    kafka: KafkaSettings,
    registry: RegistryOption = None,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 for a free one.")] = 8000,
) -> None:
    """Run a whole system until Ctrl-C: gateway, worker, and a broker unless --bootstrap names one.

    The broker that it starts keeps nothing: its data goes when the system stops.
    """
    definition = load_app(topology)
    given = ctx.params.get("bootstrap") or os.environ.get(f"{PREFIX}BOOTSTRAP")
    from streamproc.cli.system import System

    progress = StartProgress()
    on_line = partial(show_line, progress)
    system = System(
        topology,
        kafka=kafka if given else None,
        port=port,
        registry=registry,
        on_line=on_line,
        on_progress=progress,
    )

    async def work(told: asyncio.Event) -> None:
        stopped = asyncio.create_task(told.wait())
        with progress:
            starting = asyncio.create_task(system.start())
            await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        try:
            if stopped.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            await starting
            _tell(system, list(definition.publishable), list(definition.channels))
            waiting = asyncio.create_task(system.wait())
            await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                await waiting
            waiting.cancel()
            typer.echo("stopping …", err=True)
        finally:
            stopped.cancel()
            await system.stop()

    serve(work)


def show_line(progress: StartProgress, name: str, line: str) -> None:
    """Prints what a process of the system said, under its name."""
    progress.say(f"{typer.style(f'{name:>8}', fg=_COLOURS.get(name))} │ {line}")


def _tell(system: System, topics: list[str], channels: list[str]) -> None:
    assert system.kafka is not None
    typer.echo(f"\nready: {system.url} takes {', '.join(topics)} and gives {', '.join(channels)}")
    typer.echo(f"  broker   {system.kafka.bootstrap}")
    for child in system.children:
        typer.echo(f"  {child.name:8} {child.admin_url}/metrics")
    if channels:
        typer.echo(f"  try      streamproc tail {channels[0]} --url {system.url}")
    typer.echo("Ctrl-C stops everything.\n")
