"""The dialect's frames, one by one, and whatever else may come."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.edge import codes, protocol
from streamproc.edge.protocol import FrameError, Hello, Ping, Publish, Subscribe, Unsubscribe, decode, encode


def test_each_frame_of_a_client() -> None:
    assert decode(b'{"op":"hello","client":"x"}') == Hello("x")
    assert decode(b'{"op":"subscribe","id":"1","ch":"c"}') == Subscribe("1", "c")
    assert decode(b'{"op":"unsubscribe","id":"1","sid":4}') == Unsubscribe("1", 4)
    assert decode(b'{"op":"ping","t":1.5}') == Ping(1.5)
    frame = decode(b' {"data" : {"a":[1, 2]} , "op":"publish","id":"1","topic":"t"}')
    assert isinstance(frame, Publish)
    assert bytes(frame.data) == b'{"a":[1, 2]}'  # type: ignore[arg-type]


def test_each_frame_of_the_server_omits_what_is_not_there() -> None:
    assert json.loads(encode(protocol.Ack([("a", 0, 7)]))) == {"op": "ack", "acks": [["a", 0, 7]]}
    assert json.loads(encode(protocol.Pong())) == {"op": "pong"}
    assert json.loads(encode(protocol.error_of(codes.BAD_REQUEST, "no"))) == {
        "op": "error",
        "code": 107,
        "message": "no",
        "temporary": False,
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
    with pytest.raises(FrameError) as refused:
        decode(data)
    error = refused.value.error
    assert (error.code, error.field, error.id, refused.value.op) == (code, field, id, op)
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
    error = None
    try:
        frame = decode(data)
    except FrameError as refused:
        error = refused.error
    if error is not None:
        told = json.loads(encode(error))
        assert told["temporary"] is codes.ERRORS[told["code"]].temporary
    else:
        assert all(getattr(frame, name) is msgspec.UNSET for name in frame.later)
