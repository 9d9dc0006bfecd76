"""A TCP proxy on loopback between workers and brokers: it can cut, stall and slow all connections of one worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

from streamproc.log.broker.config import HOST, free_port

_CHUNK = 64 << 10
_T = TypeVar("_T")

#: ``stalled``: what was sent waits, and comes when that is over, as after lost packets; new connections are accepted,
#: and nobody answers. ``cut``: connections are reset, and so are new ones.
Mode = Literal["open", "stalled", "cut"]


class Line:
    """All connections of one worker. In the proxy's thread."""

    def __init__(self) -> None:
        self.mode: Mode = "open"
        self.delay = 0.0  # seconds, of whatever is sent
        self.passes = asyncio.Event()
        self.passes.set()
        self.writers: set[asyncio.StreamWriter] = set()

    def set(self, mode: Mode, delay: float) -> None:
        self.mode, self.delay = mode, delay
        (self.passes.clear if mode == "stalled" else self.passes.set)()
        if mode == "cut":
            for writer in self.writers:
                writer.transport.abort()


class Proxy:
    """Runs in a thread of its own, so that it does not wait for the test."""

    def __init__(self, lines: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._lines: list[Line] = self._call(self._make(lines))
        self._servers: list[asyncio.Server] = []

    def open(self, line: int, target: int) -> int:
        """Listens; returns the port. What connects there is connected to ``target``, on one of the lines."""
        return self._call(self._listen(self._lines[line], target))

    def set(self, line: int, mode: Mode, *, delay: float = 0.0) -> None:
        """Makes a line so from now on. ``delay`` in seconds, each way."""
        self._run(lambda: self._lines[line].set(mode, delay))

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _run(self, work: Callable[[], None]) -> None:
        async def run() -> None:
            work()

        self._call(run())

    # In the thread.

    async def _make(self, lines: int) -> list[Line]:
        return [Line() for _ in range(lines)]

    async def _listen(self, line: Line, target: int) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _serve(line, target, reader, writer)

        while True:
            port = free_port()
            try:
                self._servers.append(await asyncio.start_server(connected, HOST, port))
            except OSError:  # somebody was faster
                continue
            return port

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for line in self._lines:
            line.set("cut", 0.0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _serve(line: Line, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line.writers.add(writer)
    ends = [writer]
    try:
        await line.passes.wait()
        if line.mode == "cut":
            return
        there, back = await asyncio.open_connection(HOST, target)
        line.writers.add(back)
        ends.append(back)
        pumps = [asyncio.ensure_future(_pump(line, *way)) for way in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
    except OSError:
        pass  # the broker is away
    finally:
        for end in ends:
            line.writers.discard(end)
            end.transport.abort()


async def _pump(line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            if line.delay:
                await asyncio.sleep(line.delay)
            await line.passes.wait()
            writer.write(data)
            await writer.drain()
    except OSError:
        return
