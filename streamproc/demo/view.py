"""What a run looks like in a terminal, while it goes on and at its end."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from streamproc.demo.account import Books, quantile, roc_auc
from streamproc.demo.run import LISTENERS, PUBLISHERS, Demo

_RECENT = 2000  # latencies that the running figures are taken from


def summary(demo: Demo) -> tuple[Table, list[str]]:
    """The closing table, and what is wrong: empty when every event and result is accounted for."""
    books = demo.books
    wrong = faults(demo)
    labels = {id: label for account in demo.accounts for id, label in account.labels.items()}
    anomalies = sum(labels.values())
    expected_spikes = len(books.expected_spikes())
    subscribers = len(books.score_subscribers)
    table = Table(
        title="Shuttle: every event accounted for" if not wrong else "Shuttle: the books do not balance", box=None
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("events in", f"{demo.sent:,} sent, {demo.acked:,} acknowledged by Kafka, {demo.refused:,} refused")
    table.add_row(
        "scores out",
        f"{len(books.scores):,} to each of {subscribers} subscribers; {books.missing_scores():,} lost, "
        f"{books.doubled():,} doubled, {books.left_out():,} left out",
    )
    table.add_row(
        "bars out", f"{len(books.bars):,} windows, recomputed from the readings: {len(books.wrong_bars()):,} differ"
    )
    table.add_row("spikes out", f"{len(books.spikes.ids):,} of {expected_spikes:,}")
    table.add_row(
        "closed loop",
        f"p50 {quantile(books.latencies, 0.5):.1f} ms, p99 {quantile(books.latencies, 0.99):.1f} ms, publish to score "
        f"at {demo.acked / demo.seconds:,.0f} events/s",
    )
    table.add_row("model", f"ROC AUC {roc_auc(labels, books.scores):.3f} against {anomalies:,} labelled anomalies")
    return table, wrong


def faults(demo: Demo) -> list[str]:
    """What is not as it should be."""
    books = demo.books
    checks: list[tuple[int, str]] = [
        (demo.refused, "events were refused"),
        (demo.sent - demo.acked - demo.refused, "events have no answer"),
        (books.missing_scores(), "scores were lost"),
        (books.doubled(), "results were doubled"),
        (books.foreign(), "scores are of events that were never sent"),
        (books.left_out(), "results were left out for slow subscribers"),
        (len(books.expected_spikes() ^ books.spikes.ids.keys()), "spikes are missing or wrong"),
    ]
    found = [f"{count:,} {what}" for count, what in checks if count]
    bars = books.wrong_bars()
    return found + bars[:3] + ([f"… and {len(bars) - 3:,} more bars"] if len(bars) > 3 else [])


class PlainView:
    """A line every two seconds: for logs."""

    def __init__(self, demo: Demo) -> None:
        self._demo, self._last = demo, 0.0
        self.waiting = ""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        if force or time.monotonic() - self._last > 2:
            self._last = time.monotonic()
            books = self._demo.books
            print(
                f"{self._demo.acked:>7,} acknowledged  {len(books.scores):>7,} scores  {len(books.bars):>5,} bars  "
                f"p50 {quantile(books.latencies[-_RECENT:], 0.5):.1f} ms  {self.waiting}".rstrip(),
                flush=True,
            )


class LiveView:
    """A table that moves: for people."""

    def __init__(self, demo: Demo, console: Console) -> None:
        self._demo = demo
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(40),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
        )
        total = len(demo.readings)
        self._sent = self._progress.add_task("events in ", total=total, note="")
        self._scored = self._progress.add_task("scores out", total=total, note="")
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self.waiting = ""

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self) -> None:
        books = self._demo.books
        self._progress.update(
            self._sent, completed=self._demo.acked, note=f"{self._demo.acked:,} acknowledged by Kafka"
        )
        p50, p99 = (quantile(books.latencies[-_RECENT:], q) for q in (0.5, 0.99))
        self._progress.update(
            self._scored, completed=len(books.scores), note=f"closed loop p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
        crowd = f"{PUBLISHERS} publishers, {PUBLISHERS + LISTENERS + 2} subscriptions, {len(books.spikes.ids):,} spikes"
        self._live.update(Group(self._progress, self._units(books), Text(self.waiting or crowd, style="dim")))

    def _units(self, books: Books) -> Table:
        table = Table(
            "unit", "window of 10 s ended", "readings", "mean s1", "peak s4", box=None, header_style="bold cyan"
        )
        for column in table.columns[2:]:
            column.justify = "right"
        for unit, bar in sorted(self._demo.last_bars.items()):
            ended = time.strftime("%H:%M:%S", time.localtime(float(str(bar["end"])) / 1000))
            table.add_row(unit, ended, str(bar["n"]), f"{bar['mean']:.2f}", f"{bar['peak']:.0f}")
        if not self._demo.last_bars:
            table.add_row("…", "the first window closes soon", "", "", "")
        return table
