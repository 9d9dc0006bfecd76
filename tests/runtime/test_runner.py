"""Runner and outlet over a log in memory: what is sent, what is held, what is seen twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamproc import App, Batch, Stream, count, maximum, mean, tumbling
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.columns import Causes
from streamproc.define.agent import Agent
from streamproc.errors import InvalidRecord
from streamproc.log.batches import RawRecord
from streamproc.log.memory import MemoryLog
from streamproc.log.origins import OriginHeaders, beat_headers
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.quiet import OnceInAWhile
from streamproc.runtime.runner import Runner
from streamproc.runtime.tasks import needed_columns
from streamproc.runtime.topic_reader import TopicReader
from streamproc.runtime.topics import topic_specs
from streamproc.runtime.transport.block import Block, Fetched
from topologies.shuttle import Bar, Reading, Score


class Kit:
    """A topology with one window and one row agent, and everything that a worker would put around it."""

    def __init__(self) -> None:
        app = App("kit", partitions=2)
        self.readings = app.topic("readings", Reading, key="unit", time="ts", id="id")
        self.scores = app.channel("scores", Score, key="unit", cause="event")
        counts: list[str] = []

        @app.agent(self.readings, sink=self.scores)
        async def score(stream: Stream[Reading]) -> AsyncIterator[Score]:
            seen = 0
            async for reading in stream:
                if reading.s1 < 0:
                    raise ValueError("below zero")
                seen += 1
                counts.append(reading.id)
                yield Score(reading.id, reading.unit, reading.ts, float(seen))

        self.app, self.counts = app, counts
        self.log = MemoryLog()
        for spec in topic_specs(app):
            self.log.create(spec)
        registry = MemoryRegistry()
        self.codecs = {topic.name: Codec.of(topic, registry) for topic in app.topics.values()}
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.producer = self.log.producer()
        self.failures: list[Exception] = []
        self.finished: list[int] = []
        self.reader = TopicReader("readings", self.codecs["readings"], None, self.metrics)
        self.runners: list[Runner] = []
        self.now = 0

    def outlet(self, name: str) -> KafkaOutlet:
        return KafkaOutlet(self.app, name, self.codecs, self.producer, self.metrics, self.failures.append)

    def runner(self, name: str = "score") -> Runner:
        self.runners.append(
            Runner(self.app.agents[name], {"readings": self.reader}, self.outlet(name), self.metrics, lambda: self.now)
        )
        return self.runners[-1]

    def block(self, *values: bytes | None, first: int = 0, holders: int = 1, partition: int = 0) -> Block:
        records = [RawRecord(first + i, 1000 + i, b"u", value, ()) for i, value in enumerate(values)]
        after = first + len(values)
        return Block(
            "readings", partition, Fetched(first, [records], after), holders, lambda: self.finished.append(after)
        )

    def wire(self, *ids: str, s1: float = 1.0) -> list[bytes]:
        codec = self.codecs["readings"]
        return [codec.encode(Reading(id, "u", 0, s1, *[0.0] * 8)) for id in ids]

    def decoded(self, topic: str) -> list[object]:
        return [self.codecs[topic].decode(m.value or b"") for m in self.log.messages(topic)]


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    kit = Kit()
    yield kit
    for runner in kit.runners:
        await runner.stop()


async def test_a_block_is_finished_when_kafka_has_all_of_its_results(kit: Kit) -> None:
    kit.log.down()
    await kit.runner().take(kit.block(*kit.wire("a", "b")))
    await asyncio.sleep(0)
    assert kit.finished == []
    kit.log.up()
    await kit.producer.flush()
    assert kit.finished == [2]
    assert [score.event for score in kit.decoded("scores")] == ["a", "b"]  # type: ignore[attr-defined]


async def test_results_carry_the_time_of_intake_and_the_key(kit: Kit) -> None:
    await kit.runner().take(kit.block(*kit.wire("a", "b")))
    await kit.producer.flush()
    assert [(m.timestamp, m.key) for m in kit.log.messages("scores")] == [(1000, b"u"), (1001, b"u")]


async def test_a_full_producer_is_waited_for(kit: Kit) -> None:
    kit.log.max_messages = 1
    await asyncio.wait_for(kit.runner().take(kit.block(*kit.wire(*"abcde"))), 5)
    await kit.producer.flush()
    assert len(kit.log.messages("scores")) == 5
    assert kit.finished == [5]


async def test_what_the_state_has_seen_is_not_seen_again(kit: Kit) -> None:
    runner = kit.runner()
    await runner.take(kit.block(*kit.wire("a", "b")))
    await runner.take(kit.block(*kit.wire("a", "b", "c")))  # after a rebalance, from an older commit
    assert kit.counts == ["a", "b", "c"]


async def test_a_partition_that_left_comes_back_without_its_state(kit: Kit) -> None:
    runner = kit.runner()
    await runner.take(kit.block(*kit.wire("a")))
    await runner.keep([1])
    await runner.take(kit.block(*kit.wire("a")))
    await kit.producer.flush()
    assert [score.score for score in kit.decoded("scores")] == [1.0, 1.0]  # type: ignore[attr-defined]


async def test_a_partition_that_leaves_in_the_middle_of_a_block_disturbs_nobody(kit: Kit) -> None:
    started, never = asyncio.Event(), asyncio.Event()

    async def waits(stream: Stream[Reading]) -> AsyncIterator[Score]:
        async for reading in stream:
            started.set()
            await never.wait()
            yield Score(reading.id, reading.unit, 0, 0.0)

    kit.app.add(Agent("waits", kit.readings, (kit.scores,), waits))
    runner = kit.runner("waits")
    taking = asyncio.create_task(runner.take(kit.block(*kit.wire("a"))))
    await started.wait()
    await runner.keep(())
    await asyncio.wait_for(taking, 5)
    assert kit.finished == []  # it is somebody else's now


async def test_bad_records_are_put_aside_once_for_all_readers(kit: Kit) -> None:
    kit.readings.window(tumbling("1s"), idle=None).agg("bars", Bar, **_bar())
    for spec in topic_specs(kit.app):
        kit.log.create(spec)
    registry = kit.codecs["readings"].registry
    kit.codecs |= {topic.name: Codec.of(topic, registry) for topic in kit.app.topics.values()}
    good = kit.wire("a", "b")
    block = kit.block(good[0], b"\x00\x00\x00\x00\x63rest", b"plain", good[1][:-3], good[1], None, holders=2)
    await kit.runner("score").take(block)
    await kit.runner("bars").take(block)
    await kit.producer.flush()
    letters = kit.decoded("kit-dead-letters")
    assert (
        [(x.offset, x.reason, x.stage, x.value) for x in letters]
        == [  # type: ignore[attr-defined]
            (1, "undecodable", "decode", b"\x00\x00\x00\x00\x63rest"),
            (2, "undecodable", "decode", b"plain"),
            (3, "undecodable", "decode", good[1][:-3]),
        ]
    )
    assert kit.counts == ["a", "b"]
    assert kit.finished == [6]


def _bar() -> dict[str, object]:
    return {"n": count(), "mean": mean("s1"), "peak": maximum("s4")}


async def test_an_event_that_raises_becomes_a_dead_letter_with_its_bytes(kit: Kit) -> None:
    (bad,) = kit.wire("bad", s1=-1.0)
    await kit.runner().take(kit.block(*kit.wire("a"), bad, *kit.wire("b")))
    await kit.producer.flush()
    (letter,) = kit.decoded("kit-dead-letters")
    assert (letter.offset, letter.stage, letter.reason, letter.value) == (1, "score", "agent_error", bad)  # type: ignore[attr-defined]
    assert "below zero" in letter.traceback  # type: ignore[attr-defined]
    assert kit.counts == ["a", "b"]
    assert kit.finished == [3]


async def test_a_result_that_kafka_refuses_for_good_stops_the_worker(kit: Kit) -> None:
    kit.log.down()
    await kit.runner().take(kit.block(*kit.wire("a")))
    kit.log.expire()
    await kit.producer.flush()
    (failure,) = kit.failures
    assert "score" in str(failure)
    assert kit.finished == []


async def test_results_are_sent_all_or_none(kit: Kit) -> None:
    outlet = kit.outlet("score")
    with pytest.raises(InvalidRecord, match="ts"):
        await outlet.send(kit.scores, [Score("b", "u", 0, 0.5), Score("a", "u", 2**70, 0.5)], [0, 0])
    await kit.producer.flush()
    assert kit.log.messages("scores") == []


async def test_late_events_go_out_whole_though_only_some_columns_were_read(kit: Kit) -> None:
    kit.readings.window(tumbling("1s"), idle=None).agg("bars", Bar, **_bar())
    for spec in topic_specs(kit.app):
        kit.log.create(spec)
    kit.codecs |= {t.name: Codec.of(t, kit.codecs["readings"].registry) for t in kit.app.topics.values()}
    codec = kit.codecs["readings"]
    rows = [Reading(f"e{i}", "u", ts, *[float(i)] * 9) for i, ts in enumerate([0, 5000, 100])]
    kit.reader = TopicReader("readings", codec, needed_columns(kit.app.agents["bars"]), kit.metrics)
    await kit.runner("bars").take(kit.block(*(codec.encode(row) for row in rows)))
    await kit.producer.flush()
    (late,) = kit.log.messages("bars-late")
    assert codec.decode(late.value or b"") == rows[2]
    headers = dict(late.headers)
    assert {name: headers[name] for name in ("missed", "of")} == {"missed": b"1", "of": b"1"}


async def test_only_time_that_was_seen_to_be_idle_closes_windows(kit: Kit) -> None:
    kit.readings.window(tumbling("1s"), idle="2s").agg("bars", Bar, **_bar())
    for spec in topic_specs(kit.app):
        kit.log.create(spec)
    kit.codecs |= {t.name: Codec.of(t, kit.codecs["readings"].registry) for t in kit.app.topics.values()}
    runner = kit.runner("bars")
    await runner.take(kit.block(*kit.wire("a")))

    async def bars() -> int:
        await runner.advance()
        await kit.producer.flush()
        return len(kit.log.messages("bars"))

    kit.now = 1_000_000  # the worker was held up: nobody knows what waits in Kafka
    assert await bars() == 0
    runner.idle_for("readings", 0, 1900)
    runner.idle_for("readings", 1, 9000)  # another partition
    assert await bars() == 0
    runner.idle_for("readings", 0, 200)
    assert await bars() == 1


async def test_a_batch_of_records_and_its_columns_say_the_same() -> None:
    rows = [Reading(str(i), "u", i, *[float(i)] * 9) for i in range(3)]
    batch = Batch.of("readings", 0, rows)
    assert batch["s1"].to_list() == batch.frame["s1"].to_list() == [0.0, 1.0, 2.0]


def test_libraries_say_the_same_thing_once_in_a_while() -> None:
    calm = OnceInAWhile(every=1000.0)

    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, None, None)

    assert calm.filter(record("cannot connect to 127.0.0.1:9092"))
    assert not calm.filter(record("cannot connect to 127.0.0.1:9093"))
    assert calm.filter(record("something else"))
    assert not calm.filter(record("Group Coordinator Request failed: GroupCoordinatorNotAvailableError"))


async def test_what_one_partition_tells_counts_though_another_ones_row_lies_behind_it(kit: Kit) -> None:
    kit.readings.rekey("id").to("ordered", Reading, key="id", time="ts")
    for spec in topic_specs(kit.app):
        kit.log.create(spec)
    kit.codecs |= {t.name: Codec.of(t, kit.codecs["readings"].registry) for t in kit.app.topics.values()}
    name = kit.app.agents["ordered"].source.name
    codec = kit.codecs[name]

    def row(offset: int, time: int) -> RawRecord:
        causes = Causes(np.array([offset]), np.array([0]), np.array([time]))
        (headers,) = OriginHeaders("kit/by-id", 0, causes).headers()
        return RawRecord(offset, 1000, b"e", codec.encode(Reading(f"e{offset}", "u", time, *[0.0] * 9)), headers)

    told = RawRecord(1, 1000, None, None, beat_headers("kit/by-id", 1, 500))  # and never again: it has ended there
    records = [row(0, 100), told, row(2, 300)]
    reader = TopicReader(name, codec, None, kit.metrics)
    outlet = kit.outlet("ordered")
    runner = Runner(kit.app.agents["ordered"], {name: reader}, outlet, kit.metrics, lambda: kit.now)
    kit.runners.append(runner)
    await runner.take(Block(name, 0, Fetched(0, [records], 3), 1, lambda: None))
    await kit.producer.flush()
    assert [reading.id for reading in kit.decoded("ordered")] == ["e0"]  # type: ignore[attr-defined]
