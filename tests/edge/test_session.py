"""One connection's conversation, without a connection."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from streamproc.edge.dialects import NATIVE
from streamproc.edge.limits import Limits
from streamproc.edge.session import Refuse, Reply, Route, Session
from streamproc.edge.words import Publish, Welcome


def session(*edges: str) -> Session:
    return Session("s1", "n1", Limits(), edges or ("ingest", "egress"))


def hear(one: Session, data: bytes, now: int = 0) -> Reply | Route | Refuse:
    (frame,) = NATIVE.codec(Limits()).decode(data)
    return one.receive(frame, now)


def test_each_op_goes_to_its_edge() -> None:
    one = session()
    step = hear(one, b'{"op":"publish","id":"1","topic":"t","data":1}', 0)
    assert isinstance(step, Route)
    assert (step.edge, type(step.frame)) == ("ingest", Publish)
    for said in (b'{"op":"subscribe","id":"1","ch":"c"}', b'{"op":"unsubscribe","id":"1","sid":1}'):
        step = hear(one, said, 0)
        assert isinstance(step, Route)
        assert step.edge == "egress"


def test_hello_comes_first_or_not_at_all() -> None:
    one = session()
    step = hear(one, b'{"op":"hello","client":"c"}', 1234)
    assert isinstance(step, Reply)
    assert isinstance(step.frame, Welcome)
    assert (step.frame.session, step.frame.time, one.client) == ("s1", 1234, "c")
    assert isinstance(hear(one, b'{"op":"hello"}', 0), Refuse)
    late = session()
    hear(late, b'{"op":"ping"}', 0)
    assert isinstance(hear(late, b'{"op":"hello"}', 0), Refuse)


def test_a_refused_frame_does_not_open_the_session() -> None:
    one = session()
    assert isinstance(hear(one, b"nope", 0), Refuse)
    assert isinstance(hear(one, b'{"op":"hello"}', 0), Reply)


def test_only_what_may_be_an_event_is_worth_keeping() -> None:
    kept = [b"nope", b'{"id":"1"}', b'{"op":"publish","id":"1","topic":5}']
    dropped = [b'{"op":"zap"}', b'{"op":"subscribe","id":5}', b'{"op":"ping","x":1}', b'{"op":"hello","token":"t"}']
    for said in kept + dropped:
        step = hear(session(), said, 0)
        assert isinstance(step, Refuse)
        assert step.publishing is (said in kept)


def test_an_edge_that_is_not_there_is_an_unknown_op() -> None:
    step = hear(session("egress"), b'{"op":"publish","id":"1","topic":"t","data":1}', 0)
    assert isinstance(step, Refuse)
    assert (step.error.code, step.error.id) == (104, "1")


said = st.sampled_from(
    [
        {"op": "hello"},
        {"op": "ping"},
        {"op": "publish", "id": "1", "topic": "t"},
        {"op": "subscribe", "id": "1", "ch": "c"},
        {},
    ]
)


@given(st.lists(said, max_size=12))
def test_every_frame_gets_one_answer_or_one_edge_and_at_most_one_welcome(frames: list[dict[str, str]]) -> None:
    one = session()
    steps = [hear(one, json.dumps(frame).encode(), 0) for frame in frames]
    assert all(isinstance(step, Reply | Route | Refuse) for step in steps)
    assert sum(isinstance(step, Reply) and isinstance(step.frame, Welcome) for step in steps) <= 1
