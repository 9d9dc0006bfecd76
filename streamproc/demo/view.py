"""What a run looks like in a terminal, while it goes on and at its end."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn
from rich.table import Table
from rich.text import Text

from streamproc.define.duration import written
from streamproc.demo.account import quantile, roc_auc
from streamproc.demo.run import LISTENERS, PUBLISHERS, Demo

_EVERY = 2.0  # seconds between two lines
_RECENT = 2000  # latencies that the running figures are taken from


def summary(demo: Demo) -> tuple[Table, list[str]]:
    """The closing table, and what is wrong: empty when every event and result is accounted for."""
    books = demo.books
    wrong = faults(demo)
    labels = {r.id: r.label for r in demo.readings if r.id in books.readings and r.label is not None}
    subscribers = len(books.score_subscribers)
    bars, wrong_bars = len(books.bars), len(books.wrong_bars())
    p50, p99 = (quantile(books.latencies, q) for q in (0.5, 0.99))
    rate = demo.acked / demo.seconds if demo.seconds else 0.0
    rows = {
        "events in": f"{demo.sent:,} sent, {demo.acked:,} acknowledged by Kafka, {demo.refused:,} refused",
        "scores out": f"{len(books.scores):,} to each of {subscribers} subscribers; "
        f"{books.missing_scores():,} lost, {books.doubled():,} doubled, {books.left_out():,} left out",
        "windows out": f"{bars:,}, each computed here a second time: "
        + ("all are equal" if not wrong_bars else f"{wrong_bars:,} are wrong or missing"),
        "spikes out": f"{len(books.spikes.ids):,} of {len(books.expected_spikes()):,}",
        "closed loop": f"p50 {p50:.1f} ms, p99 {p99:.1f} ms from sending an event to receiving its score, "
        f"at {rate:,.0f} events/s",
        "model": f"ROC AUC {roc_auc(labels, books.scores):.3f} against {sum(labels.values()):,} labelled anomalies",
    }
    title = "every event and every result is accounted for" if not wrong else "the books do not balance"
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold green" if not wrong else "bold red", box=None
    )
    table.show_header = False
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
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

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        demo = self._demo
        if not force and (time.monotonic() - self._last < _EVERY or not demo.sent):
            return
        self._last = time.monotonic()
        print(
            f"{demo.acked:>7,} acknowledged, {len(demo.books.scores):>7,} scored, {len(demo.books.bars):>5,} windows, "
            f"{demo.waiting_for or _loop(demo)}",
            flush=True,
        )


class LiveView:
    """A table that moves: for people."""

    def __init__(self, demo: Demo, console: Console) -> None:
        self._demo = demo
        columns = ("[bold]{task.description}", BarColumn(), TaskProgressColumn(), "{task.fields[note]}")
        self._progress = Progress(*columns)
        total = len(demo.readings)
        self._sent = self._progress.add_task("events in", total=total, note="")
        self._scored = self._progress.add_task("scores out", total=total, note="")
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self) -> None:
        demo = self._demo
        books = demo.books
        self._progress.update(self._sent, completed=demo.acked, note=f"{demo.acked:,} in Kafka")
        self._progress.update(self._scored, completed=len(books.scores), note=_loop(demo))
        crowd = (
            f"{PUBLISHERS} publishers, {PUBLISHERS + LISTENERS + 2} subscriptions, {len(books.bars):,} windows, "
            f"{len(books.spikes.ids):,} spikes"
        )
        self._live.update(Group(self._progress, self._units(), Text(demo.waiting_for or crowd, style="dim")))

    def _units(self) -> Table:
        size = written(self._demo.books.window.size)
        table = Table(
            "unit", f"last {size} until", "readings", "mean s1", "peak s4", box=None, header_style="bold cyan"
        )
        for column in table.columns[2:]:
            column.justify = "right"
        for unit, bar in sorted(self._demo.last_bars.items()):
            ended = time.strftime("%H:%M:%S", time.localtime(float(str(bar["end"])) / 1000))
            table.add_row(unit, ended, str(bar["n"]), f"{bar['mean']:.2f}", f"{bar['peak']:.0f}")
        if not self._demo.last_bars:
            table.add_row("…", "soon", "", "", "")
        return table


def _loop(demo: Demo) -> str:
    """The latest latencies."""
    recent = demo.books.latencies[-_RECENT:]
    return f"p50 {quantile(recent, 0.5):.1f} ms, p99 {quantile(recent, 0.99):.1f} ms" if recent else "no score yet"
