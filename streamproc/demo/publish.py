"""Publishes events at a rate, and keeps account of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamproc.client import Ack, Client, Disconnected, Refused
from streamproc.demo.datasets import Reading

_REASONS = 100


@dataclass(slots=True)
class Published:
    """What became of the events.

    Args:
        by_event: whether to remember each event: in ``ids`` those that Kafka has, in ``sent_at`` when each was sent,
            in seconds of ``time.perf_counter``.
        refusals: how often each reason was given, of the first hundred: they may name values.
    """

    by_event: bool = True
    sent: int = 0
    acked: int = 0
    refused: int = 0
    ids: set[str] = field(default_factory=set)
    sent_at: dict[str, float] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    lost: Disconnected | None = None

    def answered(self, future: asyncio.Future[Ack]) -> None:
        """Takes down an answer."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Refused):
            self.refuse(error)
        elif isinstance(error, Disconnected):
            self.lost = error
        elif error is None and not future.cancelled():
            self.acked += 1
            if self.by_event:
                self.ids.add(future.result().id)

    def refuse(self, error: Refused) -> None:
        self.refused += 1
        text = str(error)
        if text in self.refusals or len(self.refusals) < _REASONS:
            self.refusals[text] += 1


async def publish(
    client: Client, topic: str, readings: Iterable[Reading], rate: float, account: Published
) -> Published:
    """Publishes ``readings``, and returns when each has its answer.

    Args:
        rate: events per second; 0 for as fast as the client's window allows.
        account: the one to keep; others may look at it meanwhile.

    Raises:
        Disconnected: the connection was lost before the last answer.
    """
    began = time.perf_counter()
    pending: set[asyncio.Future[Ack]] = set()
    for number, reading in enumerate(readings):
        if rate and (ahead := began + number / rate - time.perf_counter()) > 0.001:
            await asyncio.sleep(ahead)
        await client.room()  # first: what is stamped goes out at once
        if reading.time is not None:
            reading.data[reading.time] = int(time.time() * 1000)
        if account.by_event:
            account.sent_at[reading.id] = time.perf_counter()
        account.sent += 1
        try:
            future = await client.send(topic, reading.id, reading.data)
        except Refused as error:
            account.refuse(error)
            continue
        pending.add(future)
        future.add_done_callback(pending.discard)
        future.add_done_callback(account.answered)
    if pending:
        await asyncio.wait(pending)
        await asyncio.sleep(0)  # the last answers are taken down after their futures are done
    if account.lost is not None:
        raise account.lost
    return account
