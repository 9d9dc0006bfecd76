"""What ``transport.producer`` leans on inside aiokafka. A failure here says which inside has moved."""

from __future__ import annotations

import inspect
import re
from typing import Any

from aiokafka.producer import message_accumulator, sender, transaction_manager
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from streamproc.runtime.transport.producer import BatchProducer
from streamproc.runtime.transport.sender import LAST_SEQUENCE, Parcel, Sequences
from streamproc.settings import KafkaSettings

TP = TopicPartition("t", 0)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(function: Any) -> str:
    return inspect.getsource(function)


def test_a_parcel_has_all_that_aiokafka_asks_of_a_builder() -> None:
    asked = set(re.findall(r"_builder\.(\w+)", source(message_accumulator)))
    asked -= set(re.findall(r"self\._builder\.(\w+)", source(BatchBuilder)))  # its own inner one
    assert asked == {"record_count", "closed", "close", "_set_producer_state", "_build"}
    for name in ("_set_producer_state", "_build", "record_count", "closed", "close", "size"):
        assert parameters(getattr(Parcel, name)) == parameters(getattr(BatchBuilder, name))


def test_a_batch_is_appended_without_waiting() -> None:
    assert parameters(MessageAccumulator._append_batch) == ["self", "builder", "tp"]
    assert not inspect.iscoroutinefunction(MessageAccumulator._append_batch)
    assert "batch = MessageBatch(tp, builder, self._batch_ttl, self._linger_time)" in source(
        MessageAccumulator._append_batch
    )
    assert "maybe_add_partition_to_txn(tp)" in source(MessageAccumulator._append_batch)
    assert parameters(MessageBatch.__init__) == ["self", "tp", "builder", "ttl", "linger_time"]


def test_sequence_numbers_are_given_when_a_batch_is_taken_out() -> None:
    """A parcel takes bodies until then, and none after."""
    taken = source(MessageAccumulator._pop_batch)
    assert taken.index("popleft()") < taken.index("increment_sequence_number(batch.tp, batch.record_count)")
    assert "batch.set_producer_state(" in taken
    assert "not_retry = batch.retry_count == 0" in taken
    assert "self._batches[tp].appendleft(batch)" in source(MessageAccumulator.reenqueue)
    assert "self._builder._set_producer_state(" in source(MessageBatch.set_producer_state)


def test_one_request_of_a_partition_at_a_time() -> None:
    """Order over retries hangs on it: a partition is mute from its request to what becomes of it."""
    routine = source(sender.Sender._sender_routine)
    assert "self._muted_partitions.add(tp)" in routine
    assert "muted_partitions=muted_partitions" in routine
    done = source(sender.Sender._send_produce_req)
    assert done.index("await handler.do(node_id)") < done.index("self._muted_partitions.remove(tp)")


def test_batches_of_an_idempotent_producer_do_not_expire() -> None:
    assert "self._sender._txn_manager is None and batch.expired()" in source(sender.SendProduceReqHandler._can_retry)
    assert "> self._ttl" in source(MessageBatch.expired)


async def test_ours_is_made_of_these() -> None:
    producer = BatchProducer(KafkaSettings("127.0.0.1:1"))
    client, accumulator = producer._sender.client, producer._sender.accumulator
    assert isinstance(client, AIOKafkaProducer)
    assert type(client._txn_manager) is Sequences
    assert accumulator is client._message_accumulator is client._sender._message_accumulator
    assert client._sender._txn_manager is accumulator._txn_manager is client._txn_manager
    assert not hasattr(TransactionManager, "__slots__")

    async def append() -> Any:
        return accumulator._append_batch(Parcel("lz4", transactional=False), TP)

    batch = await producer._sender.run(append())
    assert not batch.expired()
    assert batch._ttl > 1e9
    assert accumulator._batches[TP][-1] is batch
    await producer.close(0)


def test_their_sequence_numbers_are_still_wrong() -> None:
    """Should this fail, ``Sequences`` can go."""
    theirs, ours = (kind.__new__(kind) for kind in (TransactionManager, Sequences))
    for manager in (theirs, ours):
        manager._sequence_numbers = {TP: LAST_SEQUENCE - 1}
        manager.increment_sequence_number(TP, 3)
    assert theirs.sequence_number(TP) < 0
    assert ours.sequence_number(TP) == 1  # ..., 2**31 - 2, 2**31 - 1, 0, 1
    assert "_sequence_numbers[tp]" in source(TransactionManager.increment_sequence_number)
    assert transaction_manager.TransactionManager is TransactionManager


def test_failing_all_tells_every_future() -> None:
    told = source(MessageAccumulator.fail_all)
    assert told.count("batch.failure(exception)") == 2
    assert "self._exception = exception" in told
    assert "self.future.set_exception(exception)" in source(MessageBatch.failure)
