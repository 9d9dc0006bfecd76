"""What the serving commands (worker, gateway) share: options, logs, signals, the parent's death."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

#: Set by whoever starts a process that must not outlive it.
PARENT = "STREAMPROC_PARENT"
REGISTRY = "STREAMPROC_REGISTRY"
_ALONE = 5.0  # seconds that a process may take for a tidy end when its parent has died
#: The last two hold subclasses of Faust's, which log under their modules' names.
_LIBRARIES = ("faust", "mode", "aiokafka", "streamproc.runtime.transport", "streamproc.runtime.faust_app")
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_SHORT = "%(asctime)s %(levelname)-7s %(message)s"  # within another process's terminal, under our name

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


class Calm(logging.Filter):
    """Keeps back what the libraries below say of things that need nobody: what they try again (that the broker is away
    is told once, by ours), and what was cancelled.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_LIBRARIES):
            return True
        given = record.args if isinstance(record.args, tuple) else ()
        errors = [*given, *(record.exc_info or ())]
        harmless = (OSError, asyncio.CancelledError)
        return not any(isinstance(e, harmless) or getattr(e, "retriable", False) for e in errors)


def log_to_stderr(verbose: bool = False) -> None:
    """One line per event on stderr; of the libraries below only what is wrong, unless it is to be ``verbose``."""
    form, dates = (_SHORT, "%H:%M:%S") if PARENT in os.environ else (_FORMAT, None)
    logging.basicConfig(stream=sys.stderr, format=form, datefmt=dates, level=logging.WARNING, force=True)
    if not verbose:
        logging.getLogger().handlers[0].addFilter(Calm())
    logging.getLogger("streamproc").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.ERROR)


def say_up(text: str) -> None:
    """Tells that a process is up, unless another one has started it and tells so itself."""
    if PARENT not in os.environ:
        typer.echo(text, err=True)


def serve(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs ``work`` on a fast event loop; its event is set by Ctrl-C, by SIGTERM, and when the parent that asked for
    it dies.
    """
    runner: Any = asyncio.run
    if sys.platform != "win32":
        import uvloop

        runner = uvloop.run
    runner(_until_told(work))


async def _until_told(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
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
    """Nobody tells a child of its parent's death: it looks. The broker dies then too, so a tidy end may never come."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return
    while os.getppid() == int(parent):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    told.set()
    last = threading.Timer(_ALONE, os._exit, [1])
    last.daemon = True
    last.start()
