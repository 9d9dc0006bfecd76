"""A whole system on this machine: broker, gateway and worker, each a process of its own, watched over and stopped
together.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from streamproc.cli.serving import PARENT, REGISTRY, registry_url
from streamproc.errors import StreamprocError
from streamproc.log.broker import EmbeddedBroker, Progress
from streamproc.log.broker.config import free_port
from streamproc.settings import KafkaSettings

#: Called with the process's name and a line that it printed.
OnLine = Callable[[str, str], None]
_READY_WITHIN = 60.0
_STOP_WITHIN = 20.0


class Child:
    """One process of the system."""

    def __init__(self, name: str, admin_port: int, process: asyncio.subprocess.Process, on_line: OnLine) -> None:
        self.name, self.process = name, process
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self.last_words: deque[str] = deque(maxlen=12)
        self._on_line = on_line
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            text = line.decode(errors="replace").rstrip()
            self.last_words.append(text)
            self._on_line(self.name, text)

    def problem(self) -> str | None:
        """Why it is not ready; None when it is."""
        try:
            with urllib.request.urlopen(f"{self.admin_url}/readyz", timeout=2) as answer:
                return None if answer.status == 200 else "not ready"
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode().strip() or "not ready"
        except OSError:
            return "starting"

    async def stop(self) -> None:
        """SIGTERM; SIGKILL if it does not mind."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), _STOP_WITHIN)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        await self._reader


class System:
    """Broker (unless one is given), gateway and worker for one topology.

    Args:
        topology: ``MODULE:APP``.
        kafka: the broker to use; None starts an embedded one.
        port: the gateway's; 0 takes a free one.
        registry: as on the command line.
        on_line: gets what the processes print.
        on_progress: gets the embedded broker's steps.
    """

    def __init__(
        self,
        topology: str,
        *,
        kafka: KafkaSettings | None = None,
        port: int = 0,
        registry: str | None = None,
        on_line: OnLine = lambda name, line: None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.topology, self.kafka = topology, kafka
        self.port = port or free_port()
        self.registry = registry_url(registry)
        self.broker: EmbeddedBroker | None = None
        self.children: list[Child] = []
        self._on_line, self._on_progress = on_line, on_progress

    @property
    def url(self) -> str:
        """The gateway's."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when everything is ready.

        Raises:
            StreamprocError: something did not come up; what was started is stopped again.
        """
        try:
            if self.kafka is None:
                self.broker = EmbeddedBroker(progress=self._on_progress)
                await asyncio.to_thread(self.broker.start)
                self.kafka = replace(self.broker.settings)
            await self._spawn("gateway", "--port", str(self.port))
            await self._spawn("worker")
            await asyncio.gather(*(self._ready(child) for child in self.children))
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Returns never: raises StreamprocError when a process ends that should not."""
        ended = [asyncio.create_task(child.process.wait()) for child in self.children]
        broker = asyncio.create_task(self._broker_ended())
        try:
            await asyncio.wait([*ended, broker], return_when=asyncio.FIRST_COMPLETED)
            for child in self.children:
                if child.process.returncode is not None:
                    raise self._ended(child)
            raise StreamprocError("the broker ended by itself")
        finally:
            for task in (*ended, broker):
                task.cancel()

    async def stop(self) -> None:
        """Worker first, then the gateway, then the broker: each can still say goodbye to the next."""
        for child in reversed(self.children):
            await child.stop()
        self.children = []
        if self.broker is not None:
            await asyncio.to_thread(self.broker.stop)
            self.broker = None

    async def _spawn(self, noun: str, *args: str) -> None:
        assert self.kafka is not None
        admin_port = free_port()
        environ = {**os.environ, **self.kafka.environ(), PARENT: str(os.getpid()), REGISTRY: self.registry}
        command = [sys.executable, "-m", "streamproc", noun, self.topology, "--admin-port", str(admin_port), *args]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: we stop them in order
        )
        self.children.append(Child(noun, admin_port, process, self._on_line))

    async def _ready(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READY_WITHIN
        while (problem := await asyncio.to_thread(child.problem)) is not None:
            if child.process.returncode is not None:
                raise self._ended(child)
            if loop.time() > deadline:
                raise StreamprocError(f"the {child.name} was not ready within {_READY_WITHIN:g} s: {problem}")
            await asyncio.sleep(0.1)

    def _ended(self, child: Child) -> StreamprocError:
        said = "\n".join(f"  {line}" for line in child.last_words)
        return StreamprocError(f"the {child.name} ended with code {child.process.returncode}\n{said}")

    async def _broker_ended(self) -> None:
        while self.broker is None or self.broker.pid is not None:  # noqa: ASYNC110  it is watched, not awaited
            await asyncio.sleep(0.5)
