"""What the transport leans on inside aiokafka and Faust: fails when a new version moves it.

The inside of websockets is held by ``tests/edge/test_pins.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError, UnknownError
from aiokafka.protocol import fetch as fetch_protocol
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from faust.transport import conductor, consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.services import WaitResults
from mode.threads import ServiceThread

from streamproc.runtime.transport import fetch
from streamproc.runtime.transport.driver import BlockSchema, Conductor, Consumer, ConsumerThread, Transport
from streamproc.runtime.transport.fetch import BlockFetcher, BlockRecords, RawRecords


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_versions_are_those_that_were_read() -> None:
    pinned = {"aiokafka": "0.14.0", "faust-streaming": "0.15.3", "websockets": "17.4"}
    assert {name: version(name) for name in pinned} == pinned


# aiokafka


def test_the_fetcher_names_the_two_classes_that_it_makes() -> None:
    code = fetcher.Fetcher._proc_fetch_request.__code__
    assert {"MemoryRecords", "PartitionRecords", "has_next", "size_in_bytes"} <= set(code.co_names)
    assert code.co_freevars == ()
    assert fetcher.Fetcher._proc_fetch_request.__defaults__ is None
    assert fetcher.Fetcher._proc_fetch_request.__kwdefaults__ is None
    assert parameters(fetcher.Fetcher._proc_fetch_request) == ["self", "assignment", "node_id", "request"]
    assert {"MemoryRecords", "PartitionRecords"} <= set(fetcher.Fetcher._proc_fetch_request.__globals__)


def test_the_fetcher_takes_partition_records_so() -> None:
    assert parameters(fetcher.PartitionRecords) == [
        "tp",
        "records",
        "aborted_transactions",
        "fetch_offset",
        "key_deserializer",
        "value_deserializer",
        "check_crcs",
        "isolation_level",
    ]
    source = inspect.getsource(fetcher.FetchResult)
    assert source.count("_partition_records.next_fetch_offset") >= 3
    assert {"__iter__", "__next__"} <= set(dir(BlockRecords))
    assert {"has_next", "size_in_bytes"} <= set(dir(RawRecords))
    assert {"has_next", "next_batch"} <= set(dir(MemoryRecords))


def test_all_that_a_consumer_needs_to_give_blocks() -> None:
    assert "self._fetcher = Fetcher(" in inspect.getsource(AIOKafkaConsumer.start)
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)
    assert not hasattr(fetcher.Fetcher, "__slots__")
    assert BlockFetcher.__mro__[1] is fetcher.Fetcher
    assert (fetcher.READ_UNCOMMITTED, fetcher.READ_COMMITTED) == (0, 1)
    assert ControlRecord.parse(b"\x00\x00\x00\x00") == ABORT_MARKER
    assert fetch.aiokafka_fetcher is fetcher


def test_fetches_are_sent_by_the_client_and_answered_so() -> None:
    assert "response = await self._client.send(node_id, request)" in inspect.getsource(fetcher.Fetcher)
    assert parameters(AIOKafkaClient.send) == ["self", "node_id", "request", "group"]
    assert parameters(FetchRequest) == [
        "max_wait_time",
        "min_bytes",
        "max_bytes",
        "isolation_level",
        "topics",
        "rack_id",
    ]
    assert (CorruptRecordException.errno, UnknownError.errno, OffsetOutOfRangeError.errno) == (2, -1, 1)
    for name in ("_retry_backoff", "_isolation_level", "_max_partition_fetch_bytes"):
        assert f"self.{name} = " in inspect.getsource(fetcher.Fetcher.__init__), name
    assert parameters(fetcher.Fetcher.end_offsets) == ["self", "partitions", "timeout_ms"]
    for response in (fetch_protocol.FetchResponse_v4, fetch_protocol.FetchResponse_v11):
        names = response.SCHEMA.fields[-1].array_of.fields[-1].array_of.names
        assert names[1:4] == ("error_code", "highwater_offset", "last_stable_offset")
        assert names[-1] == "message_set"


def test_who_waits_for_a_fetch_is_woken_with_what_went_wrong() -> None:
    assert parameters(fetcher.Fetcher._create_fetch_waiter) == ["self"]
    assert "self._subscriptions.register_fetch_waiters(self._fetch_waiters)" in inspect.getsource(fetcher.Fetcher)
    records = inspect.getsource(fetcher.Fetcher.fetched_records)
    assert "if drained or not timeout:" in records  # with no time to wait it does not wait
    assert parameters(driver.AIOKafkaConsumerThread._fetch_records) == [
        "self",
        "consumer",
        "active_partitions",
        "timeout",
        "max_records",
    ]
    assert parameters(driver.AIOKafkaConsumerThread.getmany) == ["self", "active_partitions", "timeout"]
    assert "self._close_thread_loop_on_stop = " in inspect.getsource(ServiceThread.__init__)


async def test_our_fetch_request_runs_their_code_with_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Client:
        async def send(self, node_id: int, request: Any) -> Any:
            return type("Response", (), {"API_VERSION": 11, "topics": [("t", [(0, 0, 9, 9, 0, [], -1, b"data")])]})

    class Records:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def has_next(self) -> bool:
            return True

    class State:
        has_valid_position, position = True, 5

    monkeypatch.setattr(fetch, "RawRecords", Records)
    one = BlockFetcher.__new__(BlockFetcher)
    one._client, one._client_rack, one._records, one._prefetch_backoff = Client(), None, {}, 0.1
    one._key_deserializer = one._value_deserializer = None
    one._check_crcs, one._isolation_level = True, 0
    one.block_topics = lambda: frozenset({"t"})
    monkeypatch.setattr(one, "_records_of", lambda *args: seen.append(args) or "made", raising=False)
    one._proc_for_blocks = one._for_blocks()
    assignment = type("Assignment", (), {"active": True, "state_value": lambda self, tp: State()})()
    request = type("Request", (), {"topics": [("t", [(0, 5, 1)])]})
    assert await one._proc_fetch_request(assignment, 0, request) is True
    ((tp, records, aborted, offset, *rest),) = seen
    assert (tp, type(records), aborted, offset, rest) == (("t", 0), Records, [], 5, [None, None, True, 0])
    assert [result._partition_records for result in one._records.values()] == ["made"]


# Faust


def test_the_consumer_has_what_ours_overrides() -> None:
    base = driver.Consumer
    assert parameters(base._to_message) == ["self", "tp", "record"]
    assert parameters(base._new_offset) == ["self", "tp"]
    assert parameters(base._filter_tps_with_pending_acks) == ["self", "topics"]
    assert parameters(base._add_gap) == ["self", "tp", "offset_from", "offset_to"]
    assert parameters(base.seek) == ["self", "partition", "offset"]
    assert parameters(base.on_buffer_full) == ["self", "tp"]
    for name in ("perform_seek", "seek", "wait_empty", "_wait_for_ack", "_add_gap", "commit_and_end_transactions"):
        assert inspect.iscoroutinefunction(inspect.unwrap(getattr(base, name))), name
    assert inspect.iscoroutinefunction(inspect.unwrap(base.on_partitions_revoked))
    assert parameters(base._new_consumer_thread) == ["self"]
    assert parameters(driver.AIOKafkaConsumerThread._create_worker_consumer) == ["self", "transport"]
    assert "await self._consumer.start()" in inspect.getsource(driver.AIOKafkaConsumerThread.on_start)


def test_what_is_fetched_goes_through_the_scheduler() -> None:
    getmany = inspect.getsource(consumer.Consumer.getmany)
    assert "self.scheduler.iterate(records)" in getmany
    assert "to_message(tp, record)" in getmany
    assert "self.scheduler = " in inspect.getsource(consumer.Consumer.__init__)


def test_messages_are_delivered_beside_an_event_that_calls_them_off() -> None:
    drain = inspect.getsource(consumer.Consumer._drain_messages)
    assert "await self.wait_first(" in drain
    assert "callback(message), self.suspend_flow.wait()" in drain
    assert "r_offset is None or offset >= r_offset" in drain
    assert parameters(consumer.Consumer.wait_first) == ["self", "coros", "timeout"]
    assert WaitResults._fields == ("done", "results", "stopped")


def test_commits_ask_for_the_new_offset() -> None:
    assert "self._new_offset(tp)" in inspect.getsource(consumer.Consumer._filter_committable_offsets)
    assert "self._filter_tps_with_pending_acks(topics)" in inspect.getsource(consumer.Consumer.force_commit)


def test_messages_are_made_so() -> None:
    assert parameters(ConsumerMessage) == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
        "serialized_key_size",
        "serialized_value_size",
        "tp",
        "time_in",
        "time_out",
        "time_total",
        "generation_id",
    ]
    assert "__weakref__" in dir(ConsumerMessage)


def test_the_conductor_builds_handlers_from_sets_of_channels() -> None:
    assert parameters(conductor.Conductor._build_handler) == ["self", "tp", "channels"]
    assert "self._build_handler(tp" in inspect.getsource(conductor.Conductor._update_callback_map)
    assert "_tp_index" in conductor.Conductor.__annotations__


def test_the_transport_is_made_of_our_parts() -> None:
    assert (Transport.Consumer, Transport.Conductor) == (Consumer, Conductor)
    assert issubclass(ConsumerThread, driver.AIOKafkaConsumerThread)
    assert Transport.Fetcher is driver.Transport.Fetcher


@pytest.fixture
async def app() -> AsyncIterator[Any]:
    made = faust.App("pins", broker="streamproc://localhost:1", web_enabled=False, loghandlers=[])
    yield made
    made.consumer._thread.thread_loop.close()  # a thread that never starts has its loop all the same


async def test_an_app_by_our_url_has_our_consumer(app: Any) -> None:
    assert isinstance(app.transport, Transport)
    made = app.consumer
    assert isinstance(made, Consumer)
    for name in ("_unacked_messages", "_committed_offset", "_acked", "_waiting_for_ack", "flow_active"):
        assert hasattr(made, name), name
    assert isinstance(app.topics, Conductor)
    assert made.block_topics() == frozenset()
    app.topics.add(app.topic("rows"))
    app.topics.add(app.topic("blocks", schema=BlockSchema()))
    assert made.block_topics() == {"blocks"}


@pytest.mark.parametrize("acks", [True, False])
async def test_the_compiled_stream_leaves_blocks_to_us(app: Any, acks: bool) -> None:
    """``StreamIterator.after`` acknowledges by itself; with ``noack`` it must not."""
    from faust._cython.streams import StreamIterator

    consumer_ = app.consumer
    app.topics._acking_topics.add("t")
    stream = app.stream(app.channel())
    stream = stream if acks else stream.noack()
    assert stream.enable_acks is acks
    message = ConsumerMessage("t", 0, 7, 0.0, 0, (), None, b"v", None, tp=TP("t", 0))
    message.incref()
    event = app.create_event(None, b"v", None, message)
    StreamIterator(stream).after(event, stream.enable_acks, None)
    assert message.acked is acks
    assert consumer_._acked[TP("t", 0)] == ([7] if acks else [])
