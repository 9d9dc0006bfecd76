"""Children of a round: heard, bounded in time, and gone whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from streamproc.bench import process as bench_process
from streamproc.bench.process import process
from streamproc.errors import StreamprocError


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def gone(pid: int) -> bool:
    """Whether no process has this id, or only one that nobody has buried yet."""
    for _ in range(1200):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_a_line_and_a_good_end() -> None:
    with process(python("print('x'); print('found it')"), {}) as child:
        assert child.line("found", 20.0) == "found it"
        child.wait(20.0)


def test_its_end_before_the_line_is_told_with_its_last_words() -> None:
    with process(python("print('oh no'); raise SystemExit(3)"), {}) as child:
        with pytest.raises(StreamprocError, match="ended\n  oh no"):
            child.line("found", 20.0)
        with pytest.raises(StreamprocError, match="code 3"):
            child.wait(20.0)


def test_patience_is_bounded() -> None:
    with process(python("import time; print('slow'); time.sleep(60)"), {}) as child:
        child.line("slow", 20.0)
        with pytest.raises(StreamprocError, match="took longer than"):
            child.line("never", 0.2)
        with pytest.raises(StreamprocError, match="took longer than"):
            child.wait(0.2)


def test_it_goes_with_its_children_even_if_it_does_not_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_process, "_STOP_WITHIN", 0.5)
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('child', child.pid)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(KeyboardInterrupt), process(python(code), {}) as child:
        grandchild = int(child.line("child ", 20.0).split()[1])
        raise KeyboardInterrupt
    assert gone(grandchild)


@pytest.mark.e2e
def test_workers_end_with_whoever_started_them() -> None:
    """Also where that is killed, and can tidy nothing up."""
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'streamproc.bench.worker', 'rows', 'in', 'name', '5'],\n"
        "                         stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    assert gone(worker)
