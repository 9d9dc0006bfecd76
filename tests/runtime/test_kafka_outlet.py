"""The outlet between its two producers: order, what is held, what is counted. Both producers are made up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry

from streamproc import App
from streamproc.avro.codec import Codec
from streamproc.avro.memory_registry import MemoryRegistry
from streamproc.columns import NO_TIME, Causes, Columns
from streamproc.define.deadletter import DeadLetter
from streamproc.errors import BrokerError, InvalidRecord, OversizedRecord, RecordError
from streamproc.log.batch_builder import Body, build, record_size
from streamproc.log.origins import Origin, origin_of
from streamproc.log.partition import partition_of
from streamproc.log.ports import Delivery
from streamproc.runtime.causes import causes_of
from streamproc.runtime.kafka_outlet import KafkaOutlet
from streamproc.runtime.keeper import KeptTask
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.runtime.transport.block import Block, Fetched
from tests.log.wire import parsed
from tests.runtime.kit import Ping, Pong


class Log:
    """Both producers: keeps what was handed over; a test says when Kafka has it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[bytes | None]]] = []  # how, how many, their keys
        self.bodies: list[tuple[str, int, Body]] = []
        self.dones: list[Callable[[Delivery], None]] = []
        self.values: list[bytes] = []
        self.stamps: list[int] = []
        self.headers: list[Any] = []

    def send(
        self, topic: str, value: bytes, *, key: bytes | None, done: Any, timestamp: int, headers: Any, **_: Any
    ) -> None:
        self.headers.append(headers)
        self.sent.append(("record", 1, [key]))
        self.values.append(value)
        self.stamps.append(timestamp)
        self.dones.append(done)

    def settle(self, error: Exception | None = None) -> None:
        dones, self.dones = self.dones, []
        for done in dones:
            done(Delivery(0, 0, error))


class Batches:
    def __init__(self, log: Log) -> None:
        self.log = log

    async def send(self, topic: str, partition: int, body: Body, done: Any) -> None:
        keys = [record.key for record in parsed(build(body)).records()]
        self.log.sent.append(("batch", body.records, keys))
        self.log.bodies.append((topic, partition, body))
        self.log.dones.append(done)


class Kit:
    may_be_out = False

    def __init__(self) -> None:
        app = App("test")
        self.pings = app.topic("pings", Ping, key="key")
        self.pongs = app.topic("pongs", Pong, key="key")
        self.metrics = WorkerMetrics(CollectorRegistry())
        registry = MemoryRegistry()
        self.codecs = {topic.name: Codec.of(topic, registry) for topic in app.topics.values()}
        self.log, self.failures, self.finished = Log(), [], []
        batches: Any = Batches(self.log)
        log: Any = self.log
        limits = {"pongs": 1000, app.dead_letters.name: 20_000}
        self.outlet = KafkaOutlet(
            app,
            "a",
            self.codecs,
            log,
            self.metrics,
            self.failures.append,
            batches,
            limits,
            {"pings": "0123456789"},
            lambda: self.may_be_out,
        )

    def block(self, *, restarted: bool = False) -> Block:
        fetched = Fetched(0, (), 1, restarted=restarted)
        self.outlet.block = Block("pings", 3, fetched, 1, lambda: self.finished.append(1))
        return self.outlet.block

    def keep(self, *, guarantee: str = "at_least_once") -> KeptTask:
        """State is kept from now on."""
        self.outlet._exactly_once = guarantee == "exactly_once"
        state: Any = None
        self.outlet.kept = KeptTask("a", "changelog", state, 1 << 20)
        return self.outlet.kept

    def ids(self) -> list[Origin | None]:
        """Of all that was sent, or is held."""
        bodies = [body for _, _, body in (*self.log.bodies, *(self.outlet.kept._results if self.outlet.kept else ()))]
        records = [record for body in bodies for record in parsed(build(body)).records()]
        headers = [*self.log.headers, *(record.headers for record in records)]
        return [origin_of(each, empty=True) for each in headers]

    @property
    def delivered(self) -> float:
        return self.metrics.results.labels("pongs")._value.get()

    async def columns(self, *numbers: int, causes: Causes | None = None) -> None:
        frame = pl.DataFrame({"key": [f"k{n}" for n in numbers], "n": numbers, "note": [""] * len(numbers)})
        stamps = np.arange(len(numbers), dtype=np.int64)
        await self.outlet.send_columns(self.pongs, Columns.of(frame), stamps, causes=causes)

    async def record(self, number: int, causes: Causes | None = None, headers: Any = None) -> None:
        await self.outlet.send(self.pongs, [Pong(f"k{number}", number)], [0], headers, causes)


