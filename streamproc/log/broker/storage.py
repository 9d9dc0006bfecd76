"""Formats a data folder for Kafka without starting a Java for it.

Kafka wants two things before its first start: ``meta.properties``, which names the node and the cluster, and a first
snapshot of the metadata log, which says at which level each feature is. The snapshot is the same for every cluster, so
that Kafka's own tool makes it once per version (``prepare``), and it is copied from then on.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import uuid
from pathlib import Path

from streamproc.errors import BrokerStartError
from streamproc.log.broker.config import BrokerConfig, log_dir, server_properties, to_text

METADATA = "__cluster_metadata-0"


def lay_out(config: BrokerConfig, snapshot: Path) -> Path:
    """Makes the folder ready for a start, and keeps what is there. Returns the path of ``server.properties``.

    Raises:
        BrokerStartError: the folder cannot be written.
    """
    properties = server_properties(config)
    assert config.data_dir is not None
    file = config.data_dir / "server.properties"
    try:
        temporary(config.data_dir).mkdir(parents=True, exist_ok=True)
        file.write_text(to_text(properties))
        file.chmod(0o600)  # it may hold passwords and keys
        if not (log_dir(config.data_dir) / "meta.properties").exists():
            _format(config, log_dir(config.data_dir), snapshot)
    except OSError as error:
        raise BrokerStartError(f"the data folder {config.data_dir} cannot be written: {error}") from error
    return file


def claimed(data_dir: Path) -> int:
    """An open file that holds a data folder against other brokers until the last process that has it is gone.

    Kafka's own lock comes late: only after it has read the metadata log, and maybe written to it.

    Raises:
        BrokerStartError: the folder cannot be written, or another broker has it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        claim = os.open(data_dir / "claim", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise BrokerStartError(f"the data folder {data_dir} cannot be written: {error}") from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        raise BrokerStartError(
            f"another broker runs on this data folder, {data_dir}: stop it, or choose another"
        ) from None
    return claim


def temporary(data_dir: Path) -> Path:
    """Where Java may put its own temporary files."""
    return data_dir / "tmp"


def _format(config: BrokerConfig, folder: Path, snapshot: Path) -> None:
    (folder / METADATA).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(snapshot, folder / METADATA / snapshot.name)
    cluster = config.cluster_id or random_id()
    words = {"version": "1", "cluster.id": cluster, "node.id": str(config.node), "directory.id": random_id()}
    draft = folder / "meta.properties.draft"
    draft.write_text(to_text(words))
    os.replace(draft, folder / "meta.properties")  # last: a folder with it is a formatted one


def random_id() -> str:
    """A Kafka ``Uuid``: 22 characters of URL-safe base64, not beginning with a dash, as Kafka's own."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
