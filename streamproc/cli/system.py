"""A whole system on this machine: broker, gateway and worker, each a process of its own, watched over and stopped
together.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable

from streamproc.cli.serving import PARENT, REGISTRY, registry_url
from streamproc.errors import SettingsError, StreamprocError
from streamproc.log.broker import EmbeddedBroker, Progress
from streamproc.log.broker.config import free_port, port_in_use
from streamproc.settings import KafkaSettings

#: Called with the process's name and a line that it printed.
OnLine = Callable[[str, str], None]
_READY_WITHIN = 60.0
_STOP_WITHIN = 20.0
_LONGEST_LINE = 1 << 20  # bytes; what a process prints beyond that in one line is not shown


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
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:
                continue  # too long a line; left unread, the process would wait for us
            if not line:
                return
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
        on_progress: gets the steps of the start.
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
        self._stopped = False

    @property
    def url(self) -> str:
        """The gateway's."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when everything is ready.

        Raises:
            SettingsError: the gateway's port is in use.
            StreamprocError: something did not come up; what was started is stopped again.
        """
        if port_in_use(self.port):
            raise SettingsError(f"port {self.port} is in use: choose another with --port, or stop what listens there")
        try:
            if self.kafka is None:
                self.broker = EmbeddedBroker(progress=self._progress)
                await self._start_broker(self.broker)
                self.kafka = self.broker.settings
            self._progress(Progress("starting gateway and worker"))
            await self.spawn("gateway")
            await self.spawn("worker")
            await asyncio.gather(*(self.ready(child) for child in self.children))
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
        self._stopped = True
        for child in reversed(self.children):
            await child.stop()
        self.children = []
        if self.broker is not None:
            await asyncio.to_thread(self.broker.stop)
            self.broker = None

    async def _start_broker(self, broker: EmbeddedBroker) -> None:
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: it is made to fail, and waited for, or it would start what nobody stops.
            self._stopped = True
            await asyncio.to_thread(broker.kill)
            await asyncio.gather(starting, return_exceptions=True)
            raise

    async def spawn(self, noun: str) -> Child:
        """Starts one more ``gateway`` or ``worker``, and does not wait for it. There is one port for gateways."""
        assert self.kafka is not None
        admin_port = free_port()
        environ = {**os.environ, **self.kafka.environ(), PARENT: str(os.getpid()), REGISTRY: self.registry}
        command = [sys.executable, "-m", "streamproc", noun, self.topology, "--admin-port", str(admin_port)]
        if noun == "gateway":
            command += ["--port", str(self.port)]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: we stop them in order
            limit=_LONGEST_LINE,
        )
        child = Child(noun, admin_port, process, self._on_line)
        self.children.append(child)
        return child

    def _progress(self, progress: Progress) -> None:
        """Also called on the threads that start the broker. They cannot be cancelled, but end at their next step."""
        if self._stopped:
            raise StreamprocError("stopped while starting")
        if self._on_progress is not None:
            self._on_progress(progress)

    async def ready(self, child: Child) -> None:
        """Returns when a process is ready. Raises StreamprocError when it ends instead, or takes a minute."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READY_WITHIN
        while (problem := await asyncio.to_thread(child.problem)) is not None:
            if child.process.returncode is not None:
                raise self._ended(child)
            if loop.time() > deadline:
                raise StreamprocError(f"the {child.name} was not ready within {_READY_WITHIN:g} s: {problem}")
            await asyncio.sleep(0.1)

    def _ended(self, child: Child) -> StreamprocError:
        code = child.process.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return StreamprocError("\n  ".join([f"the {child.name} {how}", *child.last_words]))

    async def _broker_ended(self) -> None:
        while self.broker is None or self.broker.pid is not None:  # noqa: ASYNC110  it is watched, not awaited
            await asyncio.sleep(0.5)
