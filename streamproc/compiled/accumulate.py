"""The loops of :mod:`streamproc.compiled.loops`, compiled; and a hash of strings that is the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from streamproc.compiled import loops
from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.siphash import load, rest
from streamproc.compiled.types import Bytes, Longs

U = np.uint64
_LONG = types.int64[::1]
_FLOAT = types.float64[::1]
_READ = types.Array(types.float64, 1, "C", readonly=True)
_WORDS = types.uint64[::1]

add_moments = kernel(types.void(LONGS, _READ, _LONG, _FLOAT, _FLOAT))(loops.add_moments)
merge_moments = kernel(types.void(LONGS, LONGS, _LONG, _FLOAT, _FLOAT, _LONG, _FLOAT, _FLOAT))(loops.merge_moments)
_COMOMENTS = (_LONG, _FLOAT, _FLOAT, _FLOAT, _FLOAT, _FLOAT)
add_comoments = kernel(types.void(LONGS, _READ, _READ, *_COMOMENTS))(loops.add_comoments)
merge_comoments = kernel(types.void(LONGS, LONGS, *_COMOMENTS, *_COMOMENTS))(loops.merge_comoments)
add_decayed = kernel(types.void(LONGS, LONGS, _READ, _READ, types.int64, _READ, _FLOAT, _FLOAT, _LONG))(
    loops.add_decayed
)
outermost = kernel(types.int64(LONGS, LONGS, types.int64, _LONG, _LONG, _LONG, _LONG))(loops.outermost)
add_coupons = kernel(types.int64(LONGS, LONGS, LONGS, types.int64, _LONG, types.int32[:, ::1], _LONG, LONGS, _LONG))(
    loops.add_coupons
)


@inlined
def _mixed(x: Any) -> Any:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


@kernel(types.void(BYTES, LONGS, LONGS, _WORDS))
def hash_texts(data: Bytes, starts: Longs, sizes: Longs, out: Any) -> None:
    """What :func:`streamproc.process.accumulators.hashes.of_texts` does."""
    for i in range(len(starts)):
        at, size = starts[i], sizes[i]
        if at < 0 or size < 0 or size > len(data) - at:
            raise IndexError("a string lies outside its buffer")
        hashed = _mixed(U(size) + U(0x9E3779B97F4A7C15))
        for _ in range(size >> 3):
            hashed = _mixed(hashed ^ load(data, at)) + U(0x9E3779B97F4A7C15)
            at += 8
        if size & 7:
            hashed = _mixed(hashed ^ rest(data, at, size & 7)) + U(0x9E3779B97F4A7C15)
        out[i] = _mixed(hashed)
