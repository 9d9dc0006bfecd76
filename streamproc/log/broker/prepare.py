"""What is made once per version of Kafka and Java, and kept beside the jars: first snapshot and archive of classes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from streamproc.errors import BrokerStartError, StreamprocError
from streamproc.log.broker.config import HOST, BrokerConfig, free_port, log_dir, server_properties, to_text
from streamproc.log.broker.exercise import exercise
from streamproc.log.broker.jars import OnProgress, Progress, cache_dir, exclusive
from streamproc.log.broker.java import Java
from streamproc.log.broker.jvm import KAFKA, STORAGE, command
from streamproc.log.broker.locked import Lock
from streamproc.log.broker.node import Node
from streamproc.log.broker.storage import METADATA, lay_out, random_id, temporary

#: Kafka's name for a metadata snapshot at offset 0, epoch 0.
SNAPSHOT = "00000000000000000000-0000000000.checkpoint"


class Prepared(NamedTuple):
    """``archive`` is None where Java cannot use one, or where it could not be made."""

    snapshot: Path
    archive: Path | None


def prepare(lock: Lock, jars: Sequence[Path], java: Java, on_progress: OnProgress | None = None) -> Prepared:
    """The files to start with; made now if they are not there, which takes about fifteen seconds.

    Raises:
        BrokerStartError: Kafka's own tool does not run.
    """
    folder = cache_dir(lock) / f"{lock.digest}-java-{java.version}"
    snapshot, archive = folder / SNAPSHOT, folder / "kafka.aot"
    if not (snapshot.exists() and (archive.exists() or not java.archives)):
        with exclusive(cache_dir(lock)):
            folder.mkdir(exist_ok=True)
            if on_progress:
                on_progress(Progress(f"preparing Apache Kafka {lock.kafka} (once)"))
            if not snapshot.exists():
                _make_snapshot(java, jars, snapshot)
            if java.archives and not archive.exists():
                _make_archive(java, jars, snapshot, archive)
    return Prepared(snapshot, archive if java.archives and archive.stat().st_size else None)


def _make_snapshot(java: Java, jars: Sequence[Path], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        config = BrokerConfig(Path(scratch), free_port(), free_port())
        file = Path(scratch, "server.properties")
        file.write_text(to_text(server_properties(config)))
        words = command(java, jars, STORAGE, "format", "-t", random_id(), "-c", str(file), tmp=Path(scratch))
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        made = log_dir(Path(scratch)) / METADATA / SNAPSHOT
        if done.returncode or not made.exists():
            told = (done.stderr + done.stdout).strip().splitlines()[-5:]
            raise BrokerStartError("\n  ".join([f"Kafka's storage tool failed with code {done.returncode}", *told]))
        made.chmod(0o644)
        os.replace(made, target)


def _make_archive(java: Java, jars: Sequence[Path], snapshot: Path, target: Path) -> None:
    """Runs a broker through what clients do, and has Java write down the classes that this took.

    Where that fails, an empty file stands for "not here", so that it is not tried at every start.
    """
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    made = scratch / "kafka.aot"
    try:
        config = replace(BrokerConfig(scratch), port=free_port(), controller_port=free_port())
        assert config.port is not None
        file = lay_out(config, snapshot)
        words = command(java, jars, KAFKA, str(file), tmp=temporary(scratch), record=made)
        node = Node(words, config.port, scratch / "broker.log", remove=scratch)
        try:
            node.wait_ready(60)
            exercise(f"{HOST}:{config.port}")
        finally:
            node.terminate(120)  # the archive is written when it ends
    except StreamprocError:
        pass
    finally:
        made.touch()
        os.replace(made, target)
        shutil.rmtree(scratch, ignore_errors=True)
