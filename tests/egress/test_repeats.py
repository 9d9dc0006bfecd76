"""Results that lie in the log twice, as a worker that was killed leaves them, reach a subscriber once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamproc.log.origins import NAME, OriginHeaders, beat_headers
from streamproc.log.ports import Headers, Message
from streamproc.runtime.causes import causes_of
from streamproc_egress import repeats as module
from streamproc_egress.repeats import Repeats
from tests.edge.kit import Note, world


def headers(start: int, stop: int, *, stage: str = "t/notes", partition: int = 0) -> list[Headers]:
    """Of two results of each event."""
    causes = causes_of(np.repeat(np.arange(start, stop), 2))
    assert causes is not None
    return list(OriginHeaders(stage, partition, causes).headers())


def message(own: Headers, *, topic: str = "t", partition: int = 0, value: bytes | None = b"v") -> Message:
    return Message(topic, partition, 0, 0, None, value, own)


def test_what_is_told_apart() -> None:
    repeats = Repeats()
    (first, second, *_) = headers(5, 6)
    assert [repeats.is_new(message(own)) for own in (first, second, first, second)] == [True, True, False, False]
    assert repeats.is_new(message(first, partition=1))
    assert repeats.is_new(message(first, topic="u"))
    assert repeats.is_new(message(headers(5, 6, stage="t/other")[0]))
    assert repeats.is_new(message(headers(5, 6, partition=1)[0]))
    assert not repeats.is_new(message(headers(4, 5)[1]))
    assert not repeats.is_new(message(beat_headers("t/notes", 0, 5), value=None))
    for foreign in ((), ((NAME, b"what"),), (("other", b""),)):
        assert [repeats.is_new(message(foreign)) for _ in range(2)] == [True, True]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    repeats = Repeats()
    for partition in (0, 1, 0, 2):
        repeats.is_new(message(headers(repeats_of(repeats, partition), 99, partition=partition)[0]))
    assert {source[-1] for source in repeats._seen} == {0, 2}


def repeats_of(repeats: Repeats, partition: int) -> int:
    """An offset behind all that came."""
    return max([seen[0] + 1 for source, seen in repeats._seen.items() if source[-1] == partition], default=0)


async def test_a_subscriber_gets_each_result_once() -> None:
    async with world() as there, there.client() as client:
        channel = "t-bare"
        sub = await client.ask(op="subscribe", id="1", ch=channel)
        assert sub["op"] == "subscribed"
        wanted: list[str] = []

        def emit(start: int, stop: int) -> None:
            for i, own in enumerate(headers(start, stop)):
                text = f"{start + i // 2}.{i % 2}"
                wanted.append(text)
                there.emit(channel, Note(text), headers=own, partition=0)

        emit(0, 10)
        emit(6, 14)  # killed at 10, and on again from what was kept at 6
        emit(6, 14)  # twice
        there.emit(channel, Note("of no stage"), partition=0)
        there.emit(channel, Note("of no stage"), partition=0)
        emit(14, 15)
        texts: list[Any] = []
        number = 1
        while "14.1" not in texts:
            frame = await client.the("batch")
            assert frame["seq"] == number  # no gaps, either
            number += len(frame["msgs"])
            texts += [each["d"]["text"] for each in frame["msgs"]]
        new = list(dict.fromkeys(wanted))
        assert texts == [*new[:-2], "of no stage", "of no stage", *new[-2:]]
        assert len(there.records(channel)) == 20 + 16 + 16 + 2 + 2


async def test_what_came_while_nobody_listened_is_known_when_it_comes_again() -> None:
    async with world() as there, there.client() as client:
        for i, own in enumerate(headers(0, 3)):
            there.emit("t-bare", Note(f"{i}"), headers=own, partition=0)
        await there.producer.flush()
        other = await client.ask(op="subscribe", id="1", ch="t-results")  # the tail has had its turn
        assert other["op"] == "subscribed"
        await client.ask(op="subscribe", id="2", ch="t-bare")
        for i, own in enumerate(headers(0, 4)):
            there.emit("t-bare", Note(f"{i}"), headers=own, partition=0)
        frame = await client.the("batch")
        assert [each["d"]["text"] for each in frame["msgs"]] == ["6", "7"]
