"""Changelog topics, as they are made and as they are found."""

from __future__ import annotations

import pytest

from streamproc.errors import TopicError
from streamproc.state.topics import CONFIG, TOMBSTONES, check, spec

WANTED = spec("app", "stage", 4, 3)


def test_how_it_is_made():
    assert (WANTED.name, WANTED.partitions, WANTED.replication) == ("app-stage-changelog", 4, 3)
    assert WANTED.config["cleanup.policy"] == "compact"
    check(WANTED, 4, WANTED.config)
    with pytest.raises(TopicError, match="has 250 characters; Kafka takes 249"):
        spec("a" * 234, "stage", 4)


@pytest.mark.parametrize(
    ("partitions", "changed", "said"),
    [
        (3, {}, "'app-stage-changelog' has 3 partitions; expected 4"),
        (4, {"cleanup.policy": "delete"}, "cleanup.policy=delete; expected compact"),
        (4, {"cleanup.policy": "compact,delete"}, "cleanup.policy=compact,delete; expected compact"),
        (4, {"delete.retention.ms": "100"}, f"delete.retention.ms=100; expected {TOMBSTONES} or more"),
    ],
)
def test_one_that_will_not_do(partitions, changed, said):
    with pytest.raises(TopicError, match=said):
        check(WANTED, partitions, CONFIG | changed)


def test_other_settings_are_their_owners_business():
    check(WANTED, 4, {"cleanup.policy": "compact", "delete.retention.ms": str(2 * TOMBSTONES), "segment.ms": "1"})
    with pytest.raises(TopicError, match=r"cleanup\.policy=None"):
        check(WANTED, 4, {})
