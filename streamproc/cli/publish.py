"""``streamproc publish``: events through a gateway."""

from __future__ import annotations

import asyncio
import select
import sys
import uuid
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from streamproc.cli.options import noun
from streamproc.cli.running import run
from streamproc.errors import SettingsError, StreamprocError

if TYPE_CHECKING:
    from streamproc.client import Ack

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
    refused = run(_publish(url, topic, events or _lines(), id_field))
    if refused:
        raise StreamprocError(f"{refused} event{'s were' if refused > 1 else ' was'} refused")


def _lines() -> Iterable[str]:
    return (line for line in sys.stdin if line.strip())


def _at_hand() -> bool:
    """Whether stdin has more at once. False is no promise: Python may have read ahead."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):
        return True


async def _publish(url: str, topic: str, events: Iterable[str], id_field: str | None) -> int:
    from streamproc.client import Client, Refused

    book = _Book(topic)
    async with Client(url, name="streamproc-publish") as client:
        try:
            for number, text in enumerate(events, 1):
                data = _parsed(text, number)
                id = str(data[id_field]) if id_field and id_field in data else uuid.uuid4().hex
                try:
                    book.wait_for(await client.send(topic, id, data), id)
                except Refused as error:
                    book.refuse(id, error)
                if not isinstance(events, list) and not _at_hand():
                    await book.settled()  # the next line may be long in coming, and it is waited for by blocking
        finally:
            await book.settled()
    if book.lost is not None:
        raise book.lost
    return book.refused


class _Book:
    """Prints answers as they come."""

    def __init__(self, topic: str) -> None:
        self.refused = 0
        self.lost: BaseException | None = None
        self._topic = topic
        self._pending: set[asyncio.Future[Ack]] = set()

    def wait_for(self, future: asyncio.Future[Ack], id: str) -> None:
        self._pending.add(future)
        future.add_done_callback(partial(self._answered, id=id))

    def refuse(self, id: str, error: BaseException) -> None:
        self.refused += 1
        typer.echo(f"{id}: refused: {error}", err=True)

    async def settled(self) -> None:
        while self._pending:
            await asyncio.wait(self._pending)
            await asyncio.sleep(0)  # the callbacks come after

    def _answered(self, future: asyncio.Future[Ack], id: str) -> None:
        from streamproc.client import Refused

        self._pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Refused):
            self.refuse(id, error)
        elif error is not None:
            self.lost = error
        elif not future.cancelled():
            ack = future.result()
            typer.echo(f"{ack.id} {self._topic}[{ack.partition}] {ack.offset}")


def _parsed(text: str, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"event {number} is not a JSON object: {error}: {text.strip()[:80]}") from None
