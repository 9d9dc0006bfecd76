"""The peers' runner, without a peer: what is locked, what is read, what the table says."""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest

from streamproc.bench.check import Verdict
from streamproc.bench.jobs import JOBS
from streamproc.bench.metered import Metered
from streamproc.bench.run import Line
from streamproc.bench.topics import Records
from streamproc.errors import StreamprocError
from tests.bench.peers import __main__ as peers
from tests.bench.peers import install
from tests.bench.peers.engines import ENGINES, SHORT

HERE = Path(install.__file__).parent


class Given:
    """Topics that hold these records."""

    def __init__(self, *records: Records) -> None:
        self._records = records

    def read(self, name: str) -> Iterator[Records]:
        yield from self._records


def test_every_jar_is_locked_with_its_checksum() -> None:
    for name in ("compiler", "flink", "streams"):
        jars = tomllib.loads((HERE / "jars" / f"{name}.toml").read_text())["jar"]
        assert all(len(jar["sha256"]) == 64 and jar["size"] > 0 for jar in jars)
        versions = [jar["coordinate"].rpartition(":")[0] for jar in jars]
        assert len(versions) == len(set(versions)), name


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(coordinate: str, scratch: Path) -> Path:
        (scratch / "x.jar").write_bytes(b"something else")
        return scratch / "x.jar"

    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path))
    monkeypatch.setattr(install, "resolve", resolve)
    with pytest.raises(StreamprocError, match="is locked"):
        install.jars("compiler")
    assert not list((tmp_path / "peers" / "jars").iterdir())


def test_a_download_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def resolve(coordinate: str, scratch: Path) -> Path:
        tried.append(coordinate)
        raise OSError("reset by peer")

    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path))
    monkeypatch.setattr(install, "resolve", resolve)
    monkeypatch.setattr(install, "_PAUSE", 0.0)
    with pytest.raises(StreamprocError, match="cannot be fetched: reset by peer"):
        install.jars("compiler")
    assert len(tried) == 3


def test_what_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path))
    with pytest.raises(StreamprocError, match="installing nothing failed"):
        install.python("nothing", ["--no-index", "streamproc-no-such-package==1"])
    assert not list(tmp_path.rglob(".ready"))


def test_binary_and_json_results_are_the_same_rows() -> None:
    rows = [("A", 1000, 2, 0.5, 0.25, 0.375), ("B", 2000, 1, 1.5, 1.5, 1.5)]
    wanted = pl.DataFrame(rows, schema=["symbol", "start", "n", "sum", "max", "mean"], orient="row")
    binary = Records(0, [row[0].encode() for row in rows], [struct.pack(">qqddd", *row[1:]) for row in rows])
    named = [dict(zip(wanted.columns, row, strict=True)) for row in rows]
    texts = [msgspec.json.encode(row | {"diff": 1, "time": 3}) for row in named]
    gone = msgspec.json.encode(named[0] | {"diff": -1, "time": 4})
    for engine, records in (("flink", binary), ("pathway", Records(0, [None] * 3, [*texts, gone]))):
        found = peers._results(ENGINES[engine], Given(records), "sink", JOBS["j1"])  # type: ignore[arg-type]
        assert found.rows() == wanted.rows()


def line(engine: str, cpu: float) -> Line:
    metered = Metered(events=1000, taken=1.0, cpu=cpu, warm_events=500, warm_taken=0.5, warm_cpu=cpu / 2)
    return Line("j1", engine, metered=[metered], verdicts=[Verdict(3)])


def test_the_table_has_those_too_that_failed() -> None:
    failed = Line("j1", "quix", problem="not installed: no network", note="Quix")
    other = Line("j2", "flink")
    text = peers.table([failed, line("flink", 0.4), line("streamproc", 0.1), other], JOBS["j1"])
    rows = [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")]
    assert rows[2:] == ["| streamproc", "| flink", "| quix"]
    assert "not installed: no network" in text
    assert "flink 4.000 (4.000)." in text


def test_jobs_and_engines_are_known() -> None:
    assert set(peers.PEER_JOBS) <= set(JOBS)
    assert set(SHORT) <= set(ENGINES)
    assert all(set(engine.events) <= set(peers.PEER_JOBS) for engine in ENGINES.values())


def test_writing_needs_all(tmp_path: Path) -> None:
    with pytest.raises(StreamprocError, match="--write needs all"):
        peers.main(["--short", "--write", str(tmp_path / "x.md")])
