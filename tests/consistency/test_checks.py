"""The suite itself must notice what it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc.avro.codec import Codec
from streamproc.avro.registry import open_registry
from tests.consistency import topology
from tests.consistency.checks import Sink, Wrong
from tests.consistency.figures import longest_gap
from tests.consistency.oracle import IDENTITY, Oracle
from tests.consistency.reading import Came
from tests.consistency.topology import Counted, Event

COUNTED = [Counted("e0", "a", 1, 0.5), Counted("e1", "a", 2, 1.5)]


@pytest.fixture
def codec(tmp_path: Any) -> Codec:
    app = topology.build("checked", "exactly_once")
    return Codec.of(app.topics["checked-counted"], open_registry(f"file:{tmp_path / 'registry.json'}"))


@pytest.fixture
def expected() -> dict[Any, tuple[object, ...]]:
    oracle = Oracle()
    oracle.take(Event("e0", "a", 1000, 0.5))
    oracle.take(Event("e1", "a", 1001, 1.5))
    return oracle.results["counted"]


def came(codec: Codec, *results: Counted) -> list[Came]:
    return [Came(offset, None, codec.encode(result)) for offset, result in enumerate(results)]


def sink(codec: Codec, expected: Any, *, repeats: bool) -> Sink:
    made = Sink("counted", codec, IDENTITY["counted"], repeats=repeats)
    made.expect(expected)
    return made


def test_all_there(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=False)
    checked.take(came(codec, *COUNTED))
    assert checked.settled


def test_one_is_lost(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=False)
    checked.take(came(codec, COUNTED[0]))
    assert not checked.settled
    assert "1 lost" in checked.open()


def test_one_is_doubled(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=False)
    with pytest.raises(Wrong, match="came twice"):
        checked.take(came(codec, *COUNTED, COUNTED[0]))


def test_one_is_wrong(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=False)
    with pytest.raises(Wrong, match="expected"):
        checked.take(came(codec, COUNTED[0], Counted("e1", "a", 3, 1.5)))


def test_one_should_not_be_there(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=True)
    checked.take(came(codec, *COUNTED, Counted("e2", "a", 3, 1.5)))
    assert not checked.settled
    assert "should not be there" in checked.open()


def test_what_comes_again_must_be_the_same(codec: Codec, expected: Any) -> None:
    checked = sink(codec, expected, repeats=True)
    checked.take(came(codec, *COUNTED, COUNTED[1]))
    assert checked.settled
    assert checked.repeated == 1
    with pytest.raises(Wrong, match="is another one"):
        checked.take(came(codec, Counted("e0", "a", 2, 0.5)))


def test_windows_close_and_late_events_are_late() -> None:
    oracle = Oracle()
    for id, unit, ts, x in (
        ("e0", "a", 1000, 1.0),
        ("e1", "a", 1100, 2.0),
        ("e2", "b", 2700, 1.0),
        ("e3", "a", 1200, 1.0),
    ):
        oracle.take(Event(id, unit, ts, x))
    assert oracle.results["windows"] == {
        ("a", 500, 1500): ("a", 500, 1500, 2, 3.0, 2.0),
        ("a", 1000, 2000): ("a", 1000, 2000, 2, 3.0, 2.0),
    }
    assert oracle.results["windows-late"] == {("e3",): ("e3", "a", 1200, 1.0)}
    assert oracle.results["sessions"] == {("a", 1000, 1300): ("a", 1000, 1300, 2, 3.0, 2.0)}
    assert oracle.results["sessions-late"] == {("e3",): ("e3", "a", 1200, 1.0)}


def test_the_longest_gap() -> None:
    assert longest_gap(2, [0.5, 1.0, 4.0, 9.0], 1.5, 6.0) == (2.5, 1.5, 2)
    assert longest_gap(2, [], 1.0, 4.0) == (3.0, 1.0, 2)
