"""What a run is told as: rows for a terminal, JSON, and the tables of ``docs/performance.md`` between their markers."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from streamproc.bench.check import TOLERANCE
from streamproc.bench.jobs import JOBS
from streamproc.bench.latency import Latencies
from streamproc.bench.run import Line
from streamproc.errors import SettingsError
from streamproc.log.broker.locked import Lock

HEAD = ("job", "events/s", "CPU s/M", "warm", "MB", "results")
_PACKAGES = ("aiokafka", "faust-streaming", "polars", "numpy", "numba", "confluent-kafka", "fastavro")


def rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """One row per job, under :data:`HEAD`."""
    return [
        (
            line.job,
            _thousands(line.median("durable_rate")),
            number(line.median("cpu_per_million")),
            number(line.median("warm_cpu_per_million")),
            f"{line.median('rss_mb'):.0f}",
            worth(line) + _beside_floor(line),
        )
        for line in lines
    ]


def worth(line: Line) -> str:
    """What its results are worth, over all rounds."""
    if line.wrong():
        some = next(v.wrong[0] for v in line.verdicts if v.wrong).split(", such as")[0]
        return f"**wrong** in {sum(bool(v.wrong) for v in line.verdicts)} of {len(line.verdicts)} rounds: {some}"
    verdict = line.verdicts[-1]
    text = f"{verdict.results:,}, all right"
    orders = {v.bits for v in line.verdicts}
    if orders == {"panes"}:
        text += ", sums in pane order to the bit"
    elif orders == {"events"}:
        text += ", sums in event order to the bit"
    if verdict.missing:
        text += f"; {verdict.missing:,} did not come"
    if verdict.beyond:
        text += f"; {verdict.beyond:,} of open windows"
    return text


def _beside_floor(line: Line) -> str:
    if not line.floors:
        return ""
    floor = sorted(line.floors)[len(line.floors) // 2]
    return f"; {line.median('cpu_per_million') / floor:.1f} times plain fastavro's {floor:.2f} CPU s/M"


def jobs_table(lines: Sequence[Line]) -> str:
    """The jobs as Markdown."""
    body = [(f"`{line.job}`: {JOBS[line.job].what}", *row[1:]) for line, row in zip(lines, rows(lines), strict=True)]
    return markdown(HEAD, body)


def latency_table(found: Latencies) -> str:
    """Latencies as Markdown."""
    body = []
    for way in found.p50:
        p50, p99 = found.median(way)
        body.append((way, f"{p50:.2f}", f"{p99:.2f}"))
    bare, ours = found.median("bare"), found.median("streamproc")
    body.append(("ratio", f"{ours[0] / bare[0]:.2f}", f"{ours[1] / bare[1]:.2f}"))
    if (flush := found.flush()) is not None:
        body.append(("flush", f"{flush[0]:.2f}", f"{flush[1]:.2f}"))
    return markdown(("way", "p50 ms", "p99 ms"), body)


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table; all columns but first and last are numbers."""
    marks = ["---", *["---:"] * (len(head) - 2), "---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, marks, *body))


def footer(command: str, rounds: int, what: str = "") -> str:
    """Under what a table was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in software().items())
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d')}, medians of {rounds} rounds{what}, by `{command}`. {machine()}; load {load:.1f} "
        f"at the end. {versions}."
    )


def machine() -> str:
    """The processor, in words."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{os.cpu_count()} cores of {found[1] if found else platform.machine()}"


def software() -> dict[str, str]:
    """Versions of what decides the speed."""
    found = {"Python": platform.python_version(), "Apache Kafka": Lock.read().kafka}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    if os.environ.get("STREAMPROC_COMPILED") == "0":
        found["numba"] = "not used"
    return found


def as_json(lines: Sequence[Line], latencies: Sequence[Latencies], command: str) -> bytes:
    """Everything, round by round."""
    told: Mapping[str, Any] = {
        "command": command,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "load": os.getloadavg(),
        "versions": software(),
        "tolerance": TOLERANCE,
        "throughput": lines,
        "latency": latencies,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2)


def write(path: Path, sections: Mapping[str, str]) -> None:
    """Replaces what stands between ``<!-- bench:begin NAME -->`` and ``<!-- bench:end NAME -->``.

    Raises:
        SettingsError: the file has no such markers; nothing was written.
    """
    text = path.read_text(encoding="utf-8")
    for name, body in sections.items():
        begin, end = f"<!-- bench:begin {name} -->", f"<!-- bench:end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise SettingsError(f"{path}: expected the lines {begin} and {end}, once each and in this order")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"
    path.write_text(text, encoding="utf-8")


def _thousands(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:,.0f} k"


def number(value: float) -> str:
    """Three digits or so; a dash for what is not known."""
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
