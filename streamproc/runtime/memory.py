"""How the process's allocator treats large arrays."""

from __future__ import annotations

import ctypes
import os

# Parameters of glibc's mallopt; see its manual page.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_CHOSEN = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20, _TOP_PAD: 32 << 20}  # bytes
_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Lets the C library keep what was freed, up to 256 MiB, for the next arrays; whether it does.

    By default glibc gives columns of some MiB back to the system as soon as they are freed, and every block's pages are
    mapped and cleared anew: a seventh of the CPU time of wide records. Does nothing where the user has chosen by
    environment, or the C library is another one.
    """
    if any(name in os.environ for name in _BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(parameter, size) == 1 for parameter, size in _CHOSEN.items())
