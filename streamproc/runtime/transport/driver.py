"""Faust's aiokafka driver, subclassed: consumer, conductor and transport that carry blocks.

A Faust topic gets blocks when its schema is :class:`BlockSchema`; every other topic works as under Faust's own
driver, event by event. A Kafka topic may be read both ways at once. Faust keeps agents, assignment and rebalancing;
which offsets may be committed is ours: the longest finished prefix.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from aiokafka.structs import TopicPartition
from faust.serializers.schemas import Schema as FaustSchema
from faust.transport.conductor import Conductor as FaustConductor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.services import WaitResults
from mode.utils.futures import notify

from streamproc.errors import UndecodableRecord
from streamproc.log.batches import RawRecord, RecordBatch
from streamproc.runtime.transport.block import Block, Fetched
from streamproc.runtime.transport.group import LateGroup
from streamproc.runtime.transport.ledger import Ledger
from streamproc.runtime.transport.pace import Pace, pieces
from streamproc.runtime.transport.rest import Rest
from streamproc.runtime.transport.thread import ConsumerThread

_WORK = 30.0  # seconds that a rebalance or a stop waits for agents; the group would wait for 60
_DELIVERY = 5.0  # seconds that a rebalance or a stop waits for Kafka to have the results of blocks that are done
_LOOK = 0.1  # seconds between looks at what is in work
_log = logging.getLogger("streamproc.transport")


class BlockSchema(FaustSchema):  # type: ignore[misc]
    """Marks a Faust topic whose events are blocks: ``app.topic("readings", schema=BlockSchema())``."""

    def __init__(self, *args: Any, order: int = 0, paced: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order  # of several readers of a topic, those with the least get a block first
        self.paced = paced  # whether nobody knows how long it takes for an event

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


def wants_blocks(channel: Any) -> bool:
    return isinstance(getattr(channel, "schema", None), BlockSchema)


class BlockScheduler:
    """Gives Faust one item per partition and fetch for blocks, and every record for the rest, in Faust's place of a
    ``ConsumerScheduler``.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def iterate(self, fetches: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        for tp, items in fetches.items():
            for item in items:
                if isinstance(item, Fetched):
                    if item.restarted:
                        self._consumer.begin_anew(tp)
                    # Records before their block: Faust drops what lies behind an offset that it has seen.
                    if self._consumer.plain_readers(tp):
                        yield from ((tp, record) for record in records_of(item))
                    if self._consumer.block_readers(tp):
                        yield from ((tp, piece) for piece in self._consumer.pieces(tp, item))
                else:
                    yield tp, item


def records_of(fetched: Fetched) -> Iterator[RawRecord]:
    """The records of a fetch, for readers who take them one by one. Of a batch that cannot be unpacked only those
    before its fault: whoever reads it as a block makes a dead letter of it.
    """
    for part in fetched.parts:
        try:
            for record in part.records() if isinstance(part, RecordBatch) else part:
                if record.offset >= fetched.first_offset:
                    yield record
        except UndecodableRecord as error:
            _log.error("skipped for readers of single records: %s", error)


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Carries blocks, and knows which of them are finished."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledger = Ledger()
        self.scheduler = BlockScheduler(self)
        self._plain_positions: dict[TP, int] = {}
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)  # by topic
        self._given_up = False  # whether results were waited for in vain, the last time

    def on_buffer_full(self, tp: TP) -> None:
        # Faust would leave the partition out of its next fetches, and then miss for up to a second that there is room
        # again. An agent's buffer is shared by all its partitions, so a full one holds up the fetching by itself: the
        # conductor waits.
        if not self.block_readers(tp):
            super().on_buffer_full(tp)

    def _new_consumer_thread(self) -> ConsumerThread:
        # The thread's own loop, of the same kind as the main one; ``stop`` closes it.
        return ConsumerThread(self, loop=self.loop, thread_loop=type(self.loop)(), beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:
        """Faust delivers each message so, beside an event that would call it off, and two more: four tasks. Most can be
        delivered without waiting for anything; tasks are made for the others.
        """
        if timeout is not None or not all(map(asyncio.iscoroutine, coros)):
            return await super().wait_first(*coros, timeout=timeout)
        delivery, *others = coros
        try:
            waits_for = delivery.send(None)
        except BaseException as ended:
            for other in others:
                other.close()
            if isinstance(ended, StopIteration):
                return WaitResults([delivery], [ended.value], self.should_stop)
            raise
        return await super().wait_first(Rest(delivery, waits_for), *others)

    async def sleep(self, n: Any) -> None:
        """Between fetches Faust sleeps for no time at all, by a task that it makes and cancels."""
        if n == 0:
            await asyncio.sleep(0)
        else:
            await super().sleep(n)

    def block_topics(self) -> frozenset[str]:
        """The topics of which somebody wants blocks. Called from the consumer's thread."""
        return frozenset(name for channel in list(self.app.topics) if wants_blocks(channel) for name in channel.topics)

    def caught_up(self, tp: TP, since: float) -> bool:
        """Whether Kafka has said, after ``since`` (seconds since the epoch), that it has no more of a partition than
        has been processed. Not having heard of more is no evidence: the events may wait in Kafka while this worker
        does.
        """
        state = self._state(tp)
        if state is None or state.highwater is None or (state.timestamp or 0) < since * 1000:
            return False
        return bool(state.position >= state.highwater) and not self.ledger.unprocessed(tp)

    def may_be_out(self) -> bool:
        """Whether the group may have given this worker's partitions to others, and it does not know yet."""
        coordinator = getattr(self._thread._consumer, "_coordinator", None)
        return isinstance(coordinator, LateGroup) and coordinator.may_be_out

    def fetched(self, tp: TP) -> int | None:
        """The first offset that was not fetched yet."""
        state = self._state(tp)
        return None if state is None else cast(int, state.position)

    def _state(self, tp: TP) -> Any:
        """aiokafka's, of a partition that is assigned and has a position; else None."""
        subscription = self._thread._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None or tp not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(tp)
        return state if state.has_valid_position else None

    def hold(self, tp: TP, held: bool) -> None:
        """Leaves a partition out of what is fetched, or takes it in again. A rebalance takes all in again."""
        consumer = self._thread._consumer
        if self._state(tp) is None:
            return
        change = consumer.pause if held else consumer.resume
        self._thread.thread_loop.call_soon_threadsafe(change, TopicPartition(*tp))  # aiokafka takes no Faust TP

    def block_readers(self, tp: TP) -> int:
        return sum(map(wants_blocks, self.app.topics._tp_index.get(tp, ())))

    def pieces(self, tp: TP, fetched: Fetched) -> Iterator[Fetched]:
        """A fetch as its readers get it: whole, or as much at a time as they can do soon. Whole where others want its
        records: these come first, and Faust drops what lies behind an offset that it has seen.
        """
        if not self._is_paced(tp) or self.plain_readers(tp):
            return iter((fetched,))
        pace = self._paces[tp.topic]
        return pieces(fetched, lambda: pace.rows)

    def _is_paced(self, tp: TP) -> bool:
        return any(wants_blocks(channel) and channel.schema.paced for channel in self.app.topics._tp_index.get(tp, ()))

    def plain_readers(self, tp: TP) -> int:
        return len(self.app.topics._tp_index.get(tp, ())) - self.block_readers(tp)

    def _to_message(self, tp: TP, item: Any) -> ConsumerMessage:
        if isinstance(item, Fetched):
            return self._block_message(tp, item)
        if isinstance(item, RawRecord):
            return ConsumerMessage(
                tp.topic,
                tp.partition,
                item.offset,
                item.timestamp / 1000,
                0,
                item.headers,
                item.key,
                item.value,
                None,
                len(item.key or b""),
                len(item.value or b""),
                tp,
                generation_id=self.app.consumer_generation_id,
            )
        return super()._to_message(tp, item)

    def _block_message(self, tp: TP, fetched: Fetched) -> ConsumerMessage:
        entry = self.ledger.add(tp, fetched.next_offset)
        reference: Callable[[], Any] = lambda: None  # noqa: E731  replaced below; the block must not keep its message alive

        def finished() -> None:
            entry.finished = True
            message = reference()
            if message is not None:
                message.acked = True
                self._unacked_messages.discard(message)
            notify(self._waiting_for_ack)

        paced = self._paces[tp.topic].took if self._is_paced(tp) else None
        block = Block(tp.topic, tp.partition, fetched, self.block_readers(tp), finished, paced)
        block.entry = entry
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            fetched.next_offset - 1,
            time.time(),
            0,
            (),
            None,
            block,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        reference = weakref.ref(message)
        return message

    async def wait_empty(self) -> None:
        """Waits for agents to be done with what they are at, and, not as long, for it to be kept; then commits. What is
        not by then comes again.
        """
        began = time.monotonic()
        while not self.should_stop and self._at_work():
            if time.monotonic() - began > _WORK:
                _log.warning("an agent is at its work for %g s; what it is at comes again", _WORK)
                break
            await self._wait_for_ack(timeout=1)
        # A stop comes here twice: before the consumer stops, and when it does.
        end = time.monotonic() + (0 if self.should_stop and self._given_up else _DELIVERY)
        while self.ledger.unkept() and time.monotonic() < end:
            await self._wait_for_ack(timeout=1)
        self._given_up = self.ledger.unkept()
        await self.commit_and_end_transactions()

    def _at_work(self) -> bool:
        """Whether an agent has something that it is not done with."""
        if self.ledger.at_work():
            return True
        self._clean_unacked_messages()
        if plain := any(not isinstance(message.value, Block) for message in self._unacked_messages):
            gc.collect()  # Faust knows of messages as long as anybody does
        return plain

    async def _wait_for_ack(self, timeout: float) -> None:
        self._waiting_for_ack = self.loop.create_future()
        await asyncio.wait([self._waiting_for_ack], timeout=min(timeout, _LOOK))
        self._waiting_for_ack = None

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if self.plain_readers(tp):
            await super()._add_gap(tp, offset_from, offset_to)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        seen = set(super()._filter_tps_with_pending_acks(topics))
        yield from seen
        for tp in cast(Iterable[TP], self.ledger):
            if tp not in seen and (topics is None or tp in topics or tp.topic in topics):
                yield tp

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        # Faust goes on as though every commit had come through, and would not try again.
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done = cast(bool, await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction))
        if not done:
            self._committed_offset.update(before)
        return done

    def _new_offset(self, tp: TP) -> int | None:
        if tp not in self.ledger:
            return cast("int | None", super()._new_offset(tp))
        finished = self.ledger.position(tp)
        if not self.plain_readers(tp):
            return finished
        plain = super()._new_offset(tp)
        if plain is not None:
            self._plain_positions[tp] = plain
        plain = self._plain_positions.get(tp)
        return None if finished is None or plain is None else min(finished, plain)

    async def perform_seek(self) -> None:
        self._forget()
        await super().perform_seek()

    async def seek(self, partition: TP, offset: int) -> None:
        self._forget(partition)
        await super().seek(partition, offset)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._forget(tp)

    def begin_anew(self, tp: TP) -> None:
        """The log has begun anew. Faust would drop what it takes for old, and commit nothing, or commit for the new log
        what it did of the old one.
        """
        self._forget(tp)
        for known in (self._gap, self._acked, self._acked_index):
            known.pop(tp, None)
        self._read_offset[tp] = self._committed_offset[tp] = None
        for message in list(self._unacked_messages):
            if message.tp == tp and not isinstance(message.value, Block):  # a block's part in it is forgotten already
                message.acked = True
                self._unacked_messages.discard(message)

    def _forget(self, tp: TP | None = None) -> None:
        """What is in flight will come again."""
        self.ledger.clear(tp)
        for at in [tp] if tp is not None else list(self._plain_positions):
            self._plain_positions.pop(at, None)


class Conductor(FaustConductor):  # type: ignore[misc]
    """Hands blocks to those who want blocks, and records to the others."""

    def _build_handler(self, tp: TP, channels: set[Any]) -> Callable[[Any], Any]:
        # A view of a dict's keys is a set that keeps an order: Faust's sets would give another one in every process.
        ordered = sorted(filter(wants_blocks, channels), key=lambda channel: channel.schema.order)
        blocks: Any = dict.fromkeys(ordered).keys()
        plain = channels - blocks
        if not plain:
            return cast("Callable[[Any], Any]", super()._build_handler(tp, blocks))
        if not blocks:
            return cast("Callable[[Any], Any]", super()._build_handler(tp, channels))
        on_block, on_record = super()._build_handler(tp, blocks), super()._build_handler(tp, plain)

        async def on_message(message: Any) -> None:
            await (on_block if isinstance(message.value, Block) else on_record)(message)

        return on_message


class Transport(driver.Transport):  # type: ignore[misc]
    """``streamproc://host:port``."""

    Consumer = Consumer
    Conductor = Conductor
