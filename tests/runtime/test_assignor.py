"""Who gets which partitions."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.transport.assignor import Assignor, Claim, Member, share

NOTHING = Claim(-1, {})


def members(*ids: str, topics: frozenset[str] = frozenset({"t"})) -> dict[str, Member]:
    return {id: Member(topics, NOTHING) for id in ids}


def claims(
    given: dict[str, set[tuple[str, int]]], groups: dict[str, dict[str, int]], generation: int
) -> dict[str, Claim]:
    return {
        id: Claim(
            generation,
            {topic: sorted(n for of, n in units if of == group) for group in groups for topic in groups[group]},
        )
        for id, units in given.items()
    }


def test_everything_goes_to_one() -> None:
    assert share(members("a"), {"t": {"t": 3}}) == {"a": {("t", 0), ("t", 1), ("t", 2)}}


def test_who_has_something_keeps_it() -> None:
    wanting = members("a", "b", "c")
    wanting["c"] = Member(frozenset({"t"}), Claim(3, {"t": [0, 1, 2, 3, 4, 5]}))
    given = share(wanting, {"t": {"t": 6}})
    assert given["c"] == {("t", 0), ("t", 1)}
    assert sorted(map(len, given.values())) == [2, 2, 2]


def test_of_two_that_claim_the_same_whoever_got_it_later_has_it() -> None:
    wanting = {
        "zombie": Member(frozenset({"t"}), Claim(3, {"t": [0, 1]})),
        "heir": Member(frozenset({"t"}), Claim(4, {"t": [0]})),
    }
    assert share(wanting, {"t": {"t": 2}}) == {"heir": {("t", 0)}, "zombie": {("t", 1)}}


def test_only_who_reads_all_topics_of_a_group_gets_its_partitions() -> None:
    wanting = members("old") | members("new", topics=frozenset({"t", "u"}))
    assert share(wanting, {"t+u": {"t": 2, "u": 2}}) == {"old": set(), "new": {("t+u", 0), ("t+u", 1)}}


GROUPS = st.dictionaries(st.sampled_from("pqr"), st.integers(1, 7), min_size=1)


@given(GROUPS, st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=6))
def test_all_is_given_once_and_evenly_and_little_moves(sizes: dict[str, int], rounds: list[set[str]]) -> None:
    groups = {group: {f"{group}1": size, f"{group}2": size} for group, size in sizes.items()}
    topics = frozenset(topic for counts in groups.values() for topic in counts)
    before: dict[str, set[tuple[str, int]]] = {}
    for generation, ids in enumerate(rounds):
        known = claims(before, groups, generation)
        wanting = {id: Member(topics, known.get(id, NOTHING)) for id in ids}
        after = share(wanting, groups)
        given = Counter(unit for units in after.values() for unit in units)
        assert given == Counter((group, n) for group, size in sizes.items() for n in range(size))
        for group in groups:
            counts = [sum(of == group for of, _ in after[id]) for id in ids]
            assert max(counts) - min(counts) <= 1
        totals = [len(units) for units in after.values()]
        assert max(totals) - min(totals) <= 1
        for group, size in sizes.items():  # nobody gives up more than it must
            for id in ids & before.keys():
                had = {unit for unit in before[id] if unit[0] == group}
                assert len(had & after[id]) >= min(len(had), size // len(ids))
        before = after


def test_as_kafka_has_it() -> None:
    """Partitions of one number of topics that are read together go together."""
    cluster = SimpleNamespace(partitions_for_topic={"t": {0, 1, 2}, "u": {0, 1, 2}, "v": {0}}.get)
    assignors = {id: Assignor({"t": "t+u", "u": "t+u", "v": "v"}) for id in "ab"}
    joined = {id: assignor.metadata({"t", "u", "v"}) for id, assignor in assignors.items()}
    found = assignors["a"].assign(cluster, joined)
    for id, assignment in found.items():
        assignors[id].on_assignment(assignment)
        given = dict(assignment.assignment)
        assert given.get("t") == given.get("u")
    assert sorted(n for assignment in found.values() for n in dict(assignment.assignment)["t"]) == [0, 1, 2]
    metadata = {id: assignor.metadata({"t", "u", "v"}) for id, assignor in assignors.items()}
    again = assignors["b"].assign(cluster, metadata)
    assert {id: a.assignment for id, a in again.items()} == {id: a.assignment for id, a in found.items()}


def test_a_claim_of_another_version_counts_as_none() -> None:
    assignor = Assignor({})
    joined = assignor.metadata({"t"})
    joined.user_data = msgspec.msgpack.encode("?")
    cluster = SimpleNamespace(partitions_for_topic={"t": {0}}.get)
    assert assignor.assign(cluster, {"a": joined})["a"].assignment == [("t", [0])]
