"""The dialect's frames, one by one, and whatever else may come."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.edge import codes, words
from streamproc.edge.dialects import NATIVE, Result
from streamproc.edge.limits import Limits
from streamproc.edge.words import ClientFrame, Event, FrameError, Hello, Ping, Publish, Subscribe, Unsubscribe

CODEC = NATIVE.codec(Limits())


def decode(data: bytes) -> ClientFrame | FrameError:
    (frame,) = CODEC.decode(data)
    return frame


def encode(frame: words.ServerFrame) -> bytes:
    return unframed(CODEC.encode(frame))


def unframed(framed: bytes) -> bytes:
    return framed[{126: 4, 127: 10}.get(framed[1], 2) :]


def test_each_frame_of_a_client() -> None:
    assert decode(b'{"op":"hello","client":"x"}') == Hello("x")
    assert decode(b'{"op":"subscribe","id":"1","ch":"c"}') == Subscribe("1", "c")
    assert decode(b'{"op":"unsubscribe","id":"1","sid":4}') == Unsubscribe("1", 4)
    assert decode(b'{"op":"ping","t":1.5}') == Ping(1.5)
    frame = decode(b' {"data" : {"a":[1, 2]} , "op":"publish","id":"1","topic":"t"}')
    assert isinstance(frame, Publish)
    (event,) = frame.events
    assert isinstance(event, Event)
    assert (frame.topic, frame.single, event.id, bytes(event.data)) == ("t", True, "1", b'{"a":[1, 2]}')


def test_a_bad_event_of_a_batch_leaves_its_neighbours() -> None:
    frame = decode(b'{"op":"publish","topic":"t","batch":[{"id":"a","data":1},{"id":5,"data":2},{"id":"c","data":3}]}')
    assert isinstance(frame, Publish)
    first, bad, last = frame.events
    assert isinstance(first, Event)
    assert isinstance(last, Event)
    assert isinstance(bad, FrameError)
    assert (bad.error.index, bad.error.field, bad.data) == (1, "id", b'{"id":5,"data":2}')


def test_a_batch_of_too_many_events_is_refused_whole_with_one_answer() -> None:
    refused = decode(b'{"op":"publish","topic":"t","batch":[%b]}' % b",".join([b"{}"] * 1001))
    assert isinstance(refused, FrameError)
    assert (refused.error.code, refused.error.field, refused.publishing) == (106, "batch", False)


def test_each_frame_of_the_server_omits_what_is_not_there() -> None:
    assert json.loads(encode(words.Ack([("a", 0, 7)]))) == {"op": "ack", "acks": [["a", 0, 7]]}
    assert json.loads(encode(words.Pong())) == {"op": "pong"}
    assert json.loads(encode(words.error_of(codes.BAD_REQUEST, "no"))) == {
        "op": "error",
        "code": 107,
        "message": "no",
        "temporary": False,
    }


def test_a_result_says_where_it_lies_and_what_caused_it() -> None:
    result = Result(2, 9, 123, b'k"\xff', b'{"x":1}', "e", True)
    told = {"k": 'k"\ufffd', "p": 2, "o": 9, "ts": 123, "d": {"x": 1}, "cid": "e"}
    assert json.loads(NATIVE.body(result)) == told
    assert json.loads(NATIVE.body(Result(0, 0, 0, None, b"null", None, True)))["cid"] is None
    assert "cid" not in json.loads(NATIVE.body(Result(0, 0, 0, None, b"{}")))
    framed = NATIVE.batch(4, 7, [NATIVE.body(result)] * 2, "here")
    assert json.loads(unframed(framed)) == {
        "op": "batch",
        "sid": 4,
        "seq": 7,
        "cursor": "here",
        "msgs": [told, told],
    }


@pytest.mark.parametrize(
    ("data", "code", "field", "id", "op"),
    [
        (b'{"op":"publish","id":7,"topic":"t"}', 107, "id", None, "publish"),
        (b'{"op":"publish","id":"x","topic":7}', 107, "topic", "x", "publish"),
        (b'{"op":"publish","id":"x"}', 107, "topic", "x", "publish"),
        (b'{"op":"publish","id":"' + b"x" * 129 + b'","topic":"t"}', 107, "id", None, "publish"),
        (b'{"op":"unsubscribe","id":"x","sid":"1"}', 107, "sid", "x", "unsubscribe"),
        (b'{"op":"subscribe","id":"x","ch":"c","credit":5}', 108, "credit", "x", "subscribe"),
        (b'{"op":"credit","id":"x"}', 104, "op", "x", "credit"),
        (b'{"op":5,"id":"x"}', 107, "op", "x", None),
        (b'{"op":"ping"} {"op":"ping"}', 107, None, None, None),
        (b'{"op":"ping"', 107, None, None, None),
        (b"", 107, None, None, None),
        (b"null", 107, None, None, None),
        (b'{"op":"ping","t":"\xff"}', 107, None, None, None),
        (b'{"op":"publish","data":' + b"[" * 60_000, 107, None, None, None),
    ],
)
def test_what_is_wrong_is_named(data: bytes, code: int, field: str | None, id: str | None, op: str | None) -> None:
    refused = decode(data)
    assert isinstance(refused, FrameError)
    error = refused.error
    assert (error.code, error.field, error.id, refused.op) == (code, field, id, op)
    assert error.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ops = st.sampled_from(["hello", "publish", "subscribe", "unsubscribe", "ping", "credit", "", 7])
names = st.sampled_from(
    ["op", "id", "topic", "data", "batch", "ch", "sid", "key", "ts", "filter", "from", "version", "t"]
)
almost = st.builds(
    lambda op, rest: {**rest, "op": op}, ops, st.dictionaries(names, json_values | st.text(max_size=3), max_size=5)
)


@given(almost.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_an_error_that_can_be_sent(data: bytes) -> None:
    frame = decode(data)
    if isinstance(frame, FrameError):
        told = json.loads(encode(frame.error))
        assert told["temporary"] is codes.ERRORS[told["code"]].temporary
    else:
        assert all(getattr(frame, name) is msgspec.UNSET for name in frame.later)
