"""Data sets that come with the packages, as events. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamproc.errors import SettingsError

UNITS = 8
_STEP_MS = 100  # event time between two readings of the replay


class Reading(NamedTuple):
    """One event: its id, its fields, and the label where the data set has one."""

    id: str
    data: dict[str, Any]
    label: int | None


def shuttle(run: str, start_ms: int) -> Iterator[Reading]:
    """NASA's Shuttle readings from River's copy: 49,097 of nine sensors, 3,511 labelled anomalous.

    Dealt out to eight units in turn, each reading a tenth of a second after the last. The labels are for who judges the
    scores; they are not in the events.

    Args:
        run: put before each id, so that two replays do not meet.
        start_ms: the first reading's time, in milliseconds since the epoch.
    """
    from river import datasets

    for i, (features, label) in enumerate(datasets.Shuttle()):
        sensors = {f"s{n}": float(features[f"f{n}"]) for n in range(1, 10)}
        data = {"unit": f"unit-{i % UNITS}", "ts": start_ms + i * _STEP_MS, **sensors}
        yield Reading(f"{run}-{i}", data, int(label))


def json_lines(path: Path, run: str, id_field: str | None) -> Iterator[Reading]:
    """A file of JSON objects, one a line."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                data = json.loads(line)
            except ValueError as error:
                raise SettingsError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(data, dict):
                raise SettingsError(f"{path}:{number}: expected a JSON object")
            yield Reading(str(data[id_field]) if id_field in data else f"{run}-{number}", data, None)


def open_dataset(name: str, run: str, start_ms: int, id_field: str | None = None) -> Iterator[Reading]:
    """``shuttle``, or a path to a file of JSON lines. Raises SettingsError for anything else."""
    if name == "shuttle":
        return shuttle(run, start_ms)
    if Path(name).is_file():
        return json_lines(Path(name), run, id_field)
    raise SettingsError(f"no data set {name!r}: expected shuttle, or a file of JSON objects, one a line")
