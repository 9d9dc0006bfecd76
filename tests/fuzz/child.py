"""Tries cases in a process that may crash, hang or grow. As a program: see ``main``."""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import msgspec

from streamproc.compiled import available
from tests.fuzz.cases import Case, make
from tests.fuzz.checks import check

ROOM = 32 << 20  # bytes; a case is no larger
GROWTH = 450 << 20  # bytes that one case may take, where a batch may take 256 MiB; and all of them may leave
FAILED = 3
LOADING = (1 << 64) - 1  # in the place of the first case's number


class Watched:
    """A file in memory that tells which case is being tried, and survives a crash: a number, a length, the case."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(ROOM)
            self._map = mmap.mmap(file.fileno(), ROOM)
            self._map[:8] = LOADING.to_bytes(8, "big")

    def begin(self, seed: int, case: Case) -> None:
        data = msgspec.msgpack.encode(case)
        self._map[16 : 16 + len(data)] = data
        self._map[:16] = seed.to_bytes(8, "big") + len(data).to_bytes(8, "big")


def read(path: Path) -> tuple[int, bytes]:
    """The number of the case that was being tried, and the case as MessagePack."""
    with path.open("rb") as file:
        head = file.read(16)
        return int.from_bytes(head[:8], "big"), file.read(int.from_bytes(head[8:], "big"))


def decode(data: bytes) -> Case:
    return msgspec.msgpack.decode(data, type=Case)


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(target: str, start: str, count: str, seconds: str, watched: str) -> int:
    """Tries ``count`` cases from seed ``start`` on, or as many as ``seconds`` allow; prints how many, and the rows that
    each way read.
    """
    watch = Watched(Path(watched))
    if available():
        for name in ("records", "texts", "values"):  # compiled now, if they have not been
            importlib.import_module(f"streamproc.compiled.{name}")
    ends = time.monotonic() + float(seconds)
    tried = before = 0
    rows: Counter[str] = Counter()
    for seed in range(int(start), int(start) + int(count)):
        if time.monotonic() > ends:
            break
        case = make(target, seed)
        watch.begin(seed, case)
        most = peak()
        try:
            rows += check(case)
        except BaseException:  # a panic of Rust's is no Exception
            traceback.print_exc()
            return FAILED
        if tried > 100 and peak() - most > GROWTH:
            print(f"one case took {peak() - most >> 20} MiB", file=sys.stderr)
            return FAILED
        tried += 1
        if tried == 500:
            before = resident()
    if before and resident() - before > GROWTH:
        print(f"{tried} cases left {resident() - before >> 20} MiB", file=sys.stderr)
        return FAILED
    print(json.dumps({"tried": tried, "rows": dict(rows)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
