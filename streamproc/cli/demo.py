"""``streamproc demo``: the main job."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
import uuid
from typing import Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.running import StartProgress
from streamproc.cli.serving import serve
from streamproc.cli.topology import load_app
from streamproc.errors import StreamprocError

app = noun()
TOPOLOGY = "topologies.shuttle:app"
RATE = 3000.0


@app.command()
def demo(
    rate: Annotated[
        float, typer.Option(help="Events per second over all publishers; 0 for as fast as it goes.")
    ] = RATE,
    readings: Annotated[int, typer.Option(help="How many readings; 0 for all 49,097.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines in place of a moving table.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Show what broker, gateway and worker print.")] = False,
) -> None:
    """Send real sensor readings round the whole system, and account for every one.

    Starts broker, gateway and worker; four publishers send NASA's Shuttle readings over WebSocket; windows and an
    incremental model run over them; eight subscriptions receive the results. Exits with 0 only if nothing was lost,
    doubled or wrong.
    """
    load_app(TOPOLOGY)
    from streamproc.cli.dev import show_line
    from streamproc.cli.system import System

    progress = StartProgress()
    system = System(TOPOLOGY, on_progress=progress, on_line=show_line if logs else lambda name, line: None)
    wrong: list[str] = []

    async def work(told: asyncio.Event) -> None:
        job = asyncio.create_task(_run(system, progress, rate, readings, plain or not sys.stdout.isatty(), wrong))
        stop = asyncio.create_task(told.wait())
        await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
        stopped = stop.done() and not job.done()
        job.cancel() if stopped else stop.cancel()
        try:
            await asyncio.gather(job)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            await system.stop()

    serve(work)
    if wrong:
        raise StreamprocError("the books do not balance\n" + "\n".join(f"  {line}" for line in wrong))


async def _run(
    system: object, progress: StartProgress, rate: float, readings: int, plain: bool, wrong: list[str]
) -> None:
    from rich.console import Console

    from streamproc.cli.system import System
    from streamproc.demo.datasets import open_dataset
    from streamproc.demo.run import Demo
    from streamproc.demo.view import LiveView, PlainView, summary

    assert isinstance(system, System)
    console = Console()
    began = time.monotonic()
    with progress:
        await system.start()
    console.print(f"broker, gateway and worker are up after {time.monotonic() - began:.1f} s; gateway at {system.url}")
    events = open_dataset("shuttle", uuid.uuid4().hex[:8])
    demo = Demo(system.url, list(itertools.islice(events, readings or None)), rate)
    view = PlainView(demo) if plain else LiveView(demo, console)
    with view:
        running = asyncio.create_task(demo.run(lambda what: setattr(view, "waiting", what)))
        down = asyncio.create_task(system.wait())
        while not running.done() and not down.done():
            view.show()
            await asyncio.wait([running, down], timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        for task in (down, running):
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.result()
    table, found = summary(demo)
    wrong += found
    console.print(table)
