"""Publishes events at a rate, and keeps account of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamproc.client import Ack, Client, Refused
from streamproc.demo.datasets import Reading


@dataclass(slots=True)
class Published:
    """What became of the events. ``sent_at`` is by id, in seconds of ``time.perf_counter``."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    sent_at: dict[str, float] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


async def publish(
    client: Client, topic: str, readings: Iterable[Reading], rate: float, into: Published | None = None
) -> Published:
    """Publishes ``readings``, and returns when each has its answer.

    Args:
        rate: events per second; 0 for as fast as the client's window allows.
        into: the account to keep, where others look at it meanwhile.

    Raises:
        Disconnected: the connection was lost before the last answer.
    """
    account = into or Published()
    began = time.perf_counter()
    pending: set[asyncio.Future[Ack]] = set()
    first = account.sent

    def answered(future: asyncio.Future[Ack]) -> None:
        pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Refused):
            account.refused += 1
            account.errors.append(str(error))
        elif error is None:
            account.acked += 1

    for reading in readings:
        if rate:
            ahead = began + (account.sent - first) / rate - time.perf_counter()
            if ahead > 0.001:
                await asyncio.sleep(ahead)
        if reading.time is not None:
            reading.data[reading.time] = int(time.time() * 1000)
        account.sent_at[reading.id] = time.perf_counter()
        if reading.label is not None:
            account.labels[reading.id] = reading.label
        future = await client.send(topic, reading.id, reading.data)
        account.sent += 1
        pending.add(future)
        future.add_done_callback(answered)
    if pending:
        for result in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Refused):
                raise result
    return account
