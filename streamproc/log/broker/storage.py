"""Formats a data folder for Kafka without starting a Java for it.

Kafka wants two things before its first start: ``meta.properties``, which names the node and the cluster, and a first
snapshot of the metadata log, which says at which level each feature is. The snapshot is the same for every cluster, so
that Kafka's own tool makes it once per version (``prepare``), and it is copied from then on.
"""

from __future__ import annotations

import base64
import os
import shutil
import uuid
from pathlib import Path

from streamproc.errors import BrokerStartError
from streamproc.log.broker.config import NODE, BrokerConfig, log_dir, server_properties, to_text

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
            _format(log_dir(config.data_dir), snapshot)
    except OSError as error:
        raise BrokerStartError(f"the data folder {config.data_dir} cannot be written: {error}") from error
    return file


def temporary(data_dir: Path) -> Path:
    """Where Java may put its own temporary files."""
    return data_dir / "tmp"


def _format(folder: Path, snapshot: Path) -> None:
    (folder / METADATA).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(snapshot, folder / METADATA / snapshot.name)
    words = {"version": "1", "cluster.id": random_id(), "node.id": str(NODE), "directory.id": random_id()}
    draft = folder / "meta.properties.draft"
    draft.write_text(to_text(words))
    os.replace(draft, folder / "meta.properties")  # last: a folder with it is a formatted one


def random_id() -> str:
    """A Kafka ``Uuid``: 22 characters of URL-safe base64, not beginning with a dash, as Kafka's own."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
