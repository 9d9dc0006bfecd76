"""Compiled kernels: the loops that neither numpy nor polars has, compiled by numba for the processor they run on.

They come with the extra ``streamproc[fast]`` and are compiled once per machine, then kept on disk; no C compiler is
needed. Without them everything works too, with the same results to the bit, more slowly. Nothing here is imported
before somebody asks for it: numba takes 0.3 s to load, and compiling some seconds once.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from functools import cache

_KERNELS = ("accumulate", "cells", "interval", "keys", "records", "rows", "sessions", "texts", "values", "writer")


@cache
def available() -> bool:
    """Whether kernels can be had: numba is installed, and ``STREAMPROC_COMPILED`` is not 0."""
    if os.environ.get("STREAMPROC_COMPILED") == "0" or importlib.util.find_spec("numba") is None:
        return False
    try:
        import numba  # noqa: F401
    except ImportError as error:  # it wants another numpy, say
        logging.getLogger("streamproc").warning("no compiled kernels, as numba cannot be imported: %s", error)
        return False
    return True


def prepare() -> None:
    """Loads every kernel, and compiles those that this machine does not have yet: nothing waits for that later."""
    if available():
        for name in _KERNELS:
            importlib.import_module(f"{__name__}.{name}")
