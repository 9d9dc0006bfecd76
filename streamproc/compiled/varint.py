"""Zig-zag varints, as Kafka and Avro write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc.compiled.kernel import inlined
from streamproc.compiled.types import Bytes

_U = np.uint64  # an unsigned index spares a look whether it is negative


@inlined
def varint(data: Bytes, at: int, end: int) -> tuple[Any, Any]:
    """The number at ``at`` and the place behind it, which is -1 where it does not end before ``end`` or within 64
    bits.
    """
    if at >= end:
        return np.int64(0), np.int64(-1)
    byte = _U(data[_U(at)])
    at += 1
    if byte < _U(0x80):
        return np.int64(byte >> _U(1)) ^ -np.int64(byte & _U(1)), at
    value = byte & _U(0x7F)
    shift = _U(7)
    while True:
        if at >= end:
            return np.int64(0), np.int64(-1)
        byte = _U(data[_U(at)])
        at += 1
        if shift == _U(63) and byte > _U(1):
            return np.int64(0), np.int64(-1)
        value |= (byte & _U(0x7F)) << shift
        if byte < _U(0x80):
            return np.int64(value >> _U(1)) ^ -np.int64(value & _U(1)), at
        shift += _U(7)


@inlined
def varint_size(value: Any) -> Any:
    """How many bytes the varint of a number that is not below zero takes."""
    taken = 1
    while value > 63:
        value >>= 7
        taken += 1
    return taken
