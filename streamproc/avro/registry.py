"""Which registry a URL means."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from streamproc.avro.ports import Registry
from streamproc.errors import SettingsError

_EXPECTED = "expected http://HOST:PORT/…, https://…, file:PATH, a path, or memory:"


def open_registry(url: str, **options: Any) -> Registry:
    """The registry at ``url``. Nothing is contacted or created yet.

    ``http://…`` and ``https://…`` are servers that speak Confluent's API, ``file:PATH`` or a mere path is a file of
    ours, ``memory:`` a new one in memory.

    Args:
        options: for a server, those of :class:`streamproc.avro.http_registry.HttpRegistry`;
            for the others ``compatibility``. None counts as not given.

    Raises:
        SettingsError: the URL is none of these, or an option does not go with it.
    """
    given = {key: value for key, value in options.items() if value is not None}
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    match scheme[1].lower() if scheme else "":
        case "http" | "https":
            # Imported here, because its libraries take a second to load.
            from streamproc.avro.http_registry import HttpRegistry

            return HttpRegistry(url, **_only(given, HttpRegistry.OPTIONS, url))
        case "memory" if url[len("memory:") :] in ("", "//"):
            from streamproc.avro.memory_registry import MemoryRegistry

            return MemoryRegistry(**_only(given, ("compatibility",), url))
        case "" | "file":
            from streamproc.avro.file_registry import FileRegistry

            return FileRegistry(_path(url), **_only(given, ("compatibility",), url))
    raise SettingsError(f"schema registry {url!r}: {_EXPECTED}")


def _path(url: str) -> str:
    path = url
    if url.lower().startswith("file://"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise SettingsError(f"schema registry {url!r}: {parts.netloc!r} is another machine; use file:///PATH")
        path = unquote(parts.path)
    elif url.lower().startswith("file:"):
        path = url[len("file:") :]
    if not path or path.endswith("/"):
        raise SettingsError(f"schema registry {url!r}: the path of a file is missing; {_EXPECTED}")
    return path


def _only(given: dict[str, Any], allowed: tuple[str, ...], url: str) -> dict[str, Any]:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise SettingsError(f"schema registry {url!r} has no option {unknown[0]!r}; it has: {', '.join(allowed)}")
    return given
