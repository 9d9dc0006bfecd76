"""The wheel: built, installed somewhere else, and used from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_it_holds_what_is_needed_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"streamproc", "streamproc_ingest", "streamproc_egress"}
    schemas = {f"streamproc/_schemas/{path.name}" for path in (ROOT / "schemas").glob("*.avsc")}
    assert {"streamproc/py.typed", "streamproc/log/broker/lock.toml"} | schemas <= set(names)
    assert not [name for name in names if name.endswith(("registry.json", ".lock"))]


def test_it_works_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    code = (
        "import streamproc, streamproc_ingest, streamproc_egress, sys;"
        "from streamproc import App;"
        "app = App('elsewhere');"
        "print(streamproc.__file__, app.dead_letters.name);"
        "assert 'faust' not in sys.modules"
    )
    # The dependencies are this environment's; the project itself must come from the wheel.
    environ = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(target / "streamproc" / "__init__.py"), "elsewhere-dead-letters"]