async def test_columns_go_to_their_keys_partitions():
    kit = Kit()
    await kit.columns(*range(40))
    assert {topic for topic, _, _ in kit.log.bodies} == {"pongs"}
    codec, seen = kit.codecs["pongs"], []
    for _, partition, body in kit.log.bodies:
        for raw in parsed(build(body)).records():
            record: Any = codec.decode(raw.value or b"")
            assert raw.key == record.key.encode()
            assert raw.timestamp == record.n
            assert partition_of(raw.key or b"", kit.pongs.partitions) == partition
            seen.append(record.n)
    assert sorted(seen) == list(range(40))
    kit.log.settle()
    assert kit.delivered == 40


async def test_a_block_is_held_until_kafka_has_all_of_its_results():
    kit = Kit()
    block = kit.block()
    await kit.columns(*range(40))
    kit.outlet.block = None
    block.release()
    dones = kit.log.dones
    assert len(dones) > 1
    for done in dones[:-1]:
        done(Delivery(0, 0, None))
        assert not kit.finished
    dones[-1](Delivery(0, 0, None))
    assert kit.finished == [1]


async def test_what_kafka_refuses_fails_the_worker_and_is_not_finished():
    kit = Kit()
    block = kit.block()
    await kit.columns(1)
    block.release()
    kit.log.settle(BrokerError("too large"))
    assert [str(e) for e in kit.failures] == ["Kafka refused a result of 'a': too large"]
    assert not kit.finished
    assert kit.delivered == 0


@pytest.mark.parametrize("batches_first", [True, False])
async def test_the_other_producer_waits_for_the_one_before(batches_first):
    """A result must not overtake the one before it, whichever way each of them goes."""
    kit = Kit()
    one, other = (kit.columns, kit.record) if batches_first else (kit.record, kit.columns)
    await one(1)
    await one(1)
    waiting = asyncio.create_task(other(1))
    await asyncio.sleep(0.01)
    assert len(kit.log.sent) == 2
    kit.log.dones.pop()(Delivery(0, 0, None))
    await asyncio.sleep(0.01)
    assert len(kit.log.sent) == 2
    kit.log.settle()
    await waiting
    assert [kind for kind, *_ in kit.log.sent] == (
        ["batch"] * 2 + ["record"] if batches_first else ["record"] * 2 + ["batch"]
    )
    kit.log.settle()
    await one(2)
    assert len(kit.log.sent) == 4
    kit.log.settle()
    assert kit.delivered == 4


async def test_topics_do_not_wait_for_each_other():
    kit = Kit()
    await kit.columns(1)
    await kit.outlet.dead_letter(DeadLetter(0, "test", "a", "invalid", "no"))
    assert [kind for kind, *_ in kit.log.sent] == ["batch", "record"]


async def test_what_does_not_fit_sends_nothing_and_holds_nothing():
    kit = Kit()
    block = kit.block()
    with pytest.raises(InvalidRecord, match=r"n: \d+ does not fit"):
        await kit.columns(1, 2**40)
    assert kit.log.sent == []
    block.release()
    assert kit.finished == [1]


async def test_without_batches_columns_go_row_by_row():
    kit = Kit()
    kit.outlet._batches = None
    await kit.columns(1, 2, 3)
    assert kit.log.sent == [("record", 1, [b"k1"]), ("record", 1, [b"k2"]), ("record", 1, [b"k3"])]


async def test_others_run_while_much_is_handed_over():
    """Handing over a hundred bodies lets the loop go on in between."""
    kit = Kit()
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    kit.outlet._writer(kit.pongs)._limit = 0
    await kit.columns(*range(100))
    task.cancel()
    assert len(kit.log.sent) == 100
    assert ran >= 10


async def test_a_record_that_its_topic_does_not_take_is_refused_before_anything_is_sent():
    kit = Kit()
    with pytest.raises(OversizedRecord, match=r"about 1,\d\d\d bytes for pongs, which takes 1,000"):
        await kit.outlet.send(kit.pongs, [Pong("a", 1), Pong("b", 2, "x" * 900)], [0, 0])
    assert kit.log.sent == []
    await kit.outlet.send(kit.pongs, [Pong("b", 2, "x" * 800)], [0])
    with pytest.raises(OversizedRecord):
        await kit.outlet.send(kit.pongs, [Pong("b", 2, "x" * 800)], [0], [[("name", b"h" * 100)]])


