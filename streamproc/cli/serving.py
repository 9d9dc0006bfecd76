"""What the serving commands (worker, gateway) share: options, logs, signals, the parent's death."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

#: Set by whoever starts a process that must not outlive it.
PARENT = "STREAMPROC_PARENT"
REGISTRY = "STREAMPROC_REGISTRY"
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        envvar=REGISTRY,
        help="Schema registry: http(s)://…, or file:PATH; file:schemas/registry.json by default.",
        show_default=False,
    ),
]
AdminPort = Annotated[int, typer.Option(help="Port for /metrics, /healthz and /readyz; 0 for a free one.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]


def registry_url(given: str | None) -> str:
    """The registry to use: what was given, else a file beside the nearest schemas."""
    if given:
        return given
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "schemas").is_dir():
            return f"file:{folder / 'schemas' / 'registry.json'}"
    return f"file:{Path.cwd() / 'schemas' / 'registry.json'}"


def log_to_stderr(verbose: bool = False) -> None:
    """One line per event on stderr; of the libraries below only what is wrong."""
    logging.basicConfig(stream=sys.stderr, format=_FORMAT, level=logging.WARNING, force=True)
    logging.getLogger("streamproc").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    for name in ("faust", "mode", "aiokafka", "streamproc.runtime.transport"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.ERROR)


def serve(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs ``work`` on a fast event loop; its event is set by Ctrl-C, by SIGTERM, and when the parent that asked for
    it dies.
    """
    runner: Any = asyncio.run
    if sys.platform != "win32":
        import uvloop

        runner = uvloop.run
    runner(_until_told(work))


async def _until_told(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    watch = asyncio.create_task(_watch_parent(told))
    try:
        await work(told)
    finally:
        watch.cancel()


async def _watch_parent(told: asyncio.Event) -> None:
    parent = os.environ.get(PARENT)
    while parent is not None and os.getppid() == int(parent):  # noqa: ASYNC110  nobody tells a child of its parent's death
        await asyncio.sleep(0.5)
    if parent is not None:
        told.set()
