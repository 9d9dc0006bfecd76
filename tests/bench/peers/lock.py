"""The maintainers' command that writes a file of ``jars/``: ``python -m tests.bench.peers.lock NAME COORDINATE…``.

Coordinates are ``group:artifact:version``, all of them: what depends on what is Maven's to say, by
``mvn dependency:list``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from streamproc.log.broker.locked import sha256
from tests.bench.peers.install import HERE, resolve


def main(name: str, *coordinates: str) -> None:
    """Fetches each jar and writes down its size and checksum."""
    lines = ["# Written by `python -m tests.bench.peers.lock`; do not edit."]
    with tempfile.TemporaryDirectory() as scratch:
        for coordinate in sorted(coordinates):
            path = resolve(coordinate, Path(scratch))
            lines += ["", "[[jar]]", f'coordinate = "{coordinate}"', f"size = {path.stat().st_size}"]
            lines += [f'sha256 = "{sha256(path)}"']
    (HERE / "jars" / f"{name}.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