@pytest.mark.parametrize("compiled", [True, False])
async def test_rows_that_their_topic_does_not_take_are_named(compiled):
    kit = Kit()
    kit.outlet._writer(kit.pongs)._use_kernels = compiled
    notes = ["x" * size for size in (0, 900, 700, 2000, 0)]
    frame = pl.DataFrame({"key": list("abcde"), "n": range(5), "note": notes})
    with pytest.raises(RecordError) as caught:
        await kit.outlet.send_columns(kit.pongs, Columns.of(frame), np.zeros(5, np.int64))
    assert (caught.value.reason, caught.value.rows.tolist()) == ("too_large", [1, 3])
    assert kit.log.sent == []
    await kit.outlet.send_columns(kit.pongs, Columns.of(frame[[0, 2, 4]]), np.zeros(3, np.int64))
    assert all(len(build(body, codec="none")) <= 1000 for _, _, body in kit.log.bodies)


async def test_no_result_is_stamped_far_ahead_of_the_clock():
    """Brokers refuse what is stamped more than an hour ahead, and the worker could do nothing about it."""
    kit = Kit()
    now = int(time.time() * 1000)
    await kit.outlet.send(kit.pongs, [Pong("a", 1), Pong("a", 2)], [now - 5, now + 10_000_000])
    assert kit.log.stamps[0] == now - 5
    assert now < kit.log.stamps[1] <= int(time.time() * 1000) + 60_000
    kit.log.settle()
    frame = pl.DataFrame({"key": ["a"], "n": [1], "note": [""]})
    await kit.outlet.send_columns(kit.pongs, Columns.of(frame), np.array([now + 10_000_000]))
    (_, _, body) = kit.log.bodies[-1]
    assert body.max_timestamp <= int(time.time() * 1000) + 60_000


async def test_a_letter_always_fits():
    kit = Kit()
    letter = DeadLetter(1, "test", "a", "agent_error", "e" * 100_000, "t" * 100_000, "pings", 0, 7)
    await kit.outlet.dead_letter(msgspec.structs.replace(letter, key=b"k" * 1_000_000, value=b"v" * 1_000_000))
    await kit.outlet.dead_letter(letter, Ping("k" * 1_000_000, 1))
    await kit.outlet.dead_letter(msgspec.structs.replace(letter, error="short", traceback=None, value=b"v" * 9000))
    assert all(len(value) < 20_000 for value in kit.log.values)
    first, second, whole = (kit.codecs["test-dead-letters"].decode(value) for value in kit.log.values)
    assert first.error.endswith(
        "(of the key's 1000000 bytes the first 2000 are kept) (of the value's 1000000 bytes the first 10000 are kept)"
    )
    assert (first.key, first.value, second.key) == (b"k" * 2000, b"v" * 10_000, b"k" * 2000)
    assert (whole.error, whole.value) == ("short", b"v" * 9000)


def causes(*offsets: int, times: list[int] | None = None) -> Causes:
    """One result of each event."""
    stamps = None if times is None else np.array(times)
    return Causes(np.array(offsets), np.zeros(len(offsets), np.int64), stamps)


def origin(offset: int, time: int = NO_TIME) -> Origin:
    return Origin("test/a@01234567", 3, offset, 0, time)


