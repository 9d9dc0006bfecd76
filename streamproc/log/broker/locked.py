"""Which jars the embedded broker is made of: ``lock.toml``, written by ``python -m streamproc.log.broker.lock``."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("lock.toml")


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar. ``coordinate`` is ``group:artifact:version``, ``size`` is in bytes, ``sha256`` in hex."""

    coordinate: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass(frozen=True, slots=True)
class Lock:
    """A version of Apache Kafka and all jars that it runs with."""

    kafka: str
    jars: tuple[Jar, ...]

    @property
    def digest(self) -> str:
        """Changes with any jar: names what was derived from them."""
        return hashlib.sha256("".join(jar.sha256 for jar in self.jars).encode()).hexdigest()[:12]

    @classmethod
    def read(cls, path: Path = FILE) -> Lock:
        data = tomllib.loads(path.read_text())
        return cls(data["kafka"], tuple(Jar(**jar) for jar in data["jar"]))

    def write(self, path: Path = FILE) -> None:
        lines = [
            "# What the embedded broker is made of. Written by `python -m streamproc.log.broker.lock`; do not edit.",
            f'kafka = "{self.kafka}"',
        ]
        for jar in self.jars:
            lines += ["", "[[jar]]", f'coordinate = "{jar.coordinate}"']
            lines += [f"size = {jar.size}", f'sha256 = "{jar.sha256}"']
        path.write_text("\n".join(lines) + "\n")


def sha256(path: Path) -> str:
    """The file's checksum, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
