"""WebSocket frames as the server sends them: whole, unmasked, text. Built once, written to many.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

PING = b"\x89\x00"


def framed(payload: bytes) -> bytes:
    """A payload with its frame header."""
    size = len(payload)
    if size < 126:
        return b"\x81%c" % size + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
