from __future__ import annotations

from streamproc.runtime.transport.ledger import Ledger


def test_the_position_is_the_end_of_the_longest_finished_prefix() -> None:
    ledger = Ledger()
    assert ledger.position("p") is None
    first, second, third = (ledger.add("p", at) for at in (10, 20, 35))
    assert (ledger.position("p"), ledger.unprocessed("p")) == (None, 3)
    second.finished = True
    assert (ledger.position("p"), ledger.unprocessed("p")) == (None, 2)
    third.processed = True  # though it must be kept yet
    assert (ledger.position("p"), ledger.unprocessed("p")) == (None, 1)
    first.finished = True
    assert (ledger.position("p"), ledger.unprocessed("p")) == (20, 0)
    assert ledger.position("p") == 20
    third.finished = True
    assert (ledger.position("p"), ledger.unprocessed("p")) == (35, 0)
    assert ledger.position("p") == 35


def test_partitions_are_each_for_themselves() -> None:
    ledger = Ledger()
    ledger.add("p", 10).finished = True
    ledger.add("q", 99)
    assert (ledger.position("p"), ledger.position("q"), ledger.position("r")) == (10, None, None)
    assert list(ledger) == ["p", "q"]
    assert "q" in ledger
    assert "r" not in ledger


def test_what_is_forgotten_changes_nothing_any_more() -> None:
    ledger = Ledger()
    old = ledger.add("p", 10)
    ledger.add("q", 5).finished = True
    ledger.clear("p")
    assert "p" not in ledger
    old.finished = True
    again = ledger.add("p", 7)
    assert ledger.position("p") is None
    again.finished = True
    assert (ledger.position("p"), ledger.position("q")) == (7, 5)
    ledger.clear()
    assert list(ledger) == []
    assert (ledger.position("p"), ledger.position("q")) == (None, None)


def test_what_agents_are_at_and_what_is_to_be_kept() -> None:
    ledger = Ledger()
    first, second, third = (ledger.add(partition, 1) for partition in "pqr")
    assert (ledger.at_work(), ledger.unkept()) == (False, False)
    first.at += 1
    assert (ledger.at_work(), ledger.unkept()) == (True, False)
    first.at -= 1
    first.processed = second.processed = third.processed = True
    assert (ledger.at_work(), ledger.unkept()) == (False, True)
    first.finished, second.waits = True, True
    assert ledger.unkept()
    ledger.clear("r")
    assert not ledger.unkept()
