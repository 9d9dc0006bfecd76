"""Runs one stage of a flow, which may have several inputs, over one partition."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Causes, Columns, Longs, Texts
from streamproc.define.aggregation import Aggregation
from streamproc.define.operators import Rekey
from streamproc.define.pipeline import Pipeline
from streamproc.errors import RecordError
from streamproc.process.events import Events, Ordered
from streamproc.process.front import Front, Stepped, merged
from streamproc.process.joins.lookup import LookupOperator
from streamproc.process.operators import distinct_of, join_of
from streamproc.process.sequencer import CUT_NUMBERS, Released, seen
from streamproc.process.state import NO_TEXTS, Changes, Settled, State
from streamproc.process.steps import StepsRunner
from streamproc.runtime.causes import causes_of
from streamproc.runtime.clock import ClockOf
from streamproc.runtime.outlet import Outlet, letter_for
from streamproc.runtime.sending import send_fitting
from streamproc.runtime.shared_tables import SharedTable

_INPUT = "input "  # what header numbers of a stage's inputs begin with
FRONTIER = f"{_INPUT}frontier"  # the header number that says how far several inputs are together


def seen_number(source: int) -> str:
    """The header number that says which offsets of a source have been seen: all before it."""
    return f"{_INPUT}{seen(source)}"


def is_cut_number(name: str) -> bool:
    """Whether a header number depends on how inputs were cut into batches, too."""
    return name.startswith(_INPUT) and name.endswith(CUT_NUMBERS)


class FrontState:
    """The state of a stage's inputs beside its operator's."""

    def __init__(self, front: Front, inner: State | None) -> None:
        self._front, self._inner = front, inner

    def version(self) -> str:
        return "flow 1" if self._inner is None else self._inner.version()

    def header(self) -> dict[str, int | None]:
        own = {f"{_INPUT}{name}": value for name, value in self._front.header().items()}
        return own if self._inner is None else {**self._inner.header(), **own}

    def changes(self) -> Changes:
        return Changes(NO_TEXTS, NO_TEXTS, NO_TEXTS) if self._inner is None else self._inner.changes()

    def settled(self) -> tuple[Texts, Texts] | None:
        """None where the rows of the changelog are settled."""
        return self._inner.settled() if isinstance(self._inner, Settled) else None

    def restore(self, header: dict[str, int | None], keys: Texts, values: Texts) -> None:
        own = {name.removeprefix(_INPUT): value for name, value in header.items() if name.startswith(_INPUT)}
        self._front.restore(own)
        if self._inner is not None:
            rest = {name: value for name, value in header.items() if not name.startswith(_INPUT)}
            self._inner.restore(rest, keys, values)


class Sequenced:
    """A task that may have several inputs."""

    front: Front

    async def hear(self, topic: str, offset: int, origins: Longs, times: Longs) -> None:
        """Takes in how far the partitions before a rekeying are, by a record at ``offset``."""


class RekeyState:
    """The stream time of a partition that is rekeyed. Its records carry it."""

    def __init__(self) -> None:
        self.time: int | None = None
        self.told: int | None = None  # up to where all partitions have been told

    def take(self, times: Longs) -> Longs:
        """int64[n]: the stream time at each row."""
        reached = np.maximum.accumulate(times)
        if self.time is not None:
            np.maximum(reached, self.time, out=reached)
        if len(reached):
            self.time = int(reached[-1])
        return reached

    def version(self) -> str:
        return "rekey 1"

    def header(self) -> dict[str, int | None]:
        return {"time": self.time}

    def changes(self) -> Changes:
        return Changes(NO_TEXTS, NO_TEXTS, NO_TEXTS)

    def restore(self, header: Mapping[str, int | None], keys: Texts, values: Texts) -> None:
        self.time = header.get("time")


class FlowTask(Sequenced):
    """One :class:`Pipeline` over one partition."""

    def __init__(
        self, definition: Pipeline, outlet: Outlet, clock_of: ClockOf, shared: SharedTable | None = None
    ) -> None:
        self.definition = definition
        self.front = Front(definition, clock_of)
        self.late_events = 0  # so far
        self._outlet = outlet
        self._partition: int | None = None  # of the sources, once something came
        self._timestamp = 0  # of the last record
        self._after = StepsRunner.after(definition) if definition.steps else None
        self._rekey = RekeyState() if isinstance(definition.operator, Rekey) else None
        self._distinct, self._join = distinct_of(definition), join_of(definition)
        self._shared = shared
        self._lookup = None if shared is None else LookupOperator(definition, shared.table)
        for partition in shared.times if shared is not None else ():
            self._hear_table(partition)
        self._state = FrontState(self.front, self._distinct or self._join or self._rekey)

    @property
    def state(self) -> State:
        return self._state

    @property
    def sequenced(self) -> bool:
        return self.front.sequencer is not None

    async def take(self, batch: Batch) -> None:
        if not len(batch):
            return
        self._partition, self._timestamp = batch.partition, int(batch.timestamps[-1])
        for number in self.front.inputs_of(batch.topic):
            stepped = self.front.step(number, batch)
            for row, error in stepped.failed:
                await put_event_aside(self._outlet, self.definition, batch, row, error)
            if self.sequenced:
                await self._send_late(number, batch, self.front.add(number, batch, stepped))
            elif len(stepped.rows):
                await self._pass(batch, stepped)
        if self.sequenced:
            await self._release()

    async def hear(self, topic: str, offset: int, origins: Longs, times: Longs) -> None:
        self.front.hear(topic, offset, origins, times)
        await self._release()

    async def table_moved(self, partition: int, *, release: bool = True) -> None:
        """A partition of the table that is everywhere has come further. Without ``release`` it is only noted."""
        self._hear_table(partition)
        if release:
            await self._release()

    def _hear_table(self, partition: int) -> None:
        assert self._shared is not None
        time = np.array([self._shared.times[partition]])
        self.front.hear(self._shared.source.topic.name, -1, np.array([partition]), time)

    async def advance(self) -> bool:
        """Lets idle inputs no longer hold the others back; tells how far what is rekeyed is."""
        if self.sequenced:
            assert self.front.sequencer is not None
            before = self.front.sequencer.frontier
            await self._release()
            return self.front.sequencer.frontier != before
        await self.tell()
        return False

    async def tell(self) -> bool:
        """Tells all partitions of a topic that is rekeyed how far the source is; whether there was something to tell.

        A partition that gets few records of this source would wait for it.
        """
        rekey = self._rekey
        if rekey is None or rekey.time is None or rekey.time == rekey.told or self._partition is None:
            return False
        await self._outlet.beat(self.definition.sinks[0], self._partition, rekey.time, self._timestamp)
        rekey.told = rekey.time
        return True

    async def stop(self) -> None:
        """Nothing runs between batches."""

    # Of one input: results are of the rows of a batch.

    async def _pass(self, batch: Batch, stepped: Stepped) -> None:
        events, rows, reached = stepped.events, stepped.rows, None
        if self._distinct is not None:
            kept = self._distinct.take(events.columns, events.times)
            events, rows = events.take(kept), rows[kept]
        if self._rekey is not None:
            reached = self._rekey.take(events.times)
        columns = events.columns
        if self._after is not None:
            ran = self._after.run(columns)
            for row, error in ran.failed:
                await put_event_aside(self._outlet, self.definition, batch, int(rows[row]), error)
            columns = ran.columns
            if ran.rows is not None:
                rows, reached = rows[ran.rows], None if reached is None else reached[ran.rows]
        if not len(rows):
            return

        async def put_aside(_: Columns, number: int, error: RecordError) -> None:
            await put_event_aside(self._outlet, self.definition, batch, int(rows[number]), error)

        causes = causes_of(batch.offsets[rows], reached)
        await self._send(columns, batch.timestamps[rows], put_aside, causes)

    # Of several inputs: results are of the order that they are in together.

    async def _release(self) -> None:
        released = self.front.release()
        if released is None:
            if self._join is not None and self.front.sequencer is not None:
                await self._send_results(self._join.take(_none(self.front), self.front.sequencer.frontier))
            return
        if self._lookup is not None:
            left = Events(released.columns[0], released.times, released.stamps)
            await self._send_results(self._lookup.take(left))
        elif self._join is None:
            events = Events(merged(released), released.times, released.stamps)
            if self._distinct is not None:
                events = events.take(self._distinct.take(events.columns, events.times))
            await self._send_results(events)
        else:
            assert self.front.sequencer is not None
            await self._send_results(self._join.take(_ordered(released), self.front.sequencer.frontier))

    async def _send_results(self, results: Events) -> None:
        if not len(results):
            return
        columns, stamps = results.columns, results.stamps
        if self._after is not None:
            ran = self._after.run(columns)
            for row, error in ran.failed:
                await self._put_result_aside(columns.take(slice(row, row + 1)), row, error)
            columns, stamps = ran.columns, stamps if ran.rows is None else stamps[ran.rows]
        await self._send(columns, stamps, self._put_result_aside, None)

    async def _send(self, columns: Columns, stamps: Longs, put_aside: object, causes: Causes | None) -> None:
        sink = self.definition.sinks[0]
        some = Columns({name: columns[name] for name in sink.record.__struct_encode_fields__}, len(columns))
        await send_fitting(self._outlet, sink, some, stamps, put_aside, causes=causes)  # type: ignore[arg-type]

    async def _send_late(self, number: int, batch: Batch, rows: Longs) -> None:
        topic = self.definition.late[number]
        if not len(rows) or topic is None:
            return
        late = batch.take(rows)
        self.late_events += len(late)
        for row in range(len(late)):
            try:
                await self._outlet.send(topic, late.slice(row, row + 1).records(), [int(late.timestamps[row])])
            except RecordError as error:
                await put_event_aside(self._outlet, self.definition, late, row, error)

    async def _put_result_aside(self, columns: Columns, _: int, error: Exception) -> None:
        sink = self.definition.sinks[0]
        letter = letter_for(error, app=sink.app.name, stage=self.definition.name, topic=sink.name)
        value = msgspec.json.encode({name: columns.values(name)[0] for name in columns})
        await self._outlet.dead_letter(msgspec.structs.replace(letter, value=value))


async def put_event_aside(
    outlet: Outlet, stage: Pipeline | Aggregation, batch: Batch, row: int, error: Exception
) -> None:
    """Makes an event of a batch a dead letter."""
    at = {"topic": batch.topic, "partition": batch.partition, "offset": int(batch.offsets[row])}
    letter = letter_for(error, app=stage.source.app.name, stage=stage.name, **at)  # type: ignore[arg-type]
    await outlet.dead_letter(letter, batch.slice(row, row + 1).records()[0])


def _ordered(released: Released) -> Ordered:
    events = []
    for number, columns in enumerate(released.columns):
        own = released.of == number
        events.append(Events(columns, released.times[own], released.stamps[own]))
    return Ordered(tuple(events), released.of)


def _none(front: Front) -> Ordered:
    """No rows: only the frontier has moved."""
    empty = np.empty(0, np.int64)
    return Ordered(tuple(Events(Columns({}, 0), empty, empty) for _ in front.stage.inputs), empty)
