"""Runs cases in child processes, and keeps those that fail."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.fuzz.cases import Case
from tests.fuzz.child import FAILED, LOADING, decode, read

ROOT = Path(__file__).parents[2]
HANGS = 30.0  # seconds that a case may take
LOADS = 180.0  # seconds before the first one: kernels may have to be compiled
_SHRINKS = 200  # tries to make a case smaller


@dataclass(frozen=True)
class Failure:
    """A case that failed: what happened, and where it is kept."""

    target: str
    seed: int
    said: str
    path: Path


@dataclass(frozen=True)
class Run:
    """How many cases were tried, the rows that each way read, and what went wrong at last."""

    tried: int
    rows: dict[str, int]
    failure: Failure | None


def run(target: str, start: int, folder: Path, *, count: int = 1 << 62, seconds: float = 1e9) -> Run:
    """Tries cases from seed ``start`` on until one fails, ``count`` are done or ``seconds`` are over."""
    watched, said = folder / "watched", folder / "said"
    watched.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.fuzz.child", target, str(start), str(count), str(seconds), str(watched)]
    with said.open("w+b") as errors:
        child = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, "RUST_BACKTRACE": "0"}
        )
        with child:
            hung = _watch(child, watched)
            out = child.stdout.read() if child.stdout else b""
    if child.returncode == 0:
        told = json.loads(out)
        return Run(told["tried"], told["rows"], None)
    seed, data = read(watched)
    lines = said.read_bytes().decode(errors="replace").strip().splitlines()
    what = "hung" if hung else f"ended by signal {-child.returncode}" if child.returncode < 0 else lines[-1]
    assert hung or child.returncode in range(-64, 0) or child.returncode == FAILED, "\n".join(lines)
    kept = folder / f"{target}-{seed}.case"
    kept.write_bytes(data)
    return Run(seed - start, {}, Failure(target, seed, what[:2000], kept))


def _watch(child: subprocess.Popen[bytes], watched: Path) -> bool:
    """Waits for the child's end; ends it when it is at the same case for too long, and says so."""
    last, since = LOADING, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)
            return False
        now = read(watched)[0] if watched.exists() else LOADING
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > (LOADS if now == LOADING else HANGS):
            child.kill()
            child.wait()
            return True


def shrink(path: Path, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that fails too: with fewer batches, fewer bytes at the end, fewer schemas."""
    case = decode(path.read_bytes())
    tries = 0
    again = True
    while again and tries < _SHRINKS:
        again = False
        for smaller in _smaller(case):
            tries += 1
            if tries < _SHRINKS and fails(smaller):
                case, again = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    for i in range(len(case.data)):
        if len(case.data) > 1:
            yield msgspec.structs.replace(case, data=case.data[:i] + case.data[i + 1 :])
    if case.writers:
        yield msgspec.structs.replace(case, writers=case.writers[:-1])
    for name in sorted(case.columns or ()):
        if case.columns is not None and len(case.columns) > 1:
            yield msgspec.structs.replace(case, columns=case.columns - {name})
