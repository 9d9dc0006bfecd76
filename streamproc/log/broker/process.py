"""The embedded broker as its users see it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from streamproc.errors import BrokerStartError
from streamproc.log.broker.config import HOST, BrokerConfig, free_port, port_in_use
from streamproc.log.broker.jars import OnProgress, Progress, fetch
from streamproc.log.broker.java import Java, find_java
from streamproc.log.broker.jvm import KAFKA, command
from streamproc.log.broker.locked import Lock
from streamproc.log.broker.node import Node, PortTaken, relevant, tail
from streamproc.log.broker.prepare import Prepared, prepare
from streamproc.log.broker.storage import claimed, lay_out, temporary
from streamproc.settings import KafkaSettings

START_TIMEOUT = 90.0
STOP_TIMEOUT = 10.0
#: A free port can be taken by someone else before Kafka has it.
ATTEMPTS = 3


class EmbeddedBroker:
    """A real Apache Kafka on this machine, in a process of its own that ends with this one.

    Blocking; from a coroutine call it through ``asyncio.to_thread``. Ports are decided at the first start and then
    kept, so that a broker that was stopped or killed comes back at the same address.

    Args:
        config: everything else; ``data_dir`` and ``port`` win over what it says.
        data_dir: where the data is kept; a temporary folder, removed by :meth:`stop`, when None.
        port: for clients; a free one when None.
        progress: told what is going on, from several threads but one at a time.
    """

    def __init__(
        self,
        config: BrokerConfig | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        port: int | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        config = config or BrokerConfig()
        self._wanted = replace(
            config, data_dir=Path(data_dir) if data_dir else config.data_dir, port=config.port if port is None else port
        )
        self._progress = progress
        self._config: BrokerConfig | None = None
        self._node: Node | None = None

    @property
    def config(self) -> BrokerConfig:
        """The configuration with its folder and ports decided. Raises BrokerStartError before the first start."""
        if self._config is None:
            raise BrokerStartError("the embedded broker was not started yet: call start()")
        return self._config

    @property
    def bootstrap(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"{HOST}:{self.config.port}"

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(self.bootstrap)

    @property
    def pid(self) -> int | None:
        """Java's process, or None when it does not run."""
        return self._node.pid if self._node and self._node.running else None

    @property
    def log_file(self) -> Path:
        """What Kafka said in this run. It goes with a temporary folder."""
        assert self.config.data_dir is not None
        return self.config.data_dir / "broker.log"

    def start(self) -> EmbeddedBroker:
        """Returns when topics can be created. Nothing happens when it runs already.

        Raises:
            BrokerStartError: says why, with the end of Kafka's log, and what to do.
        """
        if self.pid is not None:
            return self
        self._halt()
        again = self._config is not None
        try:
            for attempt in range(1, ATTEMPTS + 1):
                self._config = self._decided()
                try:
                    self._launch(self._config)
                    break
                except PortTaken:
                    self._halt()
                    if again or self._wanted.port or attempt == ATTEMPTS:
                        raise
                    self._config = replace(self._config, port=None, controller_port=None)
        except BaseException:
            self.stop()
            raise
        return self

    def fetch(self) -> None:
        """Fetches and prepares all that a start needs, so that later ones are fast and work offline."""
        self._parts()

    def _parts(self) -> tuple[Lock, Sequence[Path], Java, Prepared]:
        lock = Lock.read()
        jars = fetch(lock, self._progress)
        java = find_java()
        return lock, jars, java, prepare(lock, jars, java, self._progress)

    def stop(self) -> None:
        """Ends the broker, by force if it takes longer than ten seconds, and removes a temporary folder."""
        self._halt()
        if self._config and self._config.data_dir and self._is_temporary:
            shutil.rmtree(self._config.data_dir, ignore_errors=True)
            self._config = replace(self._config, data_dir=None)

    def kill(self) -> None:
        """Ends the broker with SIGKILL and keeps its data. :meth:`start` brings it back at the same address."""
        if self._node:
            self._node.kill()

    def restart(self) -> EmbeddedBroker:
        """Stops it if it runs, and starts it again at the same address with the same data."""
        self._halt()
        return self.start()

    def last_words(self) -> list[str]:
        """The last lines of its log that tell of errors."""
        return relevant(tail(self.log_file))

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _is_temporary(self) -> bool:
        return self._wanted.data_dir is None

    def _decided(self) -> BrokerConfig:
        config = self._config or self._wanted
        taken = {listener.port for listener in config.listeners}
        port = config.port or _another(taken)
        controller_port = config.controller_port or _another(taken)
        data_dir = config.data_dir or Path(tempfile.mkdtemp(prefix="streamproc-kafka-"))
        return replace(config, data_dir=data_dir.absolute(), port=port, controller_port=controller_port)

    def _launch(self, config: BrokerConfig) -> None:
        assert config.data_dir is not None
        assert config.port is not None
        for port in (config.port, config.controller_port, *(listener.port for listener in config.listeners)):
            if port is not None and port_in_use(port):
                raise PortTaken(f"port {port} is in use: choose another, or stop what listens there")
        lock, jars, java, prepared = self._parts()
        snapshot, archive = prepared
        if self._progress:
            self._progress(Progress(f"starting Apache Kafka {lock.kafka}"))
        claim = claimed(config.data_dir)
        try:
            file = lay_out(config, snapshot)
            words = command(
                java, jars, KAFKA, str(file), heap_mb=config.heap_mb, tmp=temporary(config.data_dir), archive=archive
            )
            remove = config.data_dir if self._is_temporary else None
            self._node = Node(words, config.port, self.log_file, claim=claim, remove=remove)
        finally:
            os.close(claim)
        self._node.wait_ready(START_TIMEOUT)

    def _halt(self) -> None:
        node, self._node = self._node, None
        if node:
            node.terminate(STOP_TIMEOUT)


def _another(taken: set[int]) -> int:
    """A free port that is not among ``taken``, and is from now on."""
    while (port := free_port()) in taken:
        pass
    taken.add(port)
    return port
