"""Finds in their topics the records that dead letters are about."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamproc.cli.letters import Found
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import BrokerUnavailable

_WITHIN = 15.0  # seconds for Kafka's answer
_VISIBLE_WITHIN, _PAUSE = 5.0, 0.01
_NEAR = 2000  # offsets that are read over rather than jumped over
_NOWHERE = -_NEAR


class Originals:
    """Finds the records that letters are about, where their topics still have them: only there are their headers and
    timestamps, and what did not fit into the letter.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self._consumer = Consumer(
            conf
            | {
                "group.id": "streamproc-dlq",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._found: dict[tuple[str, int, int], Message] = {}

    def close(self) -> None:
        self._consumer.close()

    def of(self, letter: DeadLetter) -> Message | None:
        """One of those that were looked up last."""
        return self._found.get((letter.topic or "", letter.partition or 0, letter.offset or 0))

    def look_up(self, letters: Sequence[DeadLetter]) -> None:
        """Reads what these letters are about."""
        self._found = {}
        wanted: dict[tuple[str, int], set[int]] = {}
        for letter in letters:
            if letter.topic is not None and letter.partition is not None and letter.offset is not None:
                wanted.setdefault((letter.topic, letter.partition), set()).add(letter.offset)
        for (topic, partition), offsets in wanted.items():
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_WITHIN)
            except KafkaException:
                continue  # no such topic or partition any more
            self._read(topic, partition, [offset for offset in sorted(offsets) if low <= offset < high])

    def await_committed(self, topic: str, partition: int, offset: int) -> None:
        """Returns when readers of what is committed can see an offset, which is some milliseconds after its
        transaction's commit; or after a while, for it is committed anyway.
        """
        until = time.monotonic() + _VISIBLE_WITHIN
        while time.monotonic() < until:
            try:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_WITHIN)
            except KafkaException:
                return
            if end > offset:
                return
            time.sleep(_PAUSE)

    def _read(self, topic: str, partition: int, offsets: list[int]) -> None:
        at, keep = _NOWHERE, frozenset(offsets)
        for offset in offsets:
            if offset < at:
                continue  # passed over: it is not there
            if offset - at >= _NEAR:
                self._consumer.assign([TopicPartition(topic, partition, offset)])
            at = self._until(topic, partition, offset, keep)

    def _until(self, topic: str, partition: int, offset: int, keep: frozenset[int]) -> int:
        """Reads up to an offset, and keeps what is wanted; returns the next one."""
        until = time.monotonic() + _WITHIN
        while time.monotonic() < until:
            raw = self._consumer.poll(0.2)
            if raw is None:
                continue
            error = raw.error()
            if error is not None:
                if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                    continue
                return _NOWHERE  # the end, or out of range
            found = raw.offset() or 0
            if found in keep:
                self._found[topic, partition, found] = raw
            if found >= offset:
                return found + 1
        raise BrokerUnavailable(f"Kafka gave nothing of {topic}[{partition}] for {_WITHIN:g} s")


def is_same(original: Message, found: Found) -> bool:
    """Whether a letter is about this record: its topic may have been made anew since."""
    letter, value = found.letter, original.value()
    if value is None or letter.value is None:
        return False
    key = original.key()
    if found.is_cut:
        return value.startswith(letter.value) and (key or b"").startswith(letter.key or b"")
    return bool(value == letter.value and key == letter.key)
