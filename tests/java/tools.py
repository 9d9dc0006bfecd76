"""Kafka's own command-line tools: the console consumer, and the dump of a log segment."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamproc.log.broker.jars import fetch
from streamproc.log.broker.java import find_java
from streamproc.log.broker.jvm import command
from streamproc.log.broker.locked import Lock
from tests.java.client import Row

CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
_BYTES = "org.apache.kafka.common.serialization.BytesDeserializer"
_LOCK = Path(__file__).with_name("lock.toml")
_SECONDS = 60
_NULL, _NULL_SAID = r"\N", r"\x5CN"  # the word for null is printed as bytes are
_ESCAPED = re.compile(r"\\x([0-9A-F]{2})")


@dataclass(frozen=True)
class Dumped:
    """A batch of a segment, as the dump tells of it: its line by names, and the keys of its records' headers."""

    told: dict[str, str]
    header_keys: list[list[str]]

    def __getitem__(self, name: str) -> str:
        return self.told[name]


def console(bootstrap: str, topic: str, count: int, *, partition: int = 0, committed_only: bool = False) -> list[Row]:
    """The first ``count`` records of a partition by the Java console consumer; it waits at most ten seconds for each.

    The bytes ``\\N`` come as None: the console does not tell them from its word for null.
    """
    printed = ("timestamp", "offset", "headers", "key", "value")
    words = ["--bootstrap-server", bootstrap, "--topic", topic, "--partition", str(partition), "--offset", "earliest"]
    words += ["--max-messages", str(count), "--timeout-ms", "10000"]
    words += _properties(*(f"print.{name}=true" for name in printed), f"null.literal={_NULL}", "headers.separator=\x1f")
    words += _properties(*(f"{part}.deserializer={_BYTES}" for part in ("key", "value", "headers")))
    if committed_only:
        words += ["--command-property", "isolation.level=read_committed"]
    return [_row(line) for line in _run(CONSOLE, words).splitlines()]


def dump(segments: Path) -> list[Dumped]:
    """All batches of the log segments in a partition's folder, each record of them checked by Kafka's own classes."""
    files = ",".join(sorted(map(str, segments.glob("*.log"))))
    batches: list[Dumped] = []
    for line in _run(DUMP, ["--files", files, "--deep-iteration"]).splitlines():
        if line.startswith("baseOffset:"):
            batches.append(Dumped(dict(re.findall(r"(\w+): (\S+)", line)), []))
        elif found := re.search(r"^\| offset: .* headerKeys: \[(.*?)\]", line):
            batches[-1].header_keys.append([key for key in found[1].split(",") if key])
    return batches


def _properties(*given: str) -> list[str]:
    return [word for each in given for word in ("--formatter-property", each)]


def _run(main: str, words: Sequence[str]) -> str:
    jars = [*fetch(Lock.read(_LOCK)), *fetch(Lock.read())]
    done = subprocess.run(command(find_java(), jars, main, *words), capture_output=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def _row(line: str) -> Row:
    stamp, offset, headers, key, value = line.split("\t")
    pairs = [] if headers == "NO_HEADERS" else [each.partition(":") for each in headers.split("\x1f")]
    return Row(
        _bytes(key),
        _bytes(value),
        int(stamp.rpartition(":")[2]),
        [(name, _bytes(said)) for name, _, said in pairs],
        int(offset.removeprefix("Offset:")),
    )


def _bytes(said: str) -> bytes | None:
    if said == _NULL_SAID:
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), said).encode("latin-1")
