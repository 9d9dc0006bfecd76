"""Compares what flows have given with what they should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamproc.avro.codec import Codec
from streamproc.state import topics as changelogs
from streamproc.state.head import Head
from streamproc.state.head import decode as decode_head
from streamproc.state.rows import HEAD
from tests.consistency.checks import Sink
from tests.consistency.flow_oracle import FlowOracle
from tests.consistency.flows import IDENTITY, SOURCES, topic
from tests.consistency.reading import Reader
from tests.consistency.topology import PARTITIONS


class Flows:
    """The flows of one run. Their results are sent with the state: once, under both guarantees."""

    def __init__(self, name: str, codecs: Mapping[str, Codec]) -> None:
        self._name, self._codec = name, codecs[topic(name, SOURCES[0])]
        self._oracle = FlowOracle(PARTITIONS)
        self.sinks = {
            short: Sink(short, codecs[topic(name, short)], identity, repeats=False)
            for short, identity in IDENTITY.items()
        }

    def take(self, reader: Reader) -> None:
        """Takes what has come. Raises Wrong where a result is another one than expected, or came twice."""
        for number in range(PARTITIONS):
            for short in SOURCES:
                for record in reader.take(topic(self._name, short), number):
                    visit: Any = self._codec.decode(record.value or b"")
                    self._oracle.take(short, number, visit)
        self._oracle.settle()
        for short, sink in self.sinks.items():
            expected, self._oracle.results[short] = self._oracle.results[short], {}
            sink.expect(expected)
            for number in range(PARTITIONS):
                sink.take(reader.take(topic(self._name, short), number))

    def settled(self, sent: Mapping[str, int]) -> bool:
        """Whether all is there. ``sent``: how many were published, by topic."""
        seen = all(self._oracle.seen[short] == sent[topic(self._name, short)] for short in SOURCES)
        return seen and all(sink.settled for sink in self.sinks.values())

    def open(self) -> list[str]:
        """What is not settled."""
        return [sink.open() for sink in self.sinks.values() if not sink.settled]

    def kept(self, reader: Reader, ends: Mapping[str, list[int]]) -> list[str]:
        """Where the state that is kept is not that of all visits: stage, partition, and what it is of.

        Args:
            ends: of the sources, by their short names.
        """
        found = []
        for number in range(PARTITIONS):
            lefts, rights = (ends[short][number] for short in SOURCES)
            near, by_site = self._head(reader, "near", number), self._head(reader, "by-site", number)
            seen = near and [near.header.get(f"input {side} seen") for side in range(2)]
            if seen != [lefts, rights]:
                found.append(f"near[{number}] has seen {seen}; expected {lefts, rights}")
            position = by_site and [*by_site.positions.values()]
            if position != [rights]:
                found.append(f"by-site[{number}] is of {position}; expected {rights}")
        return found

    def _head(self, reader: Reader, short: str, number: int) -> Head | None:
        stage = short if short == "by-site" else topic(self._name, short)
        rows = reader.last(changelogs.name(self._name, stage), number)
        return decode_head(rows[HEAD]) if HEAD in rows else None
