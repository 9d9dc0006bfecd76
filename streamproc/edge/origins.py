"""Which web pages may connect. Pure.

A browser opens a WebSocket to anywhere for any page, with that page's address in the header ``Origin`` and whatever the
network lets it reach. So the gateway has to refuse what it does not expect. Other clients send no ``Origin``, or any.
Source: RFC 6454, section 6.2 (serialization of an origin); RFC 6455, section 10.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from streamproc.errors import SettingsError

ANY = "*"
_OPAQUE = "null"  # what a page without an address says, a sandboxed frame's or a file's
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
_DEFAULTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Origins:
    """An allow-list of origins, compared whole.

    Args:
        allowed: such as ``https://app.example.com``; ``null`` for pages without an address;
            ``*`` for every page.
        loopback: whether pages of this machine (localhost, 127.0.0.1, [::1], on any port) may connect as well. The host
            that was asked for is not looked at: a page whose name points to this machine can have it say anything.

    Raises:
        SettingsError: what is allowed is no origin.
    """

    def __init__(self, allowed: Iterable[str] = (), *, loopback: bool = False) -> None:
        listed = list(allowed)
        self._any = ANY in listed
        self._loopback = loopback
        self._allowed = frozenset(_checked(text) for text in listed if text != ANY)

    def allow(self, said: list[str]) -> bool:
        """Whether a handshake with these ``Origin`` headers may go on. None at all is no browser."""
        if not said or self._any:
            return True
        if len(said) > 1:
            return False
        origin = normal(said[0])
        if origin is None:
            return False
        return origin in self._allowed or (self._loopback and _host(origin) in _LOOPBACK)


def normal(text: str) -> str | None:
    """An origin in lower case and without its scheme's default port; None for what is none."""
    text = text.strip().lower()
    if text == _OPAQUE:
        return text
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found.groups()
    plain = port is None or int(port) == _DEFAULTS.get(scheme)
    return f"{scheme}://{host}" if plain else f"{scheme}://{host}:{int(port)}"


def _host(origin: str) -> str:
    found = _ORIGIN.fullmatch(origin)
    return found.group(2) if found else ""


def _checked(text: str) -> str:
    origin = normal(text.removesuffix("/"))
    if origin is None:
        raise SettingsError(
            f"origin {text!r}: expected a page's scheme, host and port, such as https://app.example.com or "
            "http://localhost:5173 (no path, no wildcard; names of other scripts in punycode), null, or * for all"
        )
    return origin
