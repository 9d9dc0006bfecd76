"""Changelog topics: their names, how they are made, and whether one that is there will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamproc.errors import TopicError
from streamproc.log.ports import TopicSpec

#: Milliseconds for which a changelog remembers at least that a row is gone. A snapshot that is older must not be used:
#: it has rows of which nothing says any more that they are gone.
TOMBSTONES: Final = 24 * 3600 * 1000

CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",  # the last value of a row stays for ever
    "delete.retention.ms": str(TOMBSTONES),
    # A recovery reads the rows that there are, and what the cleaner has not come to yet. That is all of the active
    # segment, so segments are small, ...
    "segment.bytes": str(32 << 20),
    "segment.ms": str(10 * 60 * 1000),  # ... also where little is written; ...
    # ... and of the others, this part at most, where Kafka's own 0.5 would let the log be twice as long as its rows.
    "min.cleanable.dirty.ratio": "0.2",
    # Rows with sketches or models can be large. What brokers copy among themselves, they copy whole, whatever their
    # own limits (KIP-74); readers, too.
    "max.message.bytes": str(4 << 20),
    # By the broker's clock: what a worker stamps whose clock is an hour ahead, brokers refuse.
    "message.timestamp.type": "LogAppendTime",
}


def name(app: str, stage: str) -> str:
    """Of the changelog of an app's stage."""
    return f"{app}-{stage}-changelog"


def spec(app: str, stage: str, partitions: int, replication: int = 1) -> TopicSpec:
    """The changelog of a stage whose source has so many partitions.

    Raises:
        TopicError: Kafka would not take the name.
    """
    topic = name(app, stage)
    if len(topic) > 249:
        raise TopicError(f"topic {topic!r}: its name has {len(topic)} characters; Kafka takes 249")
    return TopicSpec(topic, partitions, replication, CONFIG)


def check(wanted: TopicSpec, partitions: int, config: Mapping[str, str]) -> None:
    """Looks at a changelog that is there.

    Args:
        config: all settings that hold for it, wherever they were set: see ``KafkaAdmin.settings``.

    Raises:
        TopicError: rows would get lost in it, or be read by the wrong tasks.
    """
    what = f"changelog {wanted.name!r}"
    if partitions != wanted.partitions:
        raise TopicError(
            f"{what} has {partitions} partitions; expected {wanted.partitions}, as its source has now: its rows are of "
            "the source's partitions as they were. To begin without them, delete the topic"
        )
    if (policy := config.get("cleanup.policy")) != "compact":
        raise TopicError(
            f"{what} has cleanup.policy={policy}; expected compact: with anything else Kafka deletes rows that nobody "
            "has deleted. If it is the changelog, set it (what was deleted meanwhile is lost)"
        )
    kept = int(config.get("delete.retention.ms", TOMBSTONES))
    if kept < TOMBSTONES:
        raise TopicError(
            f"{what} has delete.retention.ms={kept}; expected {TOMBSTONES} or more: a snapshot would bring back rows "
            "of which the changelog has forgotten that they are gone"
        )
