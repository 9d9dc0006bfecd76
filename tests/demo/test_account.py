"""The books of the demonstration: what is lost, doubled or wrong shows."""

import types

import msgspec
import numpy as np
import pytest
from rich.console import Console

from streamproc import hopping, tumbling
from streamproc.cli import demo as cli
from streamproc.cli.main import main
from streamproc.demo.account import Books, Received, quantile, roc_auc, window_of, windows_of
from streamproc.demo.datasets import Reading, open_dataset
from streamproc.demo.view import faults, summary
from streamproc.errors import DefinitionError, SettingsError
from topologies.shuttle import app

WINDOW = hopping("5s", "1s")
START = 1_700_000_000_000


@pytest.fixture
def demo():
    """A run that went well: 40 readings of two units, one a second, two subscribers."""
    readings = [
        Reading(
            f"r{n}", {"unit": f"unit-{n % 2}", "ts": 1_700_000_000_000 + n * 500, "s1": 97.0 + n % 5, "s4": float(n)}
        )
        for n in range(40)
    ]
    books = Books(WINDOW)
    books.readings = {reading.id: reading.data for reading in readings}
    books.scores = {reading.id: n / 40 for n, reading in enumerate(readings)}
    for _ in range(2):
        received = Received()
        received.ids.update(list(books.readings))
        books.score_subscribers.append(received)
    books.spikes.ids.update(reading.id for reading in readings if reading.data["s1"] > 100)
    books.bars = {
        (unit, start): {"unit": unit, "start": start, "n": n, "mean": mean, "peak": peak}
        for (unit, start), (n, mean, peak) in books.expected_bars().items()
    }
    books.latencies = [0.002] * 40
    return types.SimpleNamespace(books=books, readings=readings, sent=40, acked=40, refused=0, seconds=1.0)


def printed(demo):
    table, wrong = summary(demo)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table)
    return console.export_text(), wrong


def test_books_that_balance(demo):
    text, wrong = printed(demo)
    assert wrong == []
    assert "every event and every result is accounted for" in text
    assert "40 sent, 40 acknowledged by Kafka, 0 refused" in text
    assert "8 of 8" in text
    assert "p50 2.0 ms" in text


def test_the_expectation_is_not_empty(demo):
    bars = demo.books.expected_bars()
    assert len(bars) == 2 * 24
    assert bars["unit-0", START] == (5, np.mean([97, 99, 101, 98, 100]), 8.0)


def lose_a_score(demo):
    del demo.books.score_subscribers[1].ids["r7"]


def double_a_score(demo):
    demo.books.score_subscribers[0].ids["r7"] += 1


def invent_a_score(demo):
    demo.books.score_subscribers[0].ids["ghost"] += 1


def leave_out(demo):
    demo.books.score_subscribers[0].left_out += 3


def leave_out_bars(demo):
    demo.books.bars_left_out += 3


def lose_a_spike(demo):
    demo.books.spikes.ids.popitem()


def invent_a_spike(demo):
    demo.books.spikes.ids["r0"] += 1


def lose_a_bar(demo):
    demo.books.bars.popitem()


def invent_a_bar(demo):
    demo.books.bars["unit-9", 0] = {"n": 1, "mean": 1.0, "peak": 1.0}


def double_a_bar(demo):
    demo.books.bars_doubled += 1


def miscount(demo):
    next(iter(demo.books.bars.values()))["n"] += 1


def mean_wrongly(demo):
    next(iter(demo.books.bars.values()))["mean"] *= 1 + 1e-6


def refuse(demo):
    demo.acked, demo.refused = 39, 1


def never_answer(demo):
    demo.acked = 39


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lose_a_score, "1 scores were lost"),
        (double_a_score, "1 results were doubled"),
        (invent_a_score, "1 scores are of events that were never sent"),
        (leave_out, "3 results were left out for slow subscribers"),
        (leave_out_bars, "3 results were left out for slow subscribers"),
        (lose_a_spike, "1 spikes are missing or wrong"),
        (invent_a_spike, "1 spikes are missing or wrong"),
        (lose_a_bar, "no bar for"),
        (invent_a_bar, "a bar for ('unit-9', 0), where nothing was read"),
        (double_a_bar, "1 results were doubled"),
        (miscount, "expected n="),
        (mean_wrongly, "expected n="),
        (refuse, "1 events were refused"),
        (never_answer, "1 events have no answer"),
    ],
)
def test_what_is_planted_is_found(demo, plant, said):
    plant(demo)
    text, wrong = printed(demo)
    assert "the books do not balance" in text
    assert len(wrong) == 1
    assert said in wrong[0]


def test_many_wrong_bars_are_told_in_few_lines(demo):
    demo.books.bars.clear()
    assert len(faults(demo)) == 4
    assert faults(demo)[-1] == "… and 45 more bars"


def test_a_run_that_does_not_balance_fails(monkeypatch, capsys):
    async def run(*args):
        return ["3 scores were lost", "no bar for x"]

    monkeypatch.setattr(cli, "_run", run)
    assert main(["demo"]) == 1
    assert capsys.readouterr() == ("", "error: the books do not balance\n  3 scores were lost\n  no bar for x\n")


def test_windows_follow_the_topology():
    window = window_of(app, "bars")
    ts = 1_700_000_012_345
    starts = list(windows_of(ts, window))
    assert all(start <= ts < start + window.size and start % window.step == 0 for start in starts)
    assert len(starts) == window.size // window.step
    assert len(list(windows_of(ts, tumbling("10s")))) == 1
    assert [len(list(windows_of(ts, hopping("5s", "2s")))) for ts in (4_000, 5_500)] == [3, 2]
    with pytest.raises(DefinitionError, match="needs an aggregation 'scores'"):
        window_of(app, "scores")


def test_figures():
    assert quantile([0.001, 0.003], 0.5) == 2.0
    assert np.isnan(quantile([], 0.5))
    assert roc_auc({"a": 0, "b": 1}, {"a": 0.1, "b": 0.9}) == 1.0
    assert np.isnan(roc_auc({"a": 0}, {"a": 0.1}))


def test_the_data_set():
    readings = [reading for _, reading in zip(range(20), open_dataset("shuttle", "run"), strict=False)]
    assert readings[9].id == "run-9"
    assert readings[9].data["unit"] == "unit-1"
    assert set(readings[0].data) == {"unit", *(f"s{n}" for n in range(1, 10))}
    assert {reading.label for reading in readings} <= {0, 1}
    topic = app.topics["readings"].record
    msgspec.convert({**readings[0].data, "id": readings[0].id, "ts": 1}, topic)


def test_a_file(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text('{"a": 1, "name": "x"}\n\n{"a": 2}\n')
    assert [(r.id, r.data) for r in open_dataset(str(file), "run", "name")] == [
        ("x", {"a": 1, "name": "x"}),
        ("run-3", {"a": 2}),
    ]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff\xfe"])
def test_a_file_with_a_bad_line_names_it(tmp_path, line):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(SettingsError, match=r"events\.jsonl:2: "):
        list(open_dataset(str(file), "run"))


def test_no_such_data_set():
    with pytest.raises(SettingsError, match="no data set 'nothing': expected shuttle, or a file"):
        open_dataset("nothing", "run")
