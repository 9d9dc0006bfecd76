"""The languages that clients speak, by subprotocol: bytes to words and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamproc.edge.dialects.native import NATIVE
from streamproc.edge.dialects.port import Codec, Dialect, Result

#: By the names that a client offers as subprotocols, the preferred one first.
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (NATIVE,)}


def choose(offered: Sequence[str]) -> Dialect | None:
    """The dialect for a client: the first that it offers and the gateway has; the native one for who offers none."""
    if not offered:
        return NATIVE
    return next((DIALECTS[name] for name in offered if name in DIALECTS), None)


__all__ = ["DIALECTS", "NATIVE", "Codec", "Dialect", "Result", "choose"]
