"""Kafka's jars on this machine: fetched once, checked, kept per user, used offline from then on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from streamproc.errors import BrokerStartError
from streamproc.log.broker.locked import Jar, Lock, sha256

#: More connections than this gained nothing when it was measured.
CONNECTIONS = 8
#: Every jar gets this modification time: Java binds its archive of classes to it, which so survives a second fetch.
MODIFIED = 1_000_000_000


class Progress(NamedTuple):
    """How far a stage of starting is: finished files, and their bytes. ``total`` is 0 with nothing to count."""

    stage: str
    done: int = 0
    total: int = 0
    done_bytes: int = 0
    total_bytes: int = 0


OnProgress = Callable[[Progress], None]


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """``$STREAMPROC_CACHE``, else ``$XDG_CACHE_HOME/streamproc``, else ``~/.cache/streamproc``."""
    environ = os.environ if environ is None else environ
    if own := environ.get("STREAMPROC_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "streamproc"


def cache_dir(lock: Lock) -> Path:
    """Where everything about this version of Kafka is kept."""
    return cache_root() / f"kafka-{lock.kafka}"


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the cache against other processes; waits for them. Released by the system if this process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise BrokerStartError(
            f"the cache {folder} cannot be written ({error.strerror}): set STREAMPROC_CACHE to a folder that can"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(lock: Lock, on_progress: OnProgress | None = None) -> list[Path]:
    """Paths of all locked jars, in the lock's order; those that are missing are fetched and checked first.

    A jar that is there with the right size was checked when it came, since only checked files are moved into place.
    ``$STREAMPROC_MAVEN`` is the URL of a Maven repository to use instead of the public one.

    Raises:
        BrokerStartError: a jar is missing and cannot be fetched, or it is not the one that was locked.
    """
    folder = cache_dir(lock) / "jars"
    paths = [folder / jar.filename for jar in lock.jars]
    if all(map(_there, paths, lock.jars)):
        return paths
    with exclusive(cache_dir(lock)):
        folder.mkdir(exist_ok=True)
        missing = [jar for path, jar in zip(paths, lock.jars, strict=True) if not _there(path, jar)]
        if missing:
            _fetch_missing(missing, folder, f"fetching Apache Kafka {lock.kafka}", on_progress)
    return paths


def _there(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size
    except OSError:
        return False


def _fetch_missing(jars: list[Jar], folder: Path, stage: str, on_progress: OnProgress | None) -> None:
    total_bytes = sum(jar.size for jar in jars)
    counting = threading.Lock()
    done: list[int] = []

    def one(jar: Jar) -> None:
        _fetch_one(jar, scratch, folder)
        with counting:
            done.append(jar.size)
            if on_progress:
                on_progress(Progress(stage, len(done), len(jars), sum(done), total_bytes))

    if on_progress:
        on_progress(Progress(stage, 0, len(jars), 0, total_bytes))
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        # The largest first, so that the last connection to finish is not alone with it.
        for result in [pool.submit(one, jar) for jar in sorted(jars, key=lambda jar: -jar.size)]:
            result.result()
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_one(jar: Jar, scratch: Path, folder: Path) -> None:
    import requests

    try:
        path = _context(scratch).create_dependency(jar.coordinate).artifact.resolve()
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise BrokerStartError(
            f"{jar.coordinate} is not in the cache ({folder}) and cannot be fetched: {_reason(error)}. "
            "Connect to the network once, or set STREAMPROC_CACHE to a folder that holds it, "
            "or use a broker of your own with --bootstrap"
        ) from error
    found = sha256(path)
    if found != jar.sha256:
        raise BrokerStartError(
            f"{jar.coordinate} was fetched with sha256 {found}, but {jar.sha256} is locked: "
            "it was changed on its way or at its source, and is not used"
        )
    os.utime(path, (MODIFIED, MODIFIED))
    path.replace(folder / jar.filename)


def _context(scratch: Path) -> Any:
    from jgo.maven import MavenContext, PythonResolver

    mirror = os.environ.get("STREAMPROC_MAVEN")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(resolver=PythonResolver(), repo_cache=scratch, remote_repos=remotes, timeout=30)


def _reason(error: Exception) -> str:
    """One line; connection errors nest their cause in parentheses, which nobody reads."""
    import requests

    if isinstance(error, requests.ConnectionError):
        return "no connection to the Maven repository"
    if isinstance(error, requests.Timeout):
        return "the Maven repository does not answer"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
