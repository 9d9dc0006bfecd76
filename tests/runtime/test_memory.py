"""The allocator's settings, each looked at in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Page faults of the same 8 MiB, taken and given back twenty times, when they have been taken before.
FAULTS = """
import resource, sys
from streamproc.runtime.memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
import numpy as np
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    arrays = [np.ones(1 << 20) for _ in range(4)]
    del arrays
before = faults()
for _ in range(20):
    arrays = [np.ones(1 << 20) for _ in range(4)]
    del arrays
print(faults() - before)
"""


def run(mode: str, **environment: str) -> tuple[str, int]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], env=env, capture_output=True, text=True, check=True)
    said, faults = done.stdout.split()
    return said, int(faults)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="another C library")
def test_what_was_freed_is_used_again() -> None:
    said, faults = run("keep")
    assert said == "True"
    assert faults < 1000
    _, by_default = run("not")
    assert by_default > 4 * 1000


def test_the_users_choice_stands() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="100000000")[0] == "False"
