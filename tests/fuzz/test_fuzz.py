"""Some seconds of every target, always the same cases; ``python -m tests.fuzz`` tries others, for as long as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.compiled import available
from tests.fuzz.cases import TARGETS
from tests.fuzz.runner import run

CASES = 1_500


@pytest.mark.parametrize("target", TARGETS)
def test_no_case_fails(target: str, tmp_path: Path) -> None:
    done = run(target, 0, tmp_path, count=CASES)
    assert done.failure is None, f"{done.failure.said}\n  once more: {target} {done.failure.seed}"
    assert done.tried == CASES
    # What no way for blocks reads proves nothing of it. The one by polars gives up whole batches.
    assert done.rows["polars"] > 0
    assert not available() or done.rows["compiled"] > done.rows["rows"] / 3
