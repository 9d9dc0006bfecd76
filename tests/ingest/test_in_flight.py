"""What is on its way, and what is told when it has arrived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.edge.words import Ack, Error
from streamproc.errors import BrokerUnavailable, TopicError
from streamproc.log.ports import Delivery
from streamproc_ingest.parse import Outgoing
from streamproc_ingest.session import ACKS, InFlight


def event(id: str, size: int = 10) -> Outgoing:
    return Outgoing(id, None, "t", None, b"x" * size)


def test_one_event_always_has_room() -> None:
    flight = InFlight(100)
    assert flight.room(5000)
    flight.sent(event("a", 5000))
    assert not flight.room(1)


def test_a_refusal_is_temporary_only_when_the_log_was_away() -> None:
    flight = InFlight(100)
    for id, error in (("a", BrokerUnavailable("away")), ("b", TopicError("none"))):
        flight.sent(event(id))
        flight.settled(event(id), Delivery(-1, -1, error))
    told = flight.take()
    assert [(e.id, e.code, e.temporary) for e in told if isinstance(e, Error)] == [("a", 200, True), ("b", 201, False)]
    assert flight.take() == []


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=600), st.integers(1, 50))
def test_every_event_is_told_of_once_in_order_and_the_bound_holds(
    events: list[tuple[int, bool]], round_size: int
) -> None:
    flight, waiting, told = InFlight(100), [], []

    def settle() -> None:
        for one, good in waiting:
            flight.settled(one, Delivery(0, int(one.id), None if good else BrokerUnavailable("away")))
        waiting.clear()
        for frame in flight.take():
            if isinstance(frame, Ack):
                assert 0 < len(frame.acks) <= ACKS
                told.extend((id, offset == int(id)) for id, _, offset in frame.acks)
            else:
                assert isinstance(frame, Error)
                told.append((frame.id, False))

    for n, (size, good) in enumerate(events):
        if not flight.room(size) or len(waiting) >= round_size:
            settle()
        assert flight.room(size)
        flight.sent(event(str(n), size))
        waiting.append((event(str(n), size), good))
        assert flight.bytes <= 100
    settle()
    assert flight.bytes == 0
    assert sorted(told) == sorted((str(n), good) for n, (_, good) in enumerate(events))
    acked = [int(str(id)) for id, good in told if good]
    assert acked == sorted(acked)
