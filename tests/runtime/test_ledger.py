from __future__ import annotations

import random

from streamproc.runtime.transport.block import Block, Fetched
from streamproc.runtime.transport.ledger import Ledger


def test_the_position_is_the_end_of_the_longest_finished_prefix() -> None:
    ledger = Ledger()
    assert ledger.position("p") is None
    first, second, third = (ledger.add("p", at) for at in (10, 20, 35))
    assert (ledger.position("p"), ledger.in_flight("p")) == (None, 3)
    second.finished = True
    assert (ledger.position("p"), ledger.in_flight("p")) == (None, 3)
    first.finished = True
    assert (ledger.position("p"), ledger.in_flight("p")) == (20, 1)
    assert ledger.position("p") == 20
    third.finished = True
    assert (ledger.position("p"), ledger.in_flight("p")) == (35, 0)
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


def test_in_work_is_what_was_begun_and_is_not_finished() -> None:
    ledger = Ledger()
    entries = [ledger.add(partition, 1) for partition in "pqr"]
    assert ledger.in_work() == 0
    for entry in entries[:2]:
        entry.begun = True
    assert ledger.in_work() == 2
    entries[0].finished = True
    assert ledger.in_work() == 1
    ledger.clear("q")
    assert ledger.in_work() == 0


def test_any_order_of_finishing() -> None:
    for seed in range(200):
        chance, ledger = random.Random(seed), Ledger()
        entries = [ledger.add("p", 10 * (i + 1)) for i in range(8)]
        order = list(range(8))
        chance.shuffle(order)
        done: set[int] = set()
        for i in order:
            entries[i].finished = True
            done.add(i)
            prefix = next((j for j in range(8) if j not in done), 8)
            if chance.random() < 0.5:  # whoever asks only now and then sees the same
                assert ledger.position("p") == (prefix * 10 or None)
        assert ledger.position("p") == 80


# Blocks: finished when every holder has let go.


def block(holders: int, finished: list[str]) -> Block:
    return Block("t", 0, Fetched(0, [], 10), holders, lambda: finished.append("finished"))


def test_a_block_is_finished_once_everybody_has_let_go() -> None:
    finished: list[str] = []
    one = block(2, finished)
    one.hold()
    one.release()
    one.release()
    assert not finished
    one.release()
    assert finished == ["finished"]


def test_a_block_that_nobody_wants_is_finished_at_once() -> None:
    finished: list[str] = []
    block(0, finished)
    assert finished == ["finished"]


def test_a_block_says_what_it_is() -> None:
    assert repr(block(1, [])) == "Block(t[0] 0..9)"


def test_what_readers_share_goes_with_the_last_of_them() -> None:
    finished: list[str] = []
    one = block(2, finished)
    one.shared["columns"] = [1]
    one.hold()  # a result is under way
    one.leave()
    assert one.shared
    one.leave()
    assert not one.shared
    assert finished == []
    one.release()
    assert finished == ["finished"]
