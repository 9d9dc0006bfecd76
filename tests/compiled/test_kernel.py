"""Where kernels are kept, and that all work without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamproc import compiled
from streamproc.compiled import kernel

SUM = """
import numpy as np
from streamproc.compiled import kernel
from streamproc.compiled.texts import gather
data = np.frombuffer(b"abc", np.uint8)
print(bytes(gather(data, np.array([1]), np.array([2]))[0]), kernel.folder())
"""


def run(code: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() + done.stderr.strip()


def test_a_folder_is_of_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kernel.py", "varint.py"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(kernel, "__file__", str(tmp_path / "kernel.py"))
    before = kernel.folder.__wrapped__()
    assert before.is_relative_to(tmp_path / "__pycache__")
    (tmp_path / "varint.py").write_text("2")
    assert kernel.folder.__wrapped__() != before


def test_sources_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("STREAMPROC_CACHE", str(tmp_path))
    assert kernel.folder.__wrapped__().parent == tmp_path / "kernels"


def test_what_was_compiled_is_kept(tmp_path: Path) -> None:
    assert run(SUM, NUMBA_CACHE_DIR=str(tmp_path)).startswith("b'bc'")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert kept
    run(SUM, NUMBA_CACHE_DIR=str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept


def test_nowhere_to_keep_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(SUM, NUMBA_CACHE_DIR=str(tmp_path / "file" / "below")).startswith("b'bc'")


def test_switched_off() -> None:
    code = "import sys; from streamproc import compiled; compiled.prepare(); "
    code += "print(compiled.available(), 'numba' in sys.modules)"
    assert run(code, STREAMPROC_COMPILED="0") == "False False"


def test_a_numba_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.2 or less')")
    said = run("from streamproc import compiled; print(compiled.available())", PYTHONPATH=f"{tmp_path}:.")
    assert said == "Falseno compiled kernels, as numba cannot be imported: Numba needs NumPy 1.2 or less"


def test_nothing_is_imported_before_it_is_needed() -> None:
    assert run("import sys, streamproc, streamproc.runtime.worker; print('numba' in sys.modules)") == "False"


def test_every_kernel_is_prepared() -> None:
    """A file with kernels of its own is loaded by ``prepare()``, itself or through another one."""
    code = "import sys; from streamproc import compiled; compiled.prepare(); print(*sys.modules)"
    loaded = run(code).split()
    here = Path(compiled.__file__).parent
    kernels = [path.stem for path in here.glob("*.py") if "\n@kernel(" in path.read_text()]
    assert kernels
    assert not [name for name in kernels if f"streamproc.compiled.{name}" not in loaded]
