"""The decorator of every kernel, and the types of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes that are only read: of ``bytes``, and of arrays that may be written to as well.
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
#: int64[n], only read.
LONGS = types.Array(types.int64, 1, "C", readonly=True)


def kernel(signature: Any) -> Callable[[F], F]:
    """Compiles a function for one signature when its module is imported, or takes it from numba's cache on disk.

    One signature, so that a wrong type is an error and not a pause of seconds for another compilation. Bounds are
    checked: an index past an array's end is an IndexError, whatever the bytes that led there. The interpreter's lock is
    free while a kernel runs.
    """

    def compile_for(function: F) -> F:
        try:
            return njit(signature, cache=True, nogil=True, boundscheck=True)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # no folder to keep it in can be written to
            return njit(signature, nogil=True, boundscheck=True)(function)  # type: ignore[no-any-return]

    return compile_for


def inlined(function: F) -> F:
    """A part of kernels, compiled into each that calls it."""
    return njit(inline="always", boundscheck=True)(function)  # type: ignore[no-any-return]
