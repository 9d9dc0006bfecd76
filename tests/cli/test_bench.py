"""``streamproc bench``: what it refuses, what it leaves behind, and that wrong results fail it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient

from streamproc.bench import reference
from streamproc.cli.main import main
from streamproc.settings import KafkaSettings
from tests.cli.kit import command


def left(kafka: KafkaSettings) -> list[str]:
    """Topics and groups of benchmarks that are on the broker."""
    client = AdminClient(kafka.librdkafka())
    groups = client.list_consumer_groups().result(10).valid
    names = [*client.list_topics(timeout=10).topics, *(group.group_id for group in groups)]
    return [name for name in names if name.startswith("bench-")]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["j3"],
            "error: no job 'j3': expected some of j1, j1-small, j1-million-keys, j1-exact, j1-million-keys-exact, "
            "session, interval, as-of, j2, wide, rows, one, loop, loop-stateless, loop-exact, recovery, memory\n",
        ),
        (["j1", "--write", "x.md"], "error: --write needs all jobs in full: leave their names and --short out\n"),
        (["--short", "--write", "x.md"], "error: --write needs all jobs in full: leave their names and --short out\n"),
        (["--rounds", "-1"], "error: Invalid value for '--rounds'"),
    ],
)
def test_wrong_use(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *args]) == 2
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.e2e
def test_jobs_run_are_right_and_leave_nothing(
    kafka: KafkaSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    jobs = ["j1", "rows"]  # `make bench ARGS=--short` runs all of them
    args = ["bench", *jobs, "--events", "3000", "--rounds", "1", "--json", str(file)]
    assert main([*args, "--bootstrap", kafka.bootstrap]) == 0
    found = json.loads(file.read_bytes())
    assert [line["job"] for line in found["throughput"]] == jobs
    for line in found["throughput"]:
        (metered,), (verdict,) = line["metered"], line["verdicts"]
        assert metered["events"] == sum(metered["paths"].values()) == 3000
        assert 0 < metered["warm_events"] < 3000
        assert verdict["results"] > 0
        assert verdict["wrong"] == []
        assert verdict["bits"] == ("panes" if line["job"] == "j1" else "")
    assert "all right" in capsys.readouterr().out
    assert left(kafka) == []


@pytest.mark.e2e
def test_one_event_at_a_time(kafka: KafkaSettings, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    args = ["bench", "one", "--events", "20", "--rounds", "1", "--json", str(file)]
    assert main([*args, "--bootstrap", kafka.bootstrap]) == 0
    (found,) = json.loads(file.read_bytes())["latency"]
    assert found["events"] == 2 * 20
    assert [len(found["p99"][way]) for way in ("bare", "streamproc")] == [1, 1]
    assert left(kafka) == []


@pytest.mark.e2e
def test_wrong_results_fail_it(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = reference.expected

    def other(events: pl.DataFrame, asked: reference.Asked) -> pl.DataFrame:
        return real(events, asked).with_columns(n=pl.col("n") + (pl.int_range(pl.len()) == 0))

    monkeypatch.setattr(reference, "expected", other)
    args = ["bench", "j1", "--events", "3000", "--rounds", "1", "--json", str(tmp_path / "found.json")]
    assert main([*args, "--bootstrap", kafka.bootstrap]) == 1
    assert "error: results are wrong\n  j1, streamproc, round 1: n of 1 windows is wrong" in capsys.readouterr().err
    assert left(kafka) == []


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(kafka: KafkaSettings, number: signal.Signals) -> None:
    words = ("-m", "streamproc", "bench", "j1", "--events", "3000", "--rounds", "1000")
    with command(*words, env={**os.environ, **kafka.environ()}, stdout=subprocess.DEVNULL) as bench:
        assert bench.stderr is not None
        for line in bench.stderr:
            if line.startswith("round 1 "):
                break
        bench.send_signal(number)
        assert "Traceback" not in bench.communicate(timeout=60)[1]
        assert bench.returncode == 130
    assert left(kafka) == []
