"""The decorator of every kernel, and the types of their arguments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit, types

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes that are only read: of ``bytes``, and of arrays that may be written to as well.
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
#: int64[n], only read.
LONGS = types.Array(types.int64, 1, "C", readonly=True)


def kernel(signature: Any) -> Callable[[F], F]:
    """Compiles a function for one signature when its module is imported, or takes it from where it was kept.

    One signature, so that a wrong type is an error and not a pause of seconds for another compilation. Bounds are
    checked: an index past an array's end is an IndexError, whatever the bytes that led there. The interpreter's lock is
    free while a kernel runs.
    """

    def compile_for(function: F) -> F:
        try:
            with _kept_in(folder()):
                return njit(signature, cache=True, nogil=True, boundscheck=True)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # nothing can be written there
            return njit(signature, nogil=True, boundscheck=True)(function)  # type: ignore[no-any-return]

    return compile_for


def inlined(function: F) -> F:
    """A part of kernels, compiled into each that calls it."""
    return njit(inline="always", boundscheck=True)(function)  # type: ignore[no-any-return]


@cache
def folder() -> Path:
    """Where compiled kernels are kept: beside their sources, or in ``STREAMPROC_CACHE`` where those cannot be written
    to.

    It is named after all sources of this room. numba looks at a kernel's own file alone, and would go on using what was
    compiled with an older version of the parts that it shares with others.
    """
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()[:16]
    if os.access(here, os.W_OK):
        return here / "__pycache__" / sources
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamproc"
    return Path(os.environ.get("STREAMPROC_CACHE") or users) / "kernels" / sources


@contextmanager
def _kept_in(path: Path) -> Iterator[None]:
    before, config.CACHE_DIR = config.CACHE_DIR, os.environ.get("NUMBA_CACHE_DIR") or str(path)
    try:
        yield
    finally:
        config.CACHE_DIR = before
