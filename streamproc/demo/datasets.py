"""Data sets that come with the packages, as events. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamproc.errors import SettingsError

UNITS = 4


class Reading(NamedTuple):
    """One event: its id, its fields, its label where the data set has one, and the field to be set to the time of
    sending.
    """

    id: str
    data: dict[str, Any]
    label: int | None = None
    time: str | None = None


def shuttle(run: str) -> Iterator[Reading]:
    """NASA's Shuttle readings from River's copy: 49,097 of nine sensors, 3,511 labelled anomalous.

    Dealt out to four units in turn. ``ts`` is left to who publishes: when it is sent. The labels are for who judges
    the scores; they are not in the events.

    Args:
        run: put before each id, so that two replays do not meet.
    """
    from river import datasets  # takes a second: now, and not while the first event is waited for

    def reading(i: int, features: dict[str, int], label: int) -> Reading:
        sensors = {f"s{n}": float(features[f"f{n}"]) for n in range(1, 10)}
        return Reading(f"{run}-{i}", {"unit": f"unit-{i % UNITS}", **sensors}, int(label), "ts")

    return (reading(i, features, label) for i, (features, label) in enumerate(datasets.Shuttle()))


def json_lines(path: Path, run: str, id_field: str | None) -> Iterator[Reading]:
    """A file of JSON objects, one a line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
            except ValueError as error:
                raise SettingsError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(data, dict):
                raise SettingsError(f"{path}:{number}: expected a JSON object")
            yield Reading(str(data[id_field]) if id_field in data else f"{run}-{number}", data)


def open_dataset(name: str, run: str, id_field: str | None = None) -> Iterator[Reading]:
    """``shuttle``, or a path to a file of JSON lines. Raises SettingsError for anything else."""
    if name == "shuttle":
        return shuttle(run)
    if Path(name).is_file():
        return json_lines(Path(name), run, id_field)
    raise SettingsError(f"no data set {name!r}: expected shuttle, or a file of JSON objects, one a line")
