"""What lies before a stage's operator: the steps of each input and, where there are several inputs, their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from streamproc.batch import Batch
from streamproc.columns import Columns, Longs
from streamproc.define.aggregation import Aggregation
from streamproc.define.fields import fields
from streamproc.define.operators import AsOf, Deduplicate, Join, Lookup
from streamproc.define.pipeline import Input, Pipeline
from streamproc.define.topic import Topic
from streamproc.process.events import Events
from streamproc.process.measures import values_of
from streamproc.process.sequencer import Arrived, Released, Sequencer, joined_rows
from streamproc.process.steps import StepsRunner
from streamproc.process.windowing import window_task

_FEW = 32  # rows of records, below which columns are made one by one, and only those that are read


class Stepped(NamedTuple):
    """A batch behind an input's steps."""

    events: Events
    rows: Longs  # the row of the batch that each comes from
    failed: list[tuple[int, Exception]]  # rows of the batch, and what they raised


class Front:
    """The inputs of one stage, over one partition.

    Args:
        clock: of a source's topic, in ms.
    """

    def __init__(self, stage: Pipeline | Aggregation, clock: Callable[[str], int]) -> None:
        self.stage = stage
        self._clock = clock
        own = [source for source in stage.inputs if not source.everywhere]
        self._wanted = [wanted_of(stage, source) for source in own]
        self._steps = [StepsRunner.of(source, wanted=wanted) for source, wanted in zip(own, self._wanted, strict=True)]
        self.sequencer: Sequencer | None = None
        if stage.sequenced:
            operator = stage.operator if isinstance(stage, Pipeline) else None
            ranks = (1, 0) if isinstance(operator, AsOf | Lookup) else None  # what is as of now counts, too
            # Of a table that is everywhere no rows wait; only how far its partitions are counts.
            origins = [
                source.topic.partitions if source.everywhere else max(1, source.origins) for source in stage.inputs
            ]
            self.sequencer = Sequencer(origins, ranks=ranks, grace=stage.grace, idle=stage.idle)

    def inputs_of(self, topic: str) -> list[int]:
        """The numbers of the inputs that a topic is; more than one, where a stream meets itself."""
        inputs = enumerate(self.stage.inputs)
        return [number for number, source in inputs if source.topic.name == topic and not source.everywhere]

    def step(self, number: int, batch: Batch) -> Stepped:
        """Takes a batch through an input's steps."""
        return stepped(self.stage.inputs[number], self._steps[number], batch, self._wanted[number])

    # Of several inputs.

    def add(self, number: int, batch: Batch, stepped: Stepped) -> Longs:
        """Takes rows in to be put in order. Returns the rows of ``batch`` that are late."""
        assert self.sequencer is not None
        source, rows = self.stage.inputs[number], stepped.rows
        origins, reached = np.zeros(len(rows), np.int64), None
        if source.origins and batch.origins is not None:
            origins, reached = batch.origins.partition[rows], batch.origins.time[rows]
        arrived = Arrived(stepped.events, batch.offsets[rows], origins, reached)
        begin, end = int(batch.offsets[0]), int(batch.offsets[-1]) + 1
        late = self.sequencer.add(number, arrived, begin, end, self._clock(source.topic.name))
        return np.unique(rows[late])

    def hear(self, topic: str, offset: int, origins: Longs, times: Longs) -> None:
        """Takes in how far the partitions before a rekeying are."""
        assert self.sequencer is not None
        for number, source in enumerate(self.stage.inputs):
            if source.topic.name == topic and (source.origins or source.everywhere):
                self.sequencer.hear(number, origins, times, offset, self._clock(topic))

    def release(self) -> Released | None:
        """Rows whose turn it is."""
        assert self.sequencer is not None
        return self.sequencer.release(lambda number: self._clock(self.stage.inputs[number].topic.name))

    def waiting_from(self, topic: str) -> int | None:
        """The offset from which a topic's rows wait; None where none do."""
        if self.sequencer is None:
            return None
        found = [
            self.sequencer.position(number) for number in self.inputs_of(topic) if self.sequencer.waiting_of(number)
        ]
        return min(found, default=None)

    def waiting_of(self, topic: str) -> int:
        """How many rows of a topic wait."""
        assert self.sequencer is not None
        return sum(map(self.sequencer.waiting_of, self.inputs_of(topic)))

    def time_of(self, topic: str) -> int:
        """How far a topic is, in event time; 0 where there is no order to keep."""
        return 0 if self.sequencer is None else min(map(self.sequencer.time_of, self.inputs_of(topic)))

    def restart(self, topic: str) -> None:
        """The topic was made anew: its offsets begin again."""
        if self.sequencer is not None:
            for number in self.inputs_of(topic):
                self.sequencer.restart(number)

    # State.

    def header(self) -> dict[str, int | None]:
        return {} if self.sequencer is None else self.sequencer.header()

    def restore(self, header: Mapping[str, int | None]) -> None:
        if self.sequencer is not None:
            self.sequencer.restore(header)


def stepped(source: Input, steps: StepsRunner | None, batch: Batch, wanted: frozenset[str] | None = None) -> Stepped:
    """A batch behind the steps of an input, with the columns that are wanted; None: with all."""
    columns, rows = _read(batch, None if steps is None else steps.fields), np.arange(len(batch))
    failed: list[tuple[int, Exception]] = []
    if steps is not None:
        ran = steps.run(columns)
        columns, failed = ran.columns, ran.failed
        rows = rows if ran.rows is None else ran.rows
    stamps = batch.timestamps[rows]
    times = values_of(columns[source.time], np.int64).data if source.time else stamps
    if wanted is not None:  # of all batches the same ones: some have more than was asked for
        columns = Columns({name: columns[name] for name in source.fields if name in wanted}, len(columns))
    return Stepped(Events(columns, times, stamps), rows, failed)


def _read(batch: Batch, names: frozenset[str] | None) -> Columns:
    """At least these columns of a batch."""
    if names is None or len(batch) > _FEW:
        return batch.held()
    return Columns({name: batch.column(name) for name in sorted(names)}, len(batch))


def wanted_of(stage: Pipeline | Aggregation, source: Input) -> frozenset[str]:
    """What is read of an input's rows behind its steps. Of a join all: its state has them."""
    found: frozenset[str] | None
    if isinstance(stage, Aggregation):
        found = window_task(stage).columns
    elif isinstance(stage.operator, Join):
        found = frozenset(source.fields)
    else:
        found = StepsRunner(stage.steps, stage.fields, wanted=fields(stage.sinks[0].record)).fields
        found = frozenset(source.fields) if found is None else found
        if isinstance(stage.operator, Deduplicate):
            found |= {stage.operator.id}
    return found | {source.time} if source.time else found


def fields_read(stage: Pipeline | Aggregation, topic: Topic) -> frozenset[str] | None:
    """The fields of a topic that a stage reads; None: all. Who wants a row whole, as it came, asks for its record."""
    found: frozenset[str] = frozenset()
    for source in stage.inputs:
        if source.topic is topic:
            read = StepsRunner.of(source, wanted=wanted_of(stage, source)).fields
            if read is None:
                return None
            found |= read
    return found


def merged(released: Released) -> Columns:
    """Rows of inputs with equal columns as one."""
    parts = [columns for columns in released.columns if len(columns)]
    joined = joined_rows(parts)
    if len(parts) == 1:
        return joined
    place = np.empty(len(released.of), np.int64)
    place[np.argsort(released.of, kind="stable")] = np.arange(len(released.of))
    return joined.take(place)
