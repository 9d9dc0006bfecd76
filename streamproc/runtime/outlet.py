"""Where results go."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import Protocol

from streamproc.columns import Columns, Longs
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.errors import RecordError
from streamproc.log.ports import Headers
from streamproc.record import Record

_TRACEBACK_LIMIT = 8000
_VALUE_LIMIT = 500_000  # bytes: Kafka takes messages of a million by default


class Outlet(Protocol):
    """Takes results and dead letters. Waits while there is no room."""

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Sends records to a topic. ``timestamps`` are those of the events that caused them.

        Raises:
            RecordError: one does not fit its schema; none was sent.
        """

    async def send_columns(
        self, topic: Topic, columns: Columns, timestamps: Longs, partitions: Longs | None = None
    ) -> None:
        """Sends rows to a topic, given as the fields of its record. ``partitions`` are those of their keys, where the
        caller knows them.

        Raises:
            RecordError: one does not fit its schema; none was sent.
        """

    async def dead_letter(self, letter: DeadLetter, record: Record | None = None) -> None:
        """Sends a dead letter; with ``record``, its key and value are that record's, encoded as in ``letter.topic``."""


def letter_for(
    error: BaseException,
    *,
    app: str,
    stage: str,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
    key: bytes | None = None,
    value: bytes | None = None,
) -> DeadLetter:
    """The dead letter for a record and the error that it met; with the traceback, where it was user code's."""
    known = isinstance(error, RecordError)
    said = f"{error}" if known else f"{type(error).__name__}: {error}"
    if value is not None and len(value) > _VALUE_LIMIT:
        said += f" (of {len(value)} bytes the first {_VALUE_LIMIT} are kept)"
        value = value[:_VALUE_LIMIT]
    text = None if known else "".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]
    return DeadLetter(
        time=int(time.time() * 1000),
        app=app,
        stage=stage,
        reason=error.reason if isinstance(error, RecordError) else "agent_error",
        error=said,
        traceback=text,
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
    )
