"""``streamproc replay``: a data set or a file, published at a chosen rate."""

from __future__ import annotations

import itertools
import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.publish import DEFAULT_URL, Url
from streamproc.cli.running import run
from streamproc.errors import StreamprocError

if TYPE_CHECKING:
    from streamproc.demo.publish import Published

app = noun()
_REASONS = 5  # for refusals that are told; a message may hold values, so there can be many


@app.command()
def replay(
    dataset: Annotated[str, typer.Argument(help="shuttle, or a file of JSON objects, one a line.")],
    topic: Annotated[str, typer.Option(help="The topic to publish to.")] = "readings",
    rate: Annotated[
        float, typer.Option(min=0, help="Events per second; 0 for as fast as they are acknowledged.")
    ] = 200.0,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many; 0 for all.")] = 0,
    id_field: Annotated[str | None, typer.Option(help="Of a file: the field with each event's id.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Publish a data set. Says at the end how many events Kafka has, and how many were refused."""
    done, seconds = run(_replay(url, dataset, topic, rate, limit, id_field))
    typer.echo(f"{done.acked:,} events in {seconds:.1f} s ({done.acked / seconds:,.0f}/s), {done.refused:,} refused")
    if done.refused:
        reasons = [f"{count:,}: {text}" for text, count in done.refusals.most_common(_REASONS)]
        verb = "event was" if done.refused == 1 else "events were"
        raise StreamprocError("\n  ".join([f"{done.refused:,} {verb} refused", *reasons]))


async def _replay(
    url: str, dataset: str, topic: str, rate: float, limit: int, id_field: str | None
) -> tuple[Published, float]:
    from streamproc.client import Client
    from streamproc.demo.datasets import open_dataset
    from streamproc.demo.publish import Published, publish

    events = open_dataset(dataset, uuid.uuid4().hex[:8], id_field)
    async with Client(url, name="streamproc-replay") as client:
        began = time.perf_counter()
        account = Published(by_event=False)
        await publish(client, topic, itertools.islice(events, limit or None), rate, account)
        return account, time.perf_counter() - began
