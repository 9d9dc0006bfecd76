"""The maintainers' command that writes ``lock.toml``.

``python -m streamproc.log.broker.lock [VERSION]`` resolves Apache Kafka anew (the newest release when no version is
given), fetches every jar, and rewrites the file with their sizes and checksums.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streamproc.log.broker.locked import Jar, Lock, sha256

KAFKA = "org.apache.kafka:kafka_2.13"
#: Kafka logs through slf4j and brings no backend. This one is 15 kB and needs no configuration file.
LOGGING = "org.slf4j:slf4j-simple:1.7.36"


def resolve(version: str | None = None) -> Lock:
    """Kafka's runtime dependencies as the repository has them today, each fetched and measured."""
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(scratch), timeout=60)
        project = context.project(*KAFKA.split(":"))
        project.update()
        version = version or project.release
        wanted = [context.create_dependency(f"{KAFKA}:{version}"), context.create_dependency(LOGGING)]
        roots, others = context.resolver.resolve(wanted)
        artifacts = [dependency.artifact for dependency in (*roots, *others)]
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(lambda artifact: artifact.resolve(), artifacts))
        names = [f"{a.groupId}:{a.artifactId}:{a.version}" for a in artifacts]
        return Lock(str(version), tuple(_measured(zip(names, paths, strict=True))))


def _measured(found: Iterable[tuple[str, Path]]) -> Iterable[Jar]:
    for coordinate, path in sorted(found):
        yield Jar(coordinate, path.stat().st_size, sha256(path))


def main() -> None:
    lock = resolve(sys.argv[1] if len(sys.argv) > 1 else None)
    lock.write()
    print(f"Apache Kafka {lock.kafka}: {len(lock.jars)} jars, {sum(jar.size for jar in lock.jars) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
