"""SipHash-1-3: a hash under a secret of two words, for tables whose keys others may choose.

Source: Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012; with fewer rounds, as in CPython and Rust.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from streamproc.compiled.kernel import inlined

U = np.uint64


@intrinsic
def load(_: Any, data: Any, at: Any) -> Any:
    """Eight bytes as a uint64, the lowest first. They must be there: nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(data, types.int64), generate


@inlined
def rest(data: Any, at: Any, size: Any) -> Any:
    """Less than eight bytes as a uint64."""
    if len(data) - at >= 8:
        return load(data, at) & ((U(1) << U(8 * size)) - U(1))
    word = U(0)
    for j in range(size):
        word |= U(data[at + j]) << U(8 * j)
    return word


@inlined
def _round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a = a + b
    b = ((b << U(13)) | (b >> U(51))) ^ a
    a = (a << U(32)) | (a >> U(32))
    c = c + d
    d = ((d << U(16)) | (d >> U(48))) ^ c
    a = a + d
    d = ((d << U(21)) | (d >> U(43))) ^ a
    c = c + b
    b = ((b << U(17)) | (b >> U(47))) ^ c
    c = (c << U(32)) | (c >> U(32))
    return a, b, c, d


@inlined
def _start(secret: Any) -> Any:
    a, b = secret[0], secret[1]
    return (
        a ^ U(0x736F6D6570736575),
        b ^ U(0x646F72616E646F6D),
        a ^ U(0x6C7967656E657261),
        b ^ U(0x7465646279746573),
    )


@inlined
def _take(a: Any, b: Any, c: Any, d: Any, word: Any) -> Any:
    a, b, c, d = _round(a, b, c, d ^ word)
    return a ^ word, b, c, d


@inlined
def _end(a: Any, b: Any, c: Any, d: Any) -> Any:
    a, b, c, d = _round(a, b, c ^ U(0xFF), d)
    a, b, c, d = _round(a, b, c, d)
    a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d


@inlined
def hash_text(data: Any, start: Any, size: Any, secret: Any) -> Any:
    a, b, c, d = _start(secret)
    at = start
    for _ in range(size >> 3):
        a, b, c, d = _take(a, b, c, d, load(data, at))
        at += 8
    a, b, c, d = _take(a, b, c, d, rest(data, at, size & 7) | (U(size) << U(56)))
    return _end(a, b, c, d)


@inlined
def hash_long(value: Any, secret: Any) -> Any:
    """A word is all there is, so its length is left out."""
    a, b, c, d = _start(secret)
    a, b, c, d = _take(a, b, c, d, U(value))
    return _end(a, b, c, d)
