"""The egress edge, plugged into the gateway under the entry point ``streamproc.edge``."""

from __future__ import annotations

import asyncio
import logging

from streamproc.edge.ports import Context, GatewayTail, Link
from streamproc_egress.hub import Hub
from streamproc_egress.tail import Feed
from streamproc_egress.writer import Subscriber

logger = logging.getLogger("streamproc.egress")
_PATIENCE = 3.0  # seconds that the start waits for the log; without it the gateway starts all the same


class Egress:
    """Of the port :class:`streamproc.edge.ports.Edge`. One tail follows all channels of the app.

    Raises:
        IncompatibleSchema: the registry refuses the schema of a channel.
    """

    name = "egress"

    def __init__(self, context: Context) -> None:
        self.draining = False
        self._context = context
        self._hub = Hub(context.app.channels, context.limits.frame)
        self._feed = Feed(context, self._hub)
        self._tail: GatewayTail | None = None
        self._task: asyncio.Task[None] | None = None
        self._positioned = False
        self._failed: str | None = None

    async def start(self) -> None:
        if not self._context.app.channels:
            self._positioned = True
            return
        self._tail = self._context.log.tail(list(self._context.app.channels))
        self._task = asyncio.get_running_loop().create_task(self._run(self._tail), name="egress")
        try:
            await asyncio.wait_for(self._tail.ready(), _PATIENCE)
            self._positioned = True
        except TimeoutError:
            logger.warning("egress: Kafka does not answer yet; subscriptions wait until it does")

    @property
    def problem(self) -> str | None:
        """Why a subscription would miss results. Once the tail has its place, an outage only delays them."""
        return self._failed or (None if self._positioned else "Kafka has not answered yet")

    def open(self, link: Link) -> Subscriber:
        return Subscriber(self._context, self._hub, link, self)

    def problems(self) -> dict[str, str]:
        problem = self.problem or (self._tail.problem if self._tail else None)
        return {"tail": problem} if problem else {}

    async def drain(self) -> None:
        self.draining = True

    async def stop(self) -> None:
        if self._tail is not None:
            await self._tail.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_PATIENCE)
            self._task.cancel()

    async def _run(self, tail: GatewayTail) -> None:
        ready = asyncio.ensure_future(tail.ready())
        ready.add_done_callback(self._ready)
        try:
            async for batch in tail:
                await self._feed.follow(batch)
        except Exception as error:
            self._failed = f"{type(error).__name__}: {error}"
            logger.exception("egress: the tail has failed; results no longer come")
        finally:
            ready.cancel()

    def _ready(self, done: asyncio.Future[None]) -> None:
        self._positioned = not done.cancelled()
