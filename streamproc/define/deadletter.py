"""Dead letters: what could not be processed, why, and where it came from."""

from __future__ import annotations

from streamproc.record import Record


class DeadLetter(Record):
    """One record that was put aside. Its bytes are as they came.

    ``topic``, ``partition`` and ``offset`` are its source position; what never reached the log has ``session``
    instead, the WebSocket session that sent it. ``stage`` is ``ingest``, ``decode`` or an agent's name; ``reason`` a
    short, stable word.
    """

    time: int
    app: str
    stage: str
    reason: str
    error: str
    traceback: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    session: str | None = None
    key: bytes | None = None
    value: bytes | None = None
