"""``streamproc publish``: events through a gateway."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

import msgspec
import typer

from streamproc.cli.options import noun
from streamproc.errors import SettingsError, StreamprocError

app = noun()
Url = Annotated[str, typer.Option(envvar="STREAMPROC_URL", help="The gateway's address.")]
DEFAULT_URL = "ws://127.0.0.1:8000"


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    events: Annotated[
        list[str] | None, typer.Argument(help="Events as JSON objects; from stdin, a line each, without.")
    ] = None,
    url: Url = DEFAULT_URL,
    id_field: Annotated[
        str | None, typer.Option(help="Take each event's id from this field; else it gets a new one.")
    ] = None,
) -> None:
    """Publish events and print where Kafka has each. Those refused are told on stderr, and make the exit code 1."""
    refused = asyncio.run(_publish(url, topic, events or _lines(), id_field))
    if refused:
        raise StreamprocError(f"{refused} events were refused")


def _lines() -> Iterable[str]:
    return (line for line in sys.stdin if line.strip())


async def _publish(url: str, topic: str, events: Iterable[str], id_field: str | None) -> int:
    from streamproc.client import Ack, Client, Refused

    refused = 0

    def told(future: asyncio.Future[Ack], id: str) -> None:
        nonlocal refused
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            ack = future.result()
            typer.echo(f"{ack.id} {topic}[{ack.partition}] {ack.offset}")
        elif isinstance(error, Refused):
            refused += 1
            typer.echo(f"{id}: refused: {error}", err=True)

    async with Client(url, name="streamproc-publish") as client:
        acks = []
        for number, text in enumerate(events, 1):
            data = _parsed(text, number)
            id = str(data[id_field]) if id_field and id_field in data else uuid.uuid4().hex
            future = await client.send(topic, id, data)
            future.add_done_callback(partial(told, id=id))
            acks.append(future)
        for error in await asyncio.gather(*acks, return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, Refused):
                raise error
    return refused


def _parsed(text: str, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"event {number} is not a JSON object: {error}: {text.strip()[:80]}") from None
