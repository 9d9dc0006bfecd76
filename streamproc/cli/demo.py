"""``streamproc demo``: the main job."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.running import StartProgress
from streamproc.cli.serving import serve
from streamproc.cli.topology import load_app
from streamproc.errors import StreamprocError

if TYPE_CHECKING:
    from streamproc.cli.system import System
    from streamproc.define.windows import AlignedWindow

app = noun()
TOPOLOGY = "topologies.shuttle:app"
RATE = 2500.0
_FRAME = 0.2  # seconds between two looks at the figures


@app.command()
def demo(
    rate: Annotated[
        float, typer.Option(min=0, help="Events per second over all publishers; 0 for as fast as it goes.")
    ] = RATE,
    readings: Annotated[int, typer.Option(min=0, help="How many readings; 0 for all 49,097.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines in place of a moving table.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Show what broker, gateway and worker print.")] = False,
) -> None:
    """Send real sensor readings round the whole system, and account for every one.

    Starts broker, gateway and worker; four publishers send NASA's Shuttle readings over WebSocket; windows and an
    incremental model run over them; eight subscriptions receive the results. Exits with 0 only if nothing was lost,
    doubled or wrong.
    """
    definition = load_app(TOPOLOGY)
    from streamproc.cli.dev import show_line
    from streamproc.cli.system import System
    from streamproc.demo.account import window_of

    progress = StartProgress()
    system = System(
        TOPOLOGY, on_progress=progress, on_line=partial(show_line, progress) if logs else lambda name, line: None
    )
    wrong: list[str] = []

    async def work(told: asyncio.Event) -> None:
        window = window_of(definition, "bars")
        job = asyncio.create_task(_run(system, progress, window, rate, readings, plain or not sys.stdout.isatty()))
        stop = asyncio.create_task(told.wait())
        try:
            await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
            if not job.done():
                typer.echo("stopping …", err=True)
                job.cancel()
                await asyncio.gather(job, return_exceptions=True)
                raise KeyboardInterrupt
            wrong.extend(await job)
        finally:
            stop.cancel()
            await system.stop()

    serve(work)
    if wrong:
        raise StreamprocError("\n  ".join(["the books do not balance", *wrong]))


async def _run(
    system: System, progress: StartProgress, window: AlignedWindow, rate: float, readings: int, plain: bool
) -> list[str]:
    """One run; what is wrong with it."""
    from rich.console import Console

    from streamproc.demo.datasets import open_dataset
    from streamproc.demo.run import Demo
    from streamproc.demo.view import LiveView, PlainView, summary

    console = Console()
    began = time.monotonic()
    with progress:
        await system.start()
    console.print(f"broker, gateway and worker are up after {time.monotonic() - began:.1f} s; gateway at {system.url}")
    events = open_dataset("shuttle", uuid.uuid4().hex[:8])
    demo = Demo(system.url, window, list(itertools.islice(events, readings or None)), rate)
    running = asyncio.create_task(demo.run())
    down = asyncio.create_task(system.wait())
    try:
        with PlainView(demo) if plain else LiveView(demo, console) as view:
            while not running.done() and not down.done():
                view.show()
                await asyncio.wait([running, down], timeout=_FRAME, return_when=asyncio.FIRST_COMPLETED)
        if down.done():
            await down
        await running
    finally:
        for task in (down, running):
            task.cancel()
        await asyncio.gather(down, running, return_exceptions=True)
    table, wrong = summary(demo)
    console.print(table)
    return wrong
