"""Which dead letters are to be replayed: by filters or offsets, each once, without what has nothing to put back."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from streamproc.cli.letters import Found, Letters, Note, Wanted
from streamproc.columns import Longs
from streamproc.define.app import App
from streamproc.define.deadletter import DeadLetter


@dataclass(slots=True)
class Plan:
    """What is to be replayed. Takes eight bytes a letter, however large they are."""

    offsets: dict[int, Longs] = field(default_factory=dict)  # by partition of the letters' topic, rising
    topics: Counter[str] = field(default_factory=Counter)  # where they go
    left_out: Counter[str] = field(default_factory=Counter)  # how many are not replayed, by why
    before: int = 0  # those that were replayed before

    def __len__(self) -> int:
        return sum(map(len, self.offsets.values()))


def plan(
    letters: Letters, wanted: Wanted, app: App | None, *, offsets: Mapping[int, Iterable[int]] | None, again: bool
) -> Plan:
    """Which letters are to be replayed.

    Args:
        offsets: by partition: these letters only.
        again: those, too, that were replayed before.

    Raises:
        TopicError: there is no letter at one of the offsets.
    """
    result, names = Plan(), []
    for partition in letters.partitions if offsets is None else sorted(offsets):
        only = None if offsets is None else set(offsets[partition])
        for offset in sorted(only or ()):
            letters.at(partition, offset)
        found_at, topics, noted = array("q"), array("i"), array("q")
        for found in letters.read_from(partition, wanted, min(only) if only else 0):
            if isinstance(found, Note):
                noted.append(found.offset)
            elif only is None or found.offset in only:
                reason = _unfit(found.letter, app)
                if reason is not None:
                    result.left_out[reason] += 1
                    continue
                name = found.letter.topic or ""
                if name not in names:
                    names.append(name)
                found_at.append(found.offset)
                topics.append(names.index(name))
        at, of = np.array(found_at, np.int64), np.array(topics, np.int64)
        done = np.isin(at, np.array(noted, np.int64))
        result.before += int(done.sum())
        if not again:
            at, of = at[~done], of[~done]
        if len(at):
            result.offsets[partition] = at
            result.topics.update({names[i]: int(n) for i, n in enumerate(np.bincount(of)) if n})
    return result


def _unfit(letter: DeadLetter, app: App | None) -> str | None:
    """Why a letter has nothing that could be put back, as far as it says itself."""
    if letter.value is None:
        return "has no value"
    if letter.topic is None:
        return "came from a WebSocket session, for a topic that it does not name"
    if letter.offset is not None:
        return None
    if app is None:
        return "never was in Kafka: give the topology, which tells how to read it"
    if letter.topic not in app.topics:
        return f"never was in Kafka, and the topology has no topic {letter.topic}"
    if letter.session is not None and letter.topic not in app.publishable:
        return f"came from a WebSocket session, and clients may not publish to {letter.topic}"
    return None


def chosen(letters: Letters, what: Plan) -> Iterator[Found]:
    """The letters of a plan, as they lie."""
    for partition, offsets in what.offsets.items():
        at = 0
        for found in letters.read(partition, int(offsets[0]), int(offsets[-1]) + 1):
            if isinstance(found, Found) and at < len(offsets) and found.offset == offsets[at]:
                at += 1
                yield found
