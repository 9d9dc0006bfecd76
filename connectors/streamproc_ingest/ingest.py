"""The ingest edge, plugged into the gateway under the entry point ``streamproc.edge``."""

from __future__ import annotations

from streamproc.edge.ports import Context, Link
from streamproc_ingest.parse import Parser
from streamproc_ingest.pump import Pump


class Ingest:
    """Of the port :class:`streamproc.edge.ports.Edge`.

    Raises:
        IncompatibleSchema: the registry refuses the schema of a topic that can be published to.
    """

    name = "ingest"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._parser = Parser(context.app.publishable, context.registry)
        self._pumps: set[Pump] = set()
        self._draining = False

    async def start(self) -> None:
        """Nothing: the producer is the gateway's."""

    def open(self, link: Link) -> Pump:
        pump = Pump(self._context, self._parser, link, self._pumps.discard)
        pump.draining = self._draining
        self._pumps.add(pump)
        return pump

    def problems(self) -> dict[str, str]:
        return {}

    async def drain(self) -> None:
        self._draining = True
        for pump in self._pumps:
            pump.draining = True
        await self._context.producer.flush()
        for pump in list(self._pumps):
            pump.tell()

    async def stop(self) -> None:
        self._pumps.clear()
