"""The hash by which Kafka spreads keys over partitions; see ``log.partition``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from streamproc.compiled.kernel import BYTES, LONGS, inlined, kernel
from streamproc.compiled.types import Bytes, Longs

U = np.uint64
_OUT = types.int64[::1]


@inlined
def _murmur2(data: Any, start: Any, size: Any) -> Any:
    """Without the sign bit: partitions are found by the rest."""
    m, low = U(0x5BD1E995), U(0xFFFFFFFF)
    h = (U(0x9747B28C) ^ U(size)) & low
    at = start
    for _ in range(size // 4):
        k = U(data[at]) | U(data[at + 1]) << U(8) | U(data[at + 2]) << U(16) | U(data[at + 3]) << U(24)
        k = (k * m) & low
        k ^= k >> U(24)
        h = ((h * m) & low) ^ ((k * m) & low)
        at += 4
    if size & 3:
        for j in range(size & 3):
            h ^= U(data[at + j]) << U(8 * j)
        h = (h * m) & low
    h ^= h >> U(13)
    h = (h * m) & low
    return np.int64((h ^ (h >> U(15))) & U(0x7FFFFFFF))


@kernel(types.void(BYTES, LONGS, LONGS, _OUT))
def spread_texts(data: Bytes, starts: Longs, sizes: Longs, out: Longs) -> None:
    for i in range(len(starts)):
        if starts[i] < 0 or sizes[i] < 0 or sizes[i] > len(data) - starts[i]:
            raise IndexError("a key lies outside its buffer")
        out[i] = _murmur2(data, starts[i], sizes[i])


@kernel(types.void(LONGS, _OUT))
def spread_longs(values: Longs, out: Longs) -> None:
    """Of the digits: those are an int's key in Kafka."""
    digits = np.empty(20, np.uint8)
    for i in range(len(values)):
        rest = U(-values[i]) if values[i] < 0 else U(values[i])  # of -2**63, too
        at = 20
        while rest or at == 20:
            at -= 1
            digits[at] = 48 + rest % U(10)
            rest //= U(10)
        if values[i] < 0:
            at -= 1
            digits[at] = 45
        out[i] = _murmur2(digits, at, 20 - at)
