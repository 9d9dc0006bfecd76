"""``streamproc tail``: a channel's results as they come."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.publish import DEFAULT_URL, Url
from streamproc.cli.running import run

app = noun()


@app.command()
def tail(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    url: Url = DEFAULT_URL,
    number: Annotated[
        int, typer.Option("--number", "-n", min=0, help="Stop after so many results; 0 goes on for ever.")
    ] = 0,
) -> None:
    """Print a channel's results from now on, one JSON object a line. Results that were left out are told on stderr."""
    run(_tail(url, channel, number))


async def _tail(url: str, channel: str, number: int) -> None:
    from streamproc.client import Client, Gap

    async with Client(url, name="streamproc-tail") as client, client.subscribe(channel) as results:
        seen = 0
        async for result in results:
            if isinstance(result, Gap):
                typer.echo(f"{result.lost} results were left out: {result.reason}", err=True)
                continue
            typer.echo(result.data.decode())
            seen += 1
            if seen == number:
                return
