"""Instants as they are given on a command line."""

from __future__ import annotations

import time
from datetime import datetime

from streamproc.define.duration import milliseconds
from streamproc.errors import DefinitionError, SettingsError


def instant(text: str, option: str, others: str = "") -> int:
    """Milliseconds since the epoch: of a time, or of so long ago. A time without a zone is this machine's.

    Raises:
        SettingsError: it is neither; the message names the option, and what else it takes.
    """
    try:
        return int(time.time() * 1000) - milliseconds(text)
    except DefinitionError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        said = f"{option}: expected {others}1h, 30m or a time such as 2026-01-31T12:00Z; got {text!r}"
        raise SettingsError(said) from None
