"""Where results go."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import Protocol

import msgspec

from streamproc.columns import Causes, Columns, Longs
from streamproc.define.deadletter import DeadLetter
from streamproc.define.topic import Topic
from streamproc.errors import RecordError
from streamproc.log.ports import Headers
from streamproc.record import Record

_TEXT_LIMIT = 8000  # characters of an error, and of a traceback


class Outlet(Protocol):
    """Takes results and dead letters. Waits while there is no room."""

    async def send(
        self,
        topic: Topic,
        records: Sequence[Record],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        causes: Causes | None = None,
    ) -> None:
        """Sends records to a topic. ``timestamps`` are those of the events that caused them; ``causes`` says which
        events these were, where that is the same in every run.

        Raises:
            RecordError: one does not fit its schema; none was sent.
        """

    async def send_columns(
        self,
        topic: Topic,
        columns: Columns,
        timestamps: Longs,
        partitions: Longs | None = None,
        causes: Causes | None = None,
    ) -> None:
        """Sends rows to a topic, given as the fields of its record. ``partitions`` are those of their keys, where the
        caller knows them.

        Raises:
            RecordError: one does not fit its schema; none was sent.
        """

    async def beat(self, topic: Topic, partition: int, time: int, timestamp: int) -> None:
        """Tells every partition of a topic that is rekeyed how far a partition of its source is: its stream time.
        ``timestamp``: of the last record there. Brokers took it, which is more than the worker's clock can say.
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
    text = None if known else "".join(traceback.format_exception(error))[-_TEXT_LIMIT:]
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


def cut(letter: DeadLetter, most: int) -> DeadLetter:
    """The letter in about ``most`` bytes: a tenth of them for its key, a half for its value.
    Its error says what was cut.
    """
    texts = min(_TEXT_LIMIT, most // 25)  # characters, of up to four bytes
    said, text = letter.error[:texts], letter.traceback
    kept: dict[str, bytes] = {}
    for name, part, room in (("key", letter.key, most // 10), ("value", letter.value, most // 2)):
        if part is not None and len(part) > room:
            said += f" (of the {name}'s {len(part)} bytes the first {room} are kept)"
            kept[name] = part[:room]
    return msgspec.structs.replace(letter, error=said, traceback=text and text[-texts:], **kept)
