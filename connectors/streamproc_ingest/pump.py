"""Moves one connection's events into the producer, and holds the connection back while there is no room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain

from streamproc.edge import codes
from streamproc.edge.ports import Context, Link
from streamproc.edge.words import Publish, error_of
from streamproc.log.ports import Delivery, QueueFull
from streamproc_ingest.parse import Bad, Outgoing, Parser
from streamproc_ingest.session import InFlight


class Pump:
    """The ingest edge's half of one connection, of the port :class:`streamproc.edge.ports.Half`."""

    def __init__(self, context: Context, parser: Parser, link: Link, gone: Callable[[Pump], None]) -> None:
        self.draining = False
        self._context = context
        self._parser = parser
        self._link = link
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._in_flight = InFlight(context.limits.in_flight)
        self._telling = False
        self._closed = False
        self._change: asyncio.Future[None] | None = None

    def receive(self, frame: Publish, size: int) -> Awaitable[None] | None:
        events = self._parser.parse(frame)
        stamp = int(time.time() * 1000)
        for event in events:
            if not self._take(event, stamp):
                return self._wait(chain((event,), events))
        return None

    def writable(self) -> None:
        """Answers are small, and bounded by what is in flight: they do not wait."""

    def close(self) -> None:
        self._closed = True
        self._gone(self)
        self._changed()

    def tell(self) -> None:
        """Sends the acknowledgements and errors that have come together."""
        self._telling = False
        for frame in self._in_flight.take():
            self._link.send(frame)
        self._changed()

    def _take(self, event: Outgoing | Bad, stamp: int) -> bool:
        """False when there is no room for it now."""
        if isinstance(event, Bad):
            self._refuse(event)
            return True
        if self.draining:
            self._link.send(error_of(codes.DRAINING, id=event.id, index=event.nth))
            return True
        if not self._in_flight.room(event.size):
            self._context.metrics.paused.labels("in_flight").inc()
            return False
        done = partial(self._done, event, time.perf_counter())
        try:
            self._context.producer.send(event.topic, event.value, key=event.key, timestamp=stamp, done=done)
        except QueueFull:
            self._context.metrics.paused.labels("producer").inc()
            return False
        self._in_flight.sent(event)
        self._context.metrics.events += 1
        self._context.metrics.in_flight_bytes += event.size
        return True

    async def _wait(self, events: Iterator[Outgoing | Bad]) -> None:
        """Takes the rest of a frame as room comes. The connection is not read meanwhile."""
        for event in events:
            while not self._closed and not self._take(event, int(time.time() * 1000)):
                if isinstance(event, Outgoing) and not self._in_flight.room(event.size):
                    self._change = self._loop.create_future()
                    await self._change
                else:
                    await self._context.producer.room()
            if self._closed:
                return

    def _refuse(self, bad: Bad) -> None:
        self._link.send(bad.error)
        if bad.value is not None:
            self._context.dead_letters.put(
                "ingest",
                bad.reason,
                bad.error.message,
                rate=self._link.rate,
                topic=bad.topic,
                session=self._link.session,
                key=bad.key,
                value=bad.value,
            )

    def _done(self, event: Outgoing, began: float, delivery: Delivery) -> None:
        metrics = self._context.metrics
        metrics.in_flight_bytes -= event.size
        self._in_flight.settled(event, delivery)
        if delivery.error is None:
            metrics.acks += 1
            metrics.produce.observe(time.perf_counter() - began)
        if not self._telling:
            # The producer reports a round at a time: tell all of it in one frame, when the round is over.
            self._telling = True
            self._loop.call_soon(self.tell)

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
