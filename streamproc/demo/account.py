"""Keeps the books of a run: what went in, what must come out, what did."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App
from streamproc.define.windows import AlignedWindow
from streamproc.errors import DefinitionError

SPIKE_ABOVE = 100.0  # as topologies/shuttle.py has it
_TOLERANCE = 1e-9  # a mean's: the worker adds floats pane by pane, this account one after another


@dataclass(slots=True)
class Received:
    """What one subscriber got, by the id of the cause or, of bars, by unit and window."""

    ids: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


@dataclass(slots=True)
class Books:
    """Everything that a run is judged by. ``window`` is that of the bars."""

    window: AlignedWindow
    readings: dict[str, dict[str, Any]] = field(default_factory=dict)  # acknowledged, by id
    scores: dict[str, float] = field(default_factory=dict)
    bars: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    bars_doubled: int = 0
    bars_left_out: int = 0
    score_subscribers: list[Received] = field(default_factory=list)
    spikes: Received = field(default_factory=Received)
    latencies: list[float] = field(default_factory=list)  # seconds from publish to score, on the same connection

    def missing_scores(self) -> int:
        """Readings that some subscriber has no score for."""
        return sum(len(self.readings.keys() - subscriber.ids.keys()) for subscriber in self.score_subscribers)

    def doubled(self) -> int:
        """Results that came more than once to one subscriber."""
        everybody = [*self.score_subscribers, self.spikes]
        return self.bars_doubled + sum(n - 1 for received in everybody for n in received.ids.values())

    def foreign(self) -> int:
        """Results of readings that were never acknowledged."""
        return sum(len(subscriber.ids.keys() - self.readings.keys()) for subscriber in self.score_subscribers)

    def expected_spikes(self) -> set[str]:
        return {id for id, reading in self.readings.items() if reading["s1"] > SPIKE_ABOVE}

    def expected_bars(self) -> dict[tuple[str, int], tuple[int, float, float]]:
        """By unit and window start: count, mean of s1, greatest s4, computed here from the readings."""
        windows: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for reading in self.readings.values():
            for start in windows_of(reading["ts"], self.window):
                windows.setdefault((reading["unit"], start), []).append(reading)
        return {
            at: (len(rows), math.fsum(r["s1"] for r in rows) / len(rows), max(r["s4"] for r in rows))
            for at, rows in windows.items()
        }

    def wrong_bars(self) -> list[str]:
        """Bars that are missing, left over or not what they should be."""
        expected = self.expected_bars()
        wrong = [f"no bar for {at}" for at in expected.keys() - self.bars.keys()]
        wrong += [f"a bar for {at}, where nothing was read" for at in self.bars.keys() - expected.keys()]
        for at, (n, mean, peak) in expected.items():
            bar = self.bars.get(at)
            if bar and not (
                bar["n"] == n and bar["peak"] == peak and math.isclose(bar["mean"], mean, rel_tol=_TOLERANCE)
            ):
                wrong.append(f"bar {at}: expected n={n} mean={mean} peak={peak}; got {bar}")
        return wrong

    def left_out(self) -> int:
        """Results that the gateway said it left out for a slow subscriber."""
        return self.bars_left_out + sum(received.left_out for received in (*self.score_subscribers, self.spikes))


def window_of(app: App, name: str) -> AlignedWindow:
    """The window of an aggregation. Raises DefinitionError where there is none of that name with aligned windows."""
    found = app.agents.get(name)
    if not (isinstance(found, Aggregation) and isinstance(found.window, AlignedWindow)):
        raise DefinitionError(
            f"the demonstration needs an aggregation {name!r} over aligned windows; app {app.name!r} has none"
        )
    return found.window


def windows_of(ts: int, window: AlignedWindow) -> Iterable[int]:
    """Starts of the windows that an event is in."""
    last = ts // window.step * window.step
    return range(last, ts - window.size, -window.step)


def quantile(seconds: list[float], q: float) -> float:
    """In milliseconds; NaN of nothing."""
    return float(np.quantile(seconds, q)) * 1000 if seconds else math.nan


def roc_auc(labels: dict[str, int], scores: dict[str, float]) -> float:
    """Area under the ROC curve of the scores against the labels."""
    from sklearn.metrics import roc_auc_score

    ids = [id for id in labels if id in scores]
    if len({labels[id] for id in ids}) < 2:
        return math.nan
    return float(roc_auc_score([labels[id] for id in ids], [scores[id] for id in ids]))