class TestIds:
    """What is sent ahead of its state has an id; what has none waits for its state."""

    async def test_results_have_ids_however_they_go(self):
        kit = Kit()
        kit.block()
        await kit.columns(1, causes=causes(10))
        kit.log.settle()
        await kit.record(2, causes(11))
        assert kit.ids() == [origin(11), origin(10)]
        kit.log.settle()
        await kit.record(2, causes(12), [(("missed", b"1"),)])
        assert kit.log.headers[-1][0] == ("missed", b"1")
        assert kit.ids()[1] == origin(12)

    async def test_many_rows(self):
        kit = Kit()
        kit.block()
        await kit.columns(*range(40), causes=causes(*range(100, 140)))
        assert sorted(found.offset for found in kit.ids() if found) == list(range(100, 140))

    async def test_without_state_nothing_waits(self):
        kit = Kit()
        kit.block()
        await kit.columns(1)
        kit.log.settle()
        await kit.record(2)
        assert kit.ids() == [None, None]

    async def test_results_without_an_id_wait_for_their_state_and_those_behind_them_too(self):
        kit = Kit()
        kit.block()
        kept = kit.keep()
        await kit.columns(1, causes=causes(10))
        assert (len(kit.log.bodies), kept._results) == (1, [])
        await kit.columns(2)
        await kit.record(3)
        await kit.record(4, causes(11))
        assert (len(kit.log.bodies), kit.log.headers, len(kept._results)) == (1, [], 3)
        assert kit.ids() == [origin(10), None, None, origin(11)]  # it may have been sent ahead before a crash

    async def test_dead_letters_need_no_id_to_be_sent(self):
        kit = Kit()
        kit.block()
        kept = kit.keep()
        await kit.outlet.dead_letter(DeadLetter(0, "test", "a", "invalid", "no"))
        assert (kit.log.headers, kept._results) == ([()], [])

    async def test_what_comes_once_needs_no_id_but_what_is_rekeyed_tells_its_stream_time(self):
        kit = Kit()
        kit.block()
        kit.keep(guarantee="exactly_once")
        await kit.columns(1, causes=causes(10))
        await kit.columns(1, causes=causes(11, times=[500]))
        assert kit.ids() == [None, origin(11, 500)]

    async def test_a_topic_that_was_made_anew_gives_other_ids(self):
        """Its offsets begin again: nobody shall take its results for the old ones."""
        kit = Kit()
        kit.block()
        await kit.columns(1, causes=causes(10))
        kit.block(restarted=True)
        await kit.columns(1, causes=causes(0))
        kit.block()
        await kit.columns(1, causes=causes(1))
        (a, b, c) = kit.ids()
        assert a == origin(10)
        assert b is not None
        assert c is not None
        assert b.stage == c.stage != origin(0).stage

    @pytest.mark.parametrize("held", [False, True])
    async def test_beats_go_to_every_partition_behind_what_was_sent_before(self, held):
        kit = Kit()
        kit.block()
        kept = kit.keep(guarantee="exactly_once" if held else "at_least_once")
        await kit.columns(1, causes=causes(10, times=[7]))
        await kit.outlet.beat(kit.pongs, 3, 77, 5)
        went = [result[1:] for result in kept._results] if held else [body[1:] for body in kit.log.bodies]
        assert [partition for partition, _ in went[1:]] == [0, 1, 2, 3]
        beat = Origin("test/a", 3, -1, -1, 77)
        assert kit.ids() == [origin(10, 7), *[beat] * 4]
        for _, body in went[1:]:
            (record,) = parsed(build(body)).records()
            assert (record.key, record.value, record.timestamp) == (None, None, 5)
        kit.log.settle()
        assert kit.delivered == (0 if held else 1)  # beats are no results

    async def test_ids_count_for_a_records_size(self):
        kit = Kit()
        kit.block()
        note = "x" * (1000 - record_size(b"k", kit.codecs["pongs"].encode(Pong("k", 1))) - 40)
        await kit.outlet.send(kit.pongs, [Pong("k", 1, note)], [0])
        with pytest.raises(OversizedRecord):
            await kit.outlet.send(kit.pongs, [Pong("k", 1, note)], [0], causes=causes(10))


async def test_while_others_may_be_at_work_on_the_same_all_waits_for_the_flush():
    kit = Kit()
    kept = kit.keep()
    kit.block()
    kit.may_be_out = True
    await kit.record(1, causes_of(np.array([1])))
    await kit.columns(2, causes=causes_of(np.array([2])))
    await kit.outlet.beat(kit.pongs, 0, 1, 5)
    await kit.outlet.dead_letter(DeadLetter(0, "test", "a", "invalid", "no"))
    assert not kit.log.sent
    assert len(kept._results) == 3 + kit.pongs.partitions
    kept._results.clear()  # as a flush does
    kit.may_be_out = False
    await kit.record(3, causes_of(np.array([3])))
    assert kit.log.sent
    assert not kept._results


async def test_without_state_nothing_waits():
    kit = Kit()
    kit.block()
    kit.may_be_out = True
    await kit.record(1, causes_of(np.array([1])))
    assert kit.log.sent
