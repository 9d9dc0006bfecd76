"""The changes of a task's tables as results of the flush that keeps them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import msgspec

from streamproc.avro.codec import Codec
from streamproc.define.app import App
from streamproc.define.topic import Topic
from streamproc.errors import OversizedRecord, RecordError
from streamproc.log.batch_builder import BATCH_OVERHEAD, LIMIT, packed, record_size
from streamproc.log.partition import partition_of
from streamproc.log.ports import DEFAULT_MESSAGE_LIMIT
from streamproc.process.state import Changes
from streamproc.process.table_changes import TableChanges
from streamproc.record import Record
from streamproc.runtime.keeper import Result
from streamproc.runtime.outlet import cut, letter_for

_log = logging.getLogger("streamproc.deadletters")


class ChangeStreams:
    """Of one stage and partition.

    Args:
        codecs: by topic name.
        limits: by topic name, how many bytes a record batch may have.
    """

    def __init__(
        self, app: App, stage: str, partition: int, codecs: Mapping[str, Codec], limits: Mapping[str, int]
    ) -> None:
        streams = [table.change_stream for table in app.tables.values() if table.change_stream is not None]
        self._changes = TableChanges(streams, stage, partition)
        self._app, self._stage, self._codecs, self._limits = app, stage, codecs, limits

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._changes)

    def results(self, changes: Changes, header: Mapping[str, int | None]) -> list[Result]:
        """What goes out with the flush of changes and header. A change that does not fit its channel becomes a dead
        letter there: the state has it all the same.
        """
        now = int(time.time() * 1000)
        found: list[Result] = []
        for stream, records in self._changes.records(changes, header.get("time"), now):
            by_partition: dict[int, tuple[list[bytes], list[bytes]]] = {}
            for record in records:
                try:
                    key, value = self._encoded(stream.channel, record)
                except RecordError as error:
                    found += self._put_aside(stream.channel, record, error, now)
                    continue
                at = partition_of(key, stream.channel.partitions)
                keys, values = by_partition.setdefault(at, ([], []))
                keys.append(key)
                values.append(value)
            for at, (keys, values) in by_partition.items():
                found += self._packed(stream.channel, at, keys, values, now)
        return found

    def _encoded(self, channel: Topic, record: Record) -> tuple[bytes, bytes]:
        value, key = self._codecs[channel.name].encode(record), channel.key_of(record)
        assert key is not None
        if (size := record_size(key, value)) > (most := self._limit(channel)):
            raise OversizedRecord(channel.name, size, most, "of a table's change")
        return key, value

    def _packed(
        self, topic: Topic, partition: int, keys: list[bytes] | list[None], values: list[bytes], now: int
    ) -> list[Result]:
        limit = min(LIMIT, self._limit(topic) - BATCH_OVERHEAD)
        return [Result(topic.name, partition, body) for body in packed([now] * len(keys), keys, values, limit)]

    def _put_aside(self, channel: Topic, record: Record, error: RecordError, now: int) -> list[Result]:
        sink = self._app.dead_letters
        letter = letter_for(
            error, app=self._app.name, stage=self._stage, topic=channel.name, key=channel.key_of(record)
        )
        letter = msgspec.structs.replace(letter, value=msgspec.json.encode(record))
        _log.warning("put aside (%s, %s): %s", letter.stage, letter.reason, letter.error[:200])
        value = self._codecs[sink.name].encode(cut(letter, self._limit(sink)))
        return self._packed(sink, 0, [None], [value], now)

    def _limit(self, topic: Topic) -> int:
        return self._limits.get(topic.name, DEFAULT_MESSAGE_LIMIT)
