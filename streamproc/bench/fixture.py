"""What all rounds of a run share: topics that were filled once, and what must come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl

from streamproc.avro.agree import schema_of
from streamproc.avro.ports import Registry
from streamproc.avro.registry import open_registry
from streamproc.bench import joined, reference
from streamproc.bench.inputs import Input
from streamproc.bench.produce import append, produce
from streamproc.bench.reference import Asked
from streamproc.bench.topics import Topics, columns
from streamproc.bench.topologies import GRACE, NEAR
from streamproc.define.duration import milliseconds


class Fixture:
    """One input in Kafka: the same for every round and every engine."""

    def __init__(self, topics: Topics, given: Input, registry: Registry, count: int) -> None:
        self.given, self.count, self.topics = given, count, topics
        self.topic = topics.make(topics.name(given.name))
        self.schema = schema_of(given.record)
        self.beside: Fixture | None = None  # what a join reads with it
        self._events: pl.DataFrame | None = None
        self._expected: dict[str, pl.DataFrame] = {}
        self._schema_id = registry.register(f"{self.topic}-value", self.schema)
        produce(topics, given, self.topic, self.schema, self._schema_id, count)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Writes more; for a fixture that nobody shares. :attr:`events` and what is expected must not have been asked
        for.
        """
        append(self.topics, self.given, self.topic, self.schema, self._schema_id, rows)

    @property
    def events(self) -> pl.DataFrame:
        """The input as it lies in Kafka, partition by partition; the partition's number is a column, too."""
        if self._events is None:
            parts = [
                columns(records.values, self.schema).with_columns(pl.lit(records.partition).alias(reference.PARTITION))
                for records in self.topics.read(self.topic)
            ]
            self._events = pl.concat(parts)
        return self._events

    @property
    def sources(self) -> tuple[Fixture, ...]:
        """This one, and what is beside it."""
        return (self,) if self.beside is None else (self, self.beside)

    def joined(self, how: str) -> pl.DataFrame:
        """What a join of the two must give; computed once."""
        if how not in self._expected:
            assert self.beside is not None
            within, grace = (milliseconds(each, "a join") for each in (NEAR, GRACE))
            sides = self.events, self.beside.events
            near = how == "near"
            self._expected[how] = joined.near(*sides, within, grace) if near else joined.latest(*sides, grace)
        return self._expected[how]

    def expected(self, asked: Asked) -> pl.DataFrame:
        """The windows that must come; computed once."""
        name = repr(asked)
        if name not in self._expected:
            self._expected[name] = reference.expected(self.events, asked)
        return self._expected[name]


class Fixtures:
    """Inputs by name and number of events, each made when it is first asked for."""

    def __init__(self, topics: Topics, folder: Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.topics = topics
        self.registry_url = f"file:{folder / 'registry.json'}"
        self.registry = open_registry(self.registry_url)
        self._tell = tell
        self._made: dict[tuple[str, int], Fixture] = {}

    def of(self, given: Input, count: int, beside: Input | None = None) -> Fixture:
        """The input's first ``count`` events; with a second input, the first half of either."""
        if beside is not None:
            found = self.of(given, count // 2)
            found.beside = self.of(beside, count // 2)
            return found
        at = (given.name, count)
        if at not in self._made:
            self._tell(f"writing {count:,} events of {given.name}")
            self._made[at] = Fixture(self.topics, given, self.registry, count)
        return self._made[at]
