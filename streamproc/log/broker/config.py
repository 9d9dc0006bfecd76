"""The embedded broker's configuration, as data; and ``server.properties`` as a pure function of it."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamproc.errors import SettingsError

HOST = "127.0.0.1"
NODE = 1
#: Below the ephemeral ports of Linux and macOS. A client that reconnects to an ephemeral port of its own machine can
#: meet itself (TCP's simultaneous open) and so hold the port against the broker that wants to come back to it.
PORTS = range(15_000, 32_000)


@dataclass(frozen=True, slots=True)
class Listener:
    """One more address to listen on. ``properties`` are its own, without the ``listener.name.x.`` before them. Clients
    are told ``advertised`` in place of ``port``, where something stands in between.
    """

    name: str
    port: int
    protocol: str = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=dict)
    advertised: int | None = None


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """One combined node, on loopback only, with defaults for development and tests. Several make a cluster.

    Args:
        data_dir: where the log is kept; a temporary folder, removed on stop, when None.
        port: for clients; a free one when None.
        controller_port: for the broker's own use; a free one when None.
        heap_mb: Java's heap, in MiB. The whole process takes about 130 MiB more.
        listeners: more addresses, with other security.
        extra: Kafka's own properties, over everything above.
        node: its number in its cluster.
        voters: ``NUMBER@HOST:PORT`` of all nodes' controllers; none where it is alone.
        cluster_id: the same for all nodes; a random one when None.
    """

    data_dir: Path | None = None
    port: int | None = None
    controller_port: int | None = None
    heap_mb: int = 256
    listeners: tuple[Listener, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    node: int = NODE
    voters: tuple[str, ...] = ()
    cluster_id: str | None = None

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("controller_port", self.controller_port)):
            if port is not None and not 0 < port < 65536:
                raise SettingsError(f"{name}: expected 1 to 65535; got {port}")
        if self.heap_mb < 128:
            raise SettingsError(f"heap_mb: Kafka needs 128 or more; got {self.heap_mb}")


#: Few partitions in the internal topics, since each costs files and time at start.
_FIXED = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "2",
    # A group's first member need not wait for others, and a test may ask for short sessions.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a kill the controller waits for the old broker's session to end before it takes the new one: 9 s by default.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    # An expired transaction is aborted within a second of its time, not within ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Memory: the cleaner's buffers alone are 128 MiB by default.
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "log.cleaner.io.buffer.size": str(256 << 10),
    "log.segment.bytes": str(256 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    # Threads: one node on a few cores.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
}


def server_properties(config: BrokerConfig) -> dict[str, str]:
    """Kafka's properties for a config whose folder and ports are decided.

    Raises:
        SettingsError: they are not.
    """
    if config.data_dir is None or config.port is None or config.controller_port is None:
        raise SettingsError("server_properties needs data_dir, port and controller_port")
    listeners = (Listener("PLAINTEXT", config.port), *config.listeners)
    addresses = ",".join(f"{x.name}://{HOST}:{x.port}" for x in listeners)
    advertised = ",".join(f"{x.name}://{HOST}:{x.advertised or x.port}" for x in listeners)
    voters = config.voters or (f"{config.node}@{HOST}:{config.controller_port}",)
    protocols = ",".join(f"{x.name}:{x.protocol}" for x in (*listeners, Listener("CONTROLLER", 0)))
    return {
        **_FIXED,
        "node.id": str(config.node),
        "log.dirs": str(log_dir(config.data_dir)),
        "listeners": f"{addresses},CONTROLLER://{HOST}:{config.controller_port}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": protocols,
        "controller.quorum.voters": ",".join(voters),
        **{f"listener.name.{x.name.lower()}.{k}": v for x in config.listeners for k, v in x.properties.items()},
        **config.extra,
    }


def log_dir(data_dir: Path) -> Path:
    """Where Kafka keeps its partitions; beside it lie its log file and its properties."""
    return data_dir / "log"


def to_text(properties: Mapping[str, str]) -> str:
    """Java's properties format. Backslashes and line ends are escaped, so that PEM blocks survive."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def port_in_use(port: int) -> bool:
    """Whether something listens on loopback's ``port``, or holds it otherwise."""
    with socket.socket() as probe:
        # As Java does; else a port that was in use a moment ago would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port on loopback that nobody had a moment ago."""
    for _ in range(1000):
        port = random.choice(PORTS)
        if not port_in_use(port):
            return port
    raise SettingsError(f"no free port between {PORTS.start} and {PORTS.stop - 1}")
