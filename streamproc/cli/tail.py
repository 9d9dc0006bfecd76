"""``streamproc tail``: a channel's results as they come."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from streamproc.cli.options import noun
from streamproc.cli.publish import DEFAULT_URL, Url
from streamproc.cli.running import run
from streamproc.errors import SettingsError

app = noun()


@app.command()
def tail(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    url: Url = DEFAULT_URL,
    filter: Annotated[
        str | None,
        typer.Option(
            help='Only results that match, such as {"key": "score", "cmp": "gt", "val": 0.9}: docs/protocol.md.'
        ),
    ] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=0, help="Stop after so many results; 0 goes on for ever.")
    ] = 0,
) -> None:
    """Print a channel's results from now on, one JSON object a line. Results that were left out are told on stderr."""
    run(_tail(url, channel, _tree(filter), number))


def _tree(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--filter: not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"--filter: expected a JSON object; got {text[:80]}")
    return tree


async def _tail(url: str, channel: str, filter: dict[str, Any] | None, number: int) -> None:
    from streamproc.client import Client, Gap

    async with Client(url, name="streamproc-tail") as client, client.subscribe(channel, filter) as results:
        seen = 0
        async for result in results:
            if isinstance(result, Gap):
                typer.echo(f"{result.lost} results were left out: {result.reason}", err=True)
                continue
            typer.echo(result.data.decode())
            seen += 1
            if seen == number:
                return
