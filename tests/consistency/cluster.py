"""Three brokers that are one cluster: what two of them have is safe. Each worker reaches them by a line of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from confluent_kafka.admin import AdminClient

from streamproc.log.broker import BrokerConfig, EmbeddedBroker, Listener
from streamproc.log.broker.config import HOST, free_port
from streamproc.log.broker.storage import random_id
from streamproc.settings import KafkaSettings
from tests.consistency.proxy import Proxy

NODES = 3
_PATIENCE = 60.0  # seconds

_COPIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "num.network.threads": "1",  # for each listener
}


class Cluster:
    """Blocking; from a coroutine call it through ``asyncio.to_thread``.

    Args:
        lines: how many workers have a line of their own.
    """

    def __init__(self, lines: int) -> None:
        self.proxy = Proxy(lines)
        self._folder = tempfile.TemporaryDirectory(prefix="streamproc-cluster-")
        ports = _free_ports(NODES * (2 + lines))
        clients, controllers = [next(ports) for _ in range(NODES)], [next(ports) for _ in range(NODES)]
        voters = tuple(f"{node + 1}@{HOST}:{port}" for node, port in enumerate(controllers))
        self._bootstraps: list[list[int]] = [[] for _ in range(lines)]
        cluster_id = random_id()
        self.brokers: list[EmbeddedBroker] = []
        for node in range(NODES):
            listeners = []
            for line in range(lines):
                port = next(ports)
                told = self.proxy.open(line, port)
                self._bootstraps[line].append(told)
                listeners.append(Listener(f"LINE{line}", port, advertised=told))
            self.brokers.append(
                EmbeddedBroker(
                    BrokerConfig(
                        data_dir=Path(self._folder.name, f"broker-{node + 1}"),
                        port=clients[node],
                        controller_port=controllers[node],
                        heap_mb=192,
                        listeners=tuple(listeners),
                        extra=_COPIES,
                        node=node + 1,
                        voters=voters,
                        cluster_id=cluster_id,
                    )
                )
            )

    @property
    def settings(self) -> KafkaSettings:
        """Past the proxy."""
        return KafkaSettings(",".join(broker.bootstrap for broker in self.brokers))

    def line(self, line: int) -> KafkaSettings:
        return KafkaSettings(",".join(f"{HOST}:{port}" for port in self._bootstraps[line]))

    def start(self, nodes: Iterable[int] = range(NODES)) -> None:
        """Returns when these are in service. They start at the same time: one alone has no quorum."""
        nodes = list(nodes)
        self.brokers[0].fetch()
        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(lambda node: self.brokers[node].start(), nodes))
        end = time.monotonic() + _PATIENCE
        admin = AdminClient(self.settings.librdkafka() | {"log_level": 0})
        while len(admin.list_topics(timeout=10).brokers) < NODES:
            assert time.monotonic() < end, "the cluster is not complete"
            time.sleep(0.2)

    def kill(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            self.brokers[node].kill()

    def stop(self) -> None:
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(lambda broker: broker.kill(), self.brokers))
        self.proxy.close()
        self._folder.cleanup()

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _free_ports(count: int) -> Iterator[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return iter(found)
