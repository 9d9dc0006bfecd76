"""``python -m tests.fuzz --minutes 30 --seed 1`` tries cases by the thousand; ``--replay FILE`` tries one that failed.

Failures are kept in ``--folder`` and end it with code 1. Cases come from seeds, so no corpus is stored; a seed is the
same case until ``cases.py`` or ``schemas.py`` changes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import TARGETS, Case
from tests.fuzz.checks import check
from tests.fuzz.child import decode
from tests.fuzz.runner import Failure, run, shrink

_TURN = 30.0  # seconds for a target at a time
_ENOUGH = 20  # failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="where to begin; a random number when left out")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a case that was kept: shrunk, and its error")
    given = parser.parse_args()
    if given.replay:
        return _replay(given.replay)
    seed = random.SystemRandom().randrange(1 << 32) << 20 if given.seed is None else given.seed << 20
    return _search(given.target or TARGETS, seed, given.minutes * 60, given.folder)


def _search(targets: tuple[str, ...], seed: int, seconds: float, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    at, tried, rows = dict.fromkeys(targets, seed), Counter[str](), Counter[str]()
    failures: list[Failure] = []
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0 and len(failures) < _ENOUGH:
        target = min(targets, key=lambda each: at[each])
        found = run(target, at[target], folder, seconds=min(left, _TURN))
        tried[target] += found.tried
        rows.update(found.rows)
        at[target] += found.tried
        if found.failure is not None:
            at[target] += 1
            failures.append(found.failure)
            print(f"FAILED {found.failure.path}: {found.failure.said}", flush=True)
    print(f"{tried.total():,} cases from seed {seed >> 20}, {len(failures)} failed")
    print(f"  {', '.join(f'{target} {tried[target]:,}' for target in targets)}")
    print(f"  rows read by rows {rows.pop('rows', 0):,}", *(f"by {way} {n:,}" for way, n in rows.items()), sep=", ")
    return 1 if failures else 0


def _replay(path: Path) -> int:
    """In this process: a crash is a crash. What fails is made smaller first."""

    def fails(case: Case) -> bool:
        try:
            check(case)
        except BaseException as error:  # a panic of Rust's is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            return True
        return False

    case = decode(path.read_bytes())
    if not fails(case):
        print(f"no failure: {dict(check(case))}")
        return 0
    case = shrink(path, fails)
    print(case)
    check(case)
    return 1


if __name__ == "__main__":
    sys.exit(main())
