"""What a run is told as."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from streamproc.bench import report
from streamproc.bench.check import Verdict
from streamproc.bench.jobs import JOBS
from streamproc.bench.latency import Latencies
from streamproc.bench.metered import Metered
from streamproc.bench.run import Line
from streamproc.errors import SettingsError

ROOT = Path(__file__).parent.parent.parent


def metered(taken: float) -> Metered:
    return Metered(
        events=1000,
        taken=taken,
        wall=taken * 2,
        cpu=taken / 2,
        warm_events=500,
        warm_taken=taken / 4,
        warm_cpu=0.001,
        rss_mb=100,
    )


def line(*verdicts: Verdict) -> Line:
    return Line("j1", metered=[metered(float(n)) for n, _ in enumerate(verdicts, 1)], verdicts=list(verdicts))


def latencies() -> Latencies:
    found = Latencies("one")
    for _ in range(3):
        found.add("bare", [0.001, 0.002, 0.003])
        found.add("streamproc", [0.002, 0.004, 0.006])
    return found


def test_figures_are_medians() -> None:
    told = line(*[Verdict(7, bits="panes")] * 3)
    assert told.median("rate") == 500
    assert report.rows([told]) == [
        ("j1", "0 k", "1,000", "2.000", "100", "7, all right, sums in pane order to the bit")
    ]


def test_the_second_half_may_be_unknown() -> None:
    found = msgspec.structs.replace(metered(1.0), warm_events=0, warm_taken=0.0)
    row = report.rows([Line("j1", metered=[found], verdicts=[Verdict()])])[0]
    assert row[3] == "–"


def test_wrong_results_are_told_wherever_they_are() -> None:
    told = line(Verdict(7), Verdict(6, wrong=["1 windows are missing"]))
    assert report.worth(told) == "**wrong** in 1 of 2 rounds: 1 windows are missing"
    assert told.wrong() == ["j1, streamproc, round 2: 1 windows are missing"]


def test_latencies_beside_the_floor() -> None:
    assert report.latency_table(latencies()).splitlines()[2:] == [
        "| bare | 2.00 | 2.98 |",
        "| streamproc | 4.00 | 5.96 |",
        "| ratio | 2.00 | 2.00 |",
    ]


def test_json_holds_every_round() -> None:
    found = json.loads(report.as_json([line(Verdict(1), Verdict(1))], [latencies()], "streamproc bench"))
    assert [round["taken"] for round in found["throughput"][0]["metered"]] == [1.0, 2.0]
    assert found["latency"][0]["p50"]["bare"] == [2.0, 2.0, 2.0]
    assert found["versions"]["aiokafka"]


def test_writing_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    file = tmp_path / "doc.md"
    file.write_text("a\n<!-- bench:begin x -->\nold\n<!-- bench:end x -->\nb\n")
    for body in ("new", "newer"):
        report.write(file, {"x": body})
        assert file.read_text() == f"a\n<!-- bench:begin x -->\n{body}\n<!-- bench:end x -->\nb\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- bench:end x --><!-- bench:begin x -->",
        "<!-- bench:begin x --> <!-- bench:begin x --> <!-- bench:end x -->",
    ],
)
def test_writing_without_markers_changes_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "doc.md"
    file.write_text(text)
    with pytest.raises(SettingsError, match="bench:begin x"):
        report.write(file, {"x": "new"})
    assert file.read_text() == text


def test_the_page_has_a_place_for_every_table(tmp_path: Path) -> None:
    from tests.bench.peers.__main__ import PEER_JOBS

    file = tmp_path / "performance.md"
    file.write_text((ROOT / "docs" / "performance.md").read_text())
    sections = {"jobs", "one", "loop", *(f"peers-{job}" for job in PEER_JOBS)}
    report.write(file, dict.fromkeys(sections, "table"))
    assert file.read_text().count("\ntable\n") == len(sections)
    for job in JOBS:
        assert f"`{job}`" in file.read_text()
