"""The command ``streamproc``.

Exit codes: 0 done, 1 failed, 2 used or configured wrongly, 3 the broker is not there or does not start, 130
interrupted. An error is one red line on stderr; ``--debug`` shows where it came from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from streamproc import __version__
from streamproc.cli.options import help_without_command
from streamproc.errors import StreamprocError

INTERRUPTED = 130

#: The nouns, as ``--help`` lists them. ``streamproc.cli.<noun>`` has a Typer named ``app``; it is imported when used.
NOUNS = {
    "dev": "Run a whole system in this terminal: broker, gateway and worker.",
    "demo": "Run the Shuttle topology, and account for every reading.",
    "worker": "Run a topology's agents.",
    "gateway": "Serve a topology's topics and channels over WebSocket.",
    "broker": "Run an Apache Kafka on this machine.",
    "describe": "Print a topology.",
    "topics": "List, create, describe and delete topics.",
    "agents": "List agents and how far behind they are; reset them.",
    "tables": "List tables, and read their rows.",
    "verify": "Replay a source, and compare with the state that is kept.",
    "dlq": "List, show, count and replay dead letters.",
    "publish": "Publish events through a gateway.",
    "tail": "Print a channel's results as they come.",
    "replay": "Publish a data set or a file at a chosen rate.",
    "bench": "Measure the worker, and compare every result with a reference.",
}


class Nouns(TyperGroup):
    """Knows every noun's name and help, and imports only the one that is used."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for noun, text in NOUNS.items():
            self.add_command(TyperCommand(noun, help=text))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in NOUNS:
            command = typer.main.get_command(import_module(f"streamproc.cli.{name}").app)
            command.name = name
        return name, command, rest


# Plain help: rich would double the time that --help takes.
app = typer.Typer(cls=Nouns, rich_markup_mode=None, add_completion=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamproc {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Real-time AI over WebSockets on Kafka."""
    help_without_command(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. The entry point of the package."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args[: _first_noun(args)]
    try:
        code = app(args, prog_name="streamproc", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _told(error)


def _first_noun(args: Sequence[str]) -> int:
    """Where the options of ``streamproc`` itself end."""
    return next((at for at, arg in enumerate(args) if not arg.startswith("-")), len(args))


def _told(error: Exception) -> int:
    """Prints an error and returns the exit code for it."""
    if isinstance(error, StreamprocError):
        first, *more = str(error).splitlines() or [type(error).__name__]
        code = error.exit_code
    elif hasattr(error, "format_message"):  # Typer's own: an unknown option, a missing argument
        first, more = error.format_message(), []
        if (context := getattr(error, "ctx", None)) is not None:
            more = [f"see {context.command_path} --help"]
        code = int(getattr(error, "exit_code", 2))
    else:
        first, more, code = f"{type(error).__name__}: {error}", ["this is a bug; streamproc --debug … shows where"], 1
    typer.echo(typer.style(f"error: {first}", fg=typer.colors.RED), err=True)
    for line in more:
        typer.echo(line, err=True)
    return code
