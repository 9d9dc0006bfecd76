"""What a topic's readers are given, and what is put aside before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamproc import App
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.define.deadletter import DeadLetter
from streamproc.log.origins import beat_headers
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.topic_reader import TopicReader, is_ahead
from streamproc.runtime.transport.block import Block, Fetched
from tests.log.wire import Row, batch_bytes, parsed
from topologies.shuttle import Reading

NOW, HOUR = 1_700_000_000_000, 3_600_000


class Letters:
    """An outlet that keeps dead letters."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def dead_letter(self, letter: DeadLetter, record: Any = None) -> None:
        self.letters.append(letter)


class Kit:
    def __init__(self, *, ahead: int | None = HOUR, columns: frozenset[str] | None = None, time: str | None = "ts"):
        topic = App("kit").topic("readings", Reading, key="unit", time="ts", id="id")
        self.codec = Codec.of(topic, MemoryRegistry())
        metrics = WorkerMetrics(CollectorRegistry())
        self.reader = TopicReader("readings", self.codec, columns, metrics, time=time, ahead=ahead)
        self.outlet: Any = Letters()

    def block(self, *events: tuple[int, int]) -> Block:
        """Events of these record timestamps and event times."""
        rows: list[Row] = [
            (i, stamp, b"u", self.codec.encode(Reading(f"e{i}", "u", time, *[0.5] * 9)), [])
            for i, (stamp, time) in enumerate(events)
        ]
        return Block("readings", 0, Fetched(0, (parsed(batch_bytes(rows)),), len(rows)), 2, lambda: None)

    async def read(self, block: Block) -> list[str]:
        batches = await self.reader.read(block, self.outlet, "kit")
        assert all(len(batch) for batch in batches)
        return [record.id for batch in batches for record in batch.records()]


@pytest.mark.parametrize("columns", [None, frozenset({"unit"})])
@pytest.mark.parametrize("more", [0, 60])
async def test_events_far_ahead_are_put_aside_once(columns, more):
    """For all readers of the topic, however many records there are and whichever fields are read."""
    kit = Kit(columns=columns)
    rest = [(NOW, NOW)] * more
    block = kit.block((NOW, NOW), (NOW, NOW + HOUR), (NOW, NOW + HOUR + 1), (NOW, 2**62), (NOW, -(2**63)), *rest)
    for _ in range(2):
        assert await kit.read(block) == ["e0", "e1", "e4", *(f"e{i}" for i in range(5, 5 + more))]
    first, second = kit.outlet.letters
    assert (first.stage, first.reason, first.topic, first.partition, first.offset) == (
        "decode", "time_ahead", "readings", 0, 2
    )  # fmt: skip
    assert first.error == (
        "ts is 2023-11-14T23:13:20.001Z, 1:00:00.001000 after the record's own timestamp, 2023-11-14T22:13:20.000Z; "
        "at most 1h after it is taken"
    )
    assert first.key == b"u"
    assert kit.codec.decode(first.value).id == "e2"
    assert (second.offset, second.error.split(",")[0]) == (3, "ts is 4611686018427387904 ms since the epoch")
    assert first.traceback is None


async def test_records_that_do_not_say_when_they_were_taken_in_are_believed():
    kit = Kit()
    assert await kit.read(kit.block((0, 2**62), (-1, NOW))) == ["e0", "e1"]
    assert kit.outlet.letters == []


@pytest.mark.parametrize("options", [{"ahead": None}, {"time": None}])
async def test_without_a_bound_all_are_believed(options):
    kit = Kit(**options)
    assert await kit.read(kit.block((NOW, 2**62))) == ["e0"]


async def test_nothing_may_be_left():
    kit = Kit()
    assert await kit.read(kit.block((NOW, 2**62), (NOW, 2**62))) == []
    assert len(kit.outlet.letters) == 2


LONGS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.tuples(LONGS, LONGS)), st.integers(0, 1 << 43))
def test_all_numbers_are_compared_rightly(drawn, most):
    times, stamps = (np.array(column, np.int64) for column in (list(zip(*drawn, strict=True)) or [[], []]))
    wanted = [stamp > 0 and time - stamp > most for time, stamp in drawn]
    assert is_ahead(times, stamps, most).tolist() == wanted


async def test_beats_are_told_beside_the_rows():
    kit = Kit()
    wire = kit.codec.encode(Reading("e", "u", NOW, *[0.5] * 9))
    rows: list[Row] = [
        (i, NOW, None, None, list(beat_headers("app/stage", i, NOW + i))) if i % 2 else (i, NOW, b"u", wire, [])
        for i in range(6)
    ]
    block = Block("readings", 0, Fetched(0, (parsed(batch_bytes(rows)),), 6), 2, lambda: None)
    assert await kit.read(block) == ["e"] * 3
    told = [(at, *part.tolist(), *time.tolist()) for at, part, time in kit.reader.beats(block)]
    assert told == [(1, 1, NOW + 1), (3, 3, NOW + 3), (5, 5, NOW + 5)]


async def test_a_piece_has_its_own_beats():
    kit = Kit()
    rows: list[Row] = [(i, NOW, None, None, list(beat_headers("app/stage", i, NOW + i))) for i in range(6)]
    whole = Fetched(0, (parsed(batch_bytes(rows)),), 6)
    seen, shared = [], dict[object, object]()
    for piece in (whole.piece(0, 2, 2, shared), whole.piece(2, 6, 4, shared)):
        block = Block("readings", 0, piece, 2, lambda: None)
        await kit.read(block)
        seen.append([at for at, _, _ in kit.reader.beats(block)])
    assert seen == [[0, 1], [2, 3, 4, 5]]
